"""A phone as in a browser: SIP in WebSocket messages over TLS (RFC 7118)."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp

from cti.sip.authentication.client_auth import authorized_again
from cti.sip.authentication.digest import Credentials
from cti.sip.messages.message import Request, Response, parse_message, response_to

_ANSWER = b"""v=0\r
o=- 1 1 IN IP4 127.0.0.1\r
s=-\r
c=IN IP4 127.0.0.1\r
t=0 0\r
m=audio 39998 RTP/AVP 8\r
a=rtpmap:8 PCMA/8000\r
"""


class WebPhone:
    """One phone on one connection, which is the only way to it."""

    def __init__(self, user: str, domain: str, password: str) -> None:
        self.received: list[str] = []
        """Every message that came."""
        self._user = user
        self._address = f"sip:{user}@{domain}"
        self._domain = domain
        self._credentials = Credentials(user, password)
        # RFC 7118 5.2: a browser does not know its address.
        self._host = f"{os.urandom(6).hex()}.invalid"
        self._requests: asyncio.Queue[Request] = asyncio.Queue()
        self._responses: asyncio.Queue[Response] = asyncio.Queue()
        self._cseq = 0
        self._leaving = AsyncExitStack()
        self._socket: aiohttp.ClientWebSocketResponse
        self._reader: asyncio.Task[None]

    async def connect(self, port: int, authority: Path) -> None:
        """Open the connection."""
        client = await self._leaving.enter_async_context(aiohttp.ClientSession())
        trust = ssl.create_default_context(cafile=authority)
        url = f"wss://localhost:{port}/"
        self._socket = await client.ws_connect(url, protocols=["sip"], ssl=trust)
        assert self._socket.protocol == "sip"
        self._leaving.push_async_callback(self._socket.close)
        self._reader = asyncio.create_task(self._read())

    async def aclose(self) -> None:
        """Hang up the connection, not the calls."""
        await self._leaving.aclose()

    async def register(self) -> Response:
        """Register, with credentials when asked for them; return the final response."""
        request = self._request("REGISTER", f"sip:{self._domain}", f"<{self._address}>")
        request.headers.set("Contact", f"{self._contact};expires=120")
        response = await self._final(request)
        self._cseq += 1
        again = authorized_again(request, response, self._credentials, cseq=self._cseq)
        assert again is not None, response.status
        self._stamp(again)
        return await self._final(again)

    async def take_call(self, timeout_s: float) -> Request:
        """Ring, answer, and wait for the ACK; return the INVITE."""
        async with asyncio.timeout(timeout_s):
            invite = await self._next("INVITE")
            await self._respond(invite, 180)
            await self._respond(invite, 200, _ANSWER)
            await self._next("ACK")
        return invite

    async def hang_up(self, invite: Request) -> Response:
        """End the call that the INVITE began."""
        (contact,) = invite.headers.get_all("Contact")
        target = contact.partition("<")[2].partition(">")[0]
        bye = self._request("BYE", target, invite.headers.get("From") or "")
        bye.headers.set("From", f"{invite.headers.get('To')};tag=web")
        bye.headers.set("Call-ID", invite.call_id)
        for route in invite.headers.rows("Record-Route"):
            bye.headers.add("Route", route)
        return await self._final(bye)

    @property
    def _contact(self) -> str:
        return f"<sip:{self._user}@{self._host};transport=ws>"

    def _request(self, method: str, uri: str, to: str) -> Request:
        self._cseq += 1
        headers = [
            ("Max-Forwards", "70"),
            ("From", f"<{self._address}>;tag=web"),
            ("To", to),
            ("Call-ID", os.urandom(8).hex()),
            ("CSeq", f"{self._cseq} {method}"),
        ]
        request = Request(method, uri, headers)
        self._stamp(request)
        return request

    def _stamp(self, request: Request) -> None:
        branch = f"z9hG4bK{os.urandom(8).hex()}"
        request.headers.set("Via", f"SIP/2.0/WSS {self._host};branch={branch}")

    async def _final(self, request: Request) -> Response:
        await self._send(request)
        async with asyncio.timeout(5):
            while True:
                response = await self._responses.get()
                if response.status >= 200 and response.cseq == request.cseq:
                    return response

    async def _next(self, method: str) -> Request:
        while True:
            request = await self._requests.get()
            if request.method == method:
                return request

    async def _respond(self, request: Request, status: int, sdp: bytes = b"") -> None:
        headers: Iterable[tuple[str, str]] = (
            *(("Record-Route", row) for row in request.headers.rows("Record-Route")),
            ("Contact", self._contact),
        )
        kind = "application/sdp" if sdp else None
        await self._send(
            response_to(request, status, to_tag="web", headers=headers, body=sdp, content_type=kind)
        )

    async def _send(self, message: Request | Response) -> None:
        await self._socket.send_str(message.to_bytes().decode())

    async def _read(self) -> None:
        async for frame in self._socket:
            data = frame.data if isinstance(frame.data, bytes) else str(frame.data).encode()
            if not data.strip():
                continue  # a keep-alive (RFC 7118 6)
            self.received.append(data.decode())
            message = parse_message(data)
            if isinstance(message, Response):
                self._responses.put_nowait(message)
            elif message.method == "BYE":
                await self._send(response_to(message, 200))
            else:
                self._requests.put_nowait(message)
