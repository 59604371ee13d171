"""A whole user agent without a network, for messages to be tortured with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cti.sip.authentication.digest import Credentials, DigestServer, authorization, ha1
from cti.sip.authentication.phone_auth import PhoneAccount, PhoneAuthenticator
from cti.sip.messages.message import Malformed, Request, Response
from cti.sip.registration.registrar import Registrar
from cti.sip.sessions.session import InviteSession
from cti.sip.user_agent import UserAgent
from domain.ids import TenantId
from loadtest.memory_endpoint import MemoryEndpoint
from tests.fakes.contact_store import MemoryContactStore

WIRE = Path(__file__).parent / "wire"
WAIT_S = 5.0
_REALM = "example.com"
_PASSWORD = "torture"
_ANSWER = b"v=0\r\no=- 1 1 IN IP4 192.0.2.95\r\ns=-\r\n"

Message = Request | Response
Check = Callable[[Message], bool]


@dataclass(frozen=True)
class Case:
    """What must become of a message.

    `status` is what a client gets, None for nothing at all. `fault` is set when the parser refuses
    it; else the user agent decides, and `checks` hold on the parsed message.
    """

    section: str
    status: int | None
    fault: Malformed | None = None
    checks: tuple[Check, ...] = ()
    registered: int | None = None
    """What the registrar says once it knows who asks."""


class _Directory:
    """Everybody has a phone."""

    def find(self, user: str, domain: str) -> PhoneAccount | None:
        stored = {"MD5": ha1("MD5", user, _REALM, _PASSWORD)}
        return PhoneAccount(TenantId(domain), user, stored)


class Stack:
    """Answers all calls; keeps what it sends."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[bytes] = asyncio.Queue()
        self.calls: list[InviteSession] = []
        self.store = MemoryContactStore()
        self.endpoint = MemoryEndpoint(lambda data, _hop: self.sent.put_nowait(data))
        digest = DigestServer(_REALM)
        self.registrar = Registrar(
            authenticator=PhoneAuthenticator(_Directory(), digest), store=self.store
        )
        self.agent = UserAgent(self.endpoint, on_invite=self._answer, registrar=self.registrar)

    def _answer(self, session: InviteSession) -> None:
        self.calls.append(session)
        session.accept(_ANSWER)

    async def answer_to(self, data: bytes) -> Response:
        """Take a datagram; return what it is answered."""
        self.endpoint.take_datagram(data, "198.51.100.7", 5060)
        return read_response(await asyncio.wait_for(self.sent.get(), WAIT_S))

    async def answer_to_signed(self, request: Request) -> Response:
        """Take a request with the credentials of its user."""
        challenge = await self.answer_to(_again(request, 1).to_bytes())
        assert challenge.status == 401
        user = request.to.uri
        assert not isinstance(user, str)
        value = authorization(
            challenge.headers.get_all("WWW-Authenticate"),
            method=request.method,
            uri=request.uri,
            credentials=Credentials(user.user, _PASSWORD),
        )
        assert value is not None
        signed = _again(request, 2)
        signed.headers.set("Authorization", value)
        return await self.answer_to(signed.to_bytes())

    async def aclose(self) -> None:
        await self.agent.aclose()
        await self.endpoint.aclose()


def read_response(data: bytes) -> Response:
    """Read a response, also one that echoes what no parser would take."""
    start_line, *lines = data.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    _, status, reason = start_line.split(" ", 2)
    rows = [line.partition(": ") for line in lines]
    return Response(int(status), reason, [(name, value) for name, _, value in rows])


def _again(request: Request, number: int) -> Request:
    again = request.copy()
    via = again.top_via
    again.replace_top_via(via.with_params(branch=f"{via.branch}-{number}"))
    again.headers.set("CSeq", f"{request.cseq[0] + number} {request.method}")
    return again
