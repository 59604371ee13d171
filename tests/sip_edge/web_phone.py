"""A phone as in a browser: SIP over aiohttp's WebSocket, every message written here (RFC 7118)."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Iterable
from contextlib import AsyncExitStack

import aiohttp

from cti.sip.authentication.client_auth import authorized_again
from cti.sip.authentication.digest import Credentials
from cti.sip.messages.message import Request, Response, parse_message, response_to
from cti.sip.transports.transport import Hop
from tests.sip_session.peer import PATIENCE_S

_SDP = "application/sdp"


class WebCall:
    """What the phone knows of one dialog."""

    def __init__(self, call_id: str, local: str, remote: str, target: str) -> None:
        self.call_id = call_id
        self.local = local
        self.remote = remote
        self.target = target
        self.routes: list[str] = []
        self.is_known = False
        self.invite: Request
        self.answer: Response

    def learn(self, message: Request | Response) -> None:
        """Take the Contact, and from what begins the dialog the route set (RFC 3261 12.1)."""
        contact = message.headers.get("Contact") or ""
        self.target = contact.partition("<")[2].partition(">")[0]
        if not self.is_known:
            self.is_known = True
            routes = message.headers.get_all("Record-Route")
            self.routes = routes if isinstance(message, Request) else routes[::-1]


class WebPhone:
    """One phone on one connection, which is the only way to it."""

    def __init__(self, user: str, domain: str, password: str) -> None:
        self.address = f"sip:{user}@{domain}"
        # RFC 7118 5: a browser does not know its address; URIs say ws under TLS too.
        self.host = f"{os.urandom(6).hex()}.invalid"
        self.contact = f"<sip:{user}@{self.host};transport=ws>"
        self.node = Hop("ws", "127.0.0.1", 0)
        self._domain = domain
        self._credentials = Credentials(user, password)
        self._inbox: asyncio.Queue[Request | Response] = asyncio.Queue()
        self._cseq = 0
        self._leaving = AsyncExitStack()
        self._socket: aiohttp.ClientWebSocketResponse
        self._reader: asyncio.Task[None]

    async def connect(self, node: Hop, trust: ssl.SSLContext | None = None) -> None:
        self.node = node
        client = await self._leaving.enter_async_context(aiohttp.ClientSession())
        self._socket = await client.ws_connect(
            f"{node.transport}://{node.host}:{node.port}/", protocols=["sip"], ssl=trust or True
        )
        self._leaving.push_async_callback(self._socket.close)
        self._reader = asyncio.create_task(self._read())

    async def aclose(self) -> None:
        await self._leaving.aclose()

    # Requests

    async def register(self) -> Response:
        request = self._request("REGISTER", f"sip:{self._domain}", to=f"<{self.address}>")
        request.headers.set("Contact", f"{self.contact};expires=120")
        await self.send(request)
        response = await self._expect_either(request, 200)
        assert response.status == 200, response.reason
        return response

    async def dial(self, number: str, sdp: bytes) -> WebCall:
        """Call, with credentials when asked for them; what comes of it is to be expected."""
        uri = f"sip:{number}@{self._domain}"
        request = self._request("INVITE", uri, to=f"<{uri}>", sdp=sdp)
        request.headers.set("Contact", self.contact)
        await self.send(request)
        challenge = await self.expect_status(401)
        await self._acknowledge_refusal(request, challenge)
        again = self._with_credentials(request, challenge)
        await self.send(again)
        call = WebCall(again.call_id, again.headers.get("From") or "", f"<{uri}>", uri)
        call.invite = again
        return call

    async def answered(self, call: WebCall) -> Response:
        """Wait for the 200 of the last INVITE and acknowledge it."""
        while (response := await self._expect_response()).status < 200:
            pass
        assert response.status == 200, response.status
        call.answer = response
        call.remote = response.headers.get("To") or ""
        call.learn(response)
        cseq, _ = call.invite.cseq
        await self.send(self._in_dialog(call, "ACK", cseq=cseq))
        return response

    async def reinvite(self, call: WebCall, sdp: bytes) -> Response:
        call.invite = self._in_dialog(call, "INVITE", sdp=sdp)
        call.invite.headers.set("Contact", self.contact)
        await self.send(call.invite)
        return await self.answered(call)

    async def cancel(self, call: WebCall) -> None:
        """Give the INVITE up, and acknowledge the 487."""
        cancel = self._request(
            "CANCEL", call.invite.uri, to=call.remote, cseq=call.invite.cseq[0], call=call
        )
        cancel.headers.set("Via", str(call.invite.top_via))
        await self.send(cancel)
        statuses: dict[str, int] = {}
        while len(statuses) < 2:
            response = await self._expect_response()
            if response.status >= 200:
                statuses[response.cseq[1]] = response.status
                if response.cseq[1] == "INVITE":
                    await self._acknowledge_refusal(call.invite, response)
        assert statuses == {"CANCEL": 200, "INVITE": 487}

    async def hang_up(self, call: WebCall) -> None:
        await self.send(self._in_dialog(call, "BYE"))
        assert (await self.expect_status(200)).cseq[1] == "BYE"

    # Being called

    async def rung(self) -> WebCall:
        """Wait for a call, and ring."""
        invite = await self.expect("INVITE")
        local = f"{invite.headers.get('To')};tag=web"
        call = WebCall(invite.call_id, local, invite.headers.get("From") or "", "")
        call.invite = invite
        call.learn(invite)
        await self.respond(invite, 180)
        return call

    async def accept(self, call: WebCall, sdp: bytes) -> None:
        await self.respond(call.invite, 200, sdp)
        await self.expect("ACK")

    async def respond(self, request: Request, status: int, sdp: bytes = b"") -> None:
        headers: Iterable[tuple[str, str]] = (
            *(("Record-Route", row) for row in request.headers.rows("Record-Route")),
            ("Contact", self.contact),
        )
        await self.send(
            response_to(
                request,
                status,
                to_tag="web",
                headers=headers,
                body=sdp,
                content_type=_SDP if sdp else None,
            )
        )

    # Messages

    async def send(self, message: Request | Response) -> None:
        await self._socket.send_str(message.to_bytes().decode())

    async def next(self) -> Request | Response:
        return await asyncio.wait_for(self._inbox.get(), PATIENCE_S)

    async def expect(self, method: str) -> Request:
        message = await self.next()
        assert isinstance(message, Request), message
        assert message.method == method
        return message

    async def expect_status(self, status: int) -> Response:
        response = await self._expect_response()
        assert response.status == status
        return response

    async def _expect_response(self) -> Response:
        message = await self.next()
        assert isinstance(message, Response), message
        return message

    async def _expect_either(self, request: Request, status: int) -> Response:
        """Return the response to a request, with credentials where they are asked for."""
        response = await self._expect_response()
        if response.status != 401:
            return response
        await self.send(self._with_credentials(request, response))
        return await self.expect_status(status)

    def _with_credentials(self, request: Request, challenge: Response) -> Request:
        self._cseq += 1
        again = authorized_again(request, challenge, self._credentials, cseq=self._cseq)
        assert again is not None
        self._stamp(again)
        return again

    async def _acknowledge_refusal(self, invite: Request, response: Response) -> None:
        ack = Request("ACK", invite.uri, [])
        for name in ("Via", "From", "Call-ID", "Max-Forwards"):
            ack.headers.set(name, invite.headers.get(name) or "")
        ack.headers.set("To", response.headers.get("To") or "")
        ack.headers.set("CSeq", f"{invite.cseq[0]} ACK")
        await self.send(ack)

    def _in_dialog(
        self, call: WebCall, method: str, *, cseq: int | None = None, sdp: bytes = b""
    ) -> Request:
        request = self._request(method, call.target, to=call.remote, cseq=cseq, sdp=sdp, call=call)
        for route in call.routes:
            request.headers.add("Route", route)
        return request

    def _request(
        self,
        method: str,
        uri: str,
        *,
        to: str,
        cseq: int | None = None,
        sdp: bytes = b"",
        call: WebCall | None = None,
    ) -> Request:
        if cseq is None:
            self._cseq += 1
            cseq = self._cseq
        headers = [
            ("Max-Forwards", "70"),
            ("From", call.local if call else f"<{self.address}>;tag=web"),
            ("To", to),
            ("Call-ID", call.call_id if call else os.urandom(8).hex()),
            ("CSeq", f"{cseq} {method}"),
        ]
        request = Request(method, uri, headers, sdp)
        if sdp:
            request.headers.set("Content-Type", _SDP)
        self._stamp(request)
        return request

    def _stamp(self, request: Request) -> None:
        branch = f"z9hG4bK{os.urandom(8).hex()}"
        via = f"SIP/2.0/{self.node.transport.upper()} {self.host};branch={branch}"
        request.headers.set("Via", via)

    async def _read(self) -> None:
        async for frame in self._socket:
            data = frame.data if isinstance(frame.data, bytes) else str(frame.data).encode()
            message = parse_message(data)
            if isinstance(message, Response) and message.status == 100:
                continue
            self._inbox.put_nowait(message)
