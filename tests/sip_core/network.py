"""Both ends of a test call: endpoints, a bare UDP peer, and what a client hears."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

from prometheus_client import REGISTRY

from cti.sip.endpoint import ClientTransaction, ServerTransaction, SipEndpoint
from cti.sip.messages.message import Request, Response, parse_message
from cti.sip.transactions.timers import Timers
from cti.sip.transports.transport import Hop
from domain.failures import Code
from tests.sip_core.messages import answer

WAIT_S = 5.0
QUICK = Timers(t1_s=0.005, t2_s=0.02, t4_s=0.03)

Make = Callable[..., Awaitable[tuple[SipEndpoint, Hop]]]


class Outcome:
    """What a client transaction reports, to be waited for."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Response | Code] = asyncio.Queue()

    def start(self, endpoint: SipEndpoint, message: Request, hop: Hop) -> ClientTransaction:
        return endpoint.send_request(
            message, hop, on_response=self.queue.put_nowait, on_failure=self.queue.put_nowait
        )

    async def next(self) -> Response | Code:
        return await asyncio.wait_for(self.queue.get(), WAIT_S)

    async def status(self) -> int:
        response = await self.next()
        assert isinstance(response, Response), response
        return response.status


class Peer:
    """A UDP socket without a stack."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.port: int = self.socket.getsockname()[1]

    def send(self, message: Request | Response | bytes, hop: Hop) -> None:
        data = message if isinstance(message, bytes) else message.to_bytes()
        self.socket.sendto(data, (hop.host, hop.port))

    async def receive(self) -> bytes:
        loop = asyncio.get_running_loop()
        return await asyncio.wait_for(loop.sock_recv(self.socket, 65_535), WAIT_S)

    async def response(self) -> Response:
        message = parse_message(await self.receive())
        assert isinstance(message, Response)
        return message

    async def request(self) -> Request:
        message = parse_message(await self.receive())
        assert isinstance(message, Request)
        return message


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def accept_all(endpoint: SipEndpoint, status: int = 200) -> asyncio.Queue[ServerTransaction]:
    seen: asyncio.Queue[ServerTransaction] = asyncio.Queue()

    def on_request(transaction: ServerTransaction) -> None:
        seen.put_nowait(transaction)
        transaction.respond(answer(transaction.request, status))

    endpoint.on_request = on_request
    return seen
