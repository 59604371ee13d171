"""A peer at the far end of a UDP socket whose every message the test writes itself."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable

from cti.sip.messages.message import Request, Response, parse_message, response_to
from cti.sip.transactions.timers import Timers

FAST = Timers(t1_s=0.02, t2_s=0.08, t4_s=0.05, trying_s=0.2)
PATIENCE_S = 5.0
OFFER = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\n"
ANSWER = b"v=0\r\no=- 2 1 IN IP4 127.0.0.1\r\ns=-\r\n"

_numbers = itertools.count(1)


def patience_s() -> float:
    """Return how long to wait for what must come: longer on a clock that jumps."""
    return float(getattr(asyncio.get_running_loop(), "patience_s", PATIENCE_S))


class RawPeer(asyncio.DatagramProtocol):
    """Sends and takes single messages; retransmissions it has seen are left out."""

    def __init__(self, remote: tuple[str, int]) -> None:
        self.remote = remote
        self.inbox: asyncio.Queue[Request | Response] = asyncio.Queue()
        self.seen: list[bytes] = []
        self.arrived = asyncio.Event()
        self.call_id = f"raw-{next(_numbers)}"
        self.tag = f"tag-{next(_numbers)}"
        self.remote_to = ""
        self.cseq = itertools.count(1)
        self.host, self.port = "127.0.0.1", 0
        self.transport: asyncio.DatagramTransport

    @classmethod
    async def create(cls, remote: tuple[str, int]) -> RawPeer:
        loop = asyncio.get_running_loop()
        transport, peer = await loop.create_datagram_endpoint(
            lambda: cls(remote), local_addr=("127.0.0.1", 0)
        )
        peer.transport = transport
        peer.host, peer.port = transport.get_extra_info("sockname")[:2]
        return peer

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.seen.append(data)
        self.arrived.set()
        if self.seen.count(data) == 1:
            message = parse_message(data)
            if isinstance(message, Response) and message.status == 100:
                return
            self.inbox.put_nowait(message)

    def send(self, message: Request | Response) -> None:
        self.transport.sendto(message.to_bytes(), self.remote)

    @property
    def contact(self) -> str:
        return f"<sip:raw@{self.host}:{self.port}>"

    def request(
        self,
        method: str,
        *,
        cseq: int | None = None,
        uri: str = "sip:95598@127.0.0.1",
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        content_type: str = "application/sdp",
    ) -> Request:
        number = next(self.cseq) if cseq is None else cseq
        request = Request(
            method,
            uri,
            [
                ("Via", f"SIP/2.0/UDP {self.host}:{self.port};branch=z9hG4bK{next(_numbers)}"),
                ("Max-Forwards", "70"),
                ("From", f"<sip:13800000000@127.0.0.1>;tag={self.tag}"),
                ("To", self.remote_to or "<sip:95598@127.0.0.1>"),
                ("Call-ID", self.call_id),
                ("CSeq", f"{number} {method}"),
            ],
            body,
        )
        if method in {"INVITE", "REGISTER", "NOTIFY"}:
            request.headers.set("Contact", self.contact)
        if body:
            request.headers.set("Content-Type", content_type)
        for name, value in headers:
            request.headers.set(name, value)
        return request

    def ask(self, method: str, **options: object) -> Request:
        request = self.request(method, **options)  # type: ignore[arg-type]
        self.send(request)
        return request

    def ack(self, response: Response, body: bytes = b"") -> None:
        self.remote_to = str(response.to)
        self.send(self.request("ACK", cseq=response.cseq[0], body=body))

    def follow(self, invite: Request, method: str) -> None:
        """Send a CANCEL, or the ACK of a refusal."""
        request = self.request(method, cseq=invite.cseq[0])
        request.headers.set("Via", invite.headers.get("Via") or "")
        self.send(request)

    def reply(
        self,
        request: Request,
        status: int,
        *,
        tag: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
    ) -> None:
        extra = [("Contact", self.contact)] if "Contact" not in dict(headers) else []
        self.send(
            response_to(
                request,
                status,
                to_tag=tag or self.tag,
                headers=[*extra, *headers],
                body=body,
                content_type="application/sdp" if body else None,
            )
        )

    async def next(self) -> Request | Response:
        return await asyncio.wait_for(self.inbox.get(), patience_s())

    async def expect(self, method: str) -> Request:
        message = await self.next()
        assert isinstance(message, Request), message
        assert message.method == method
        return message

    async def expect_status(self, status: int) -> Response:
        message = await self.next()
        assert isinstance(message, Response), message
        assert message.status == status, (message.status, message.reason)
        return message

    async def call(self, **options: object) -> tuple[Request, Response]:
        """Call, take the 200 and acknowledge it."""
        invite = self.ask("INVITE", body=OFFER, **options)
        response = await self.expect_status(200)
        self.ack(response)
        return invite, response

    async def saw(self, start: bytes, *, times: int) -> None:
        """Wait until messages that start like this came so often, retransmissions included."""
        async with asyncio.timeout(patience_s()):
            while self.times_seen(start) < times:
                self.arrived.clear()
                await self.arrived.wait()

    def times_seen(self, start: bytes) -> int:
        return sum(1 for each in self.seen if each.startswith(start))

    def close(self) -> None:
        self.transport.close()
