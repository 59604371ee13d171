"""Trunks over TCP and TLS: whatever their connections meet, a call goes to the next in time.

The sockets are real, the time is that of the platform's timers: no busy machine makes it longer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cti.sip.endpoint import SipEndpoint
from cti.sip.messages.message import Request, parse_message, response_to
from cti.sip.transactions.timers import Timers
from cti.sip.transports.tls_files import Tls
from cti.sip.user_agent import UserAgent
from demo.ports import free_port
from domain.failures import Code
from tests.sip_core.certificates import Authority
from tests.sip_core.jumping import play
from tests.sip_session.peer import FAST
from tests.trunks.conftest import Carrier, Platform, trunk
from tests.trunks.test_operation import call

ANSWER_WITHIN_S = 0.5
PROGRESS_WITHIN_S = 0.6
SWITCHING_S = 0.1  # of the clock that jumps: no work of the machine is in it

Server = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@asynccontextmanager
async def platform_of(authority: Authority) -> AsyncIterator[Platform]:
    platform = Platform()
    tls = authority.tls("127.0.0.1")
    platform.endpoint = SipEndpoint(user_agent="test", timers=Timers(t1_s=0.05), tls=tls)
    platform.agent = UserAgent(platform.endpoint, on_invite=platform.incoming.put_nowait)
    for transport in ("tcp", "tls"):
        await platform.endpoint.listen(transport, "127.0.0.1", 0)
    try:
        yield platform
    finally:
        await platform.stop()


class StreamCarrier(Carrier):
    """A carrier that answers over TCP or TLS."""

    async def listen(self, transport: str, tls: Tls | None = None) -> None:
        endpoint = SipEndpoint(user_agent="carrier", timers=FAST, tls=tls)
        self.agent = UserAgent(endpoint, on_invite=self._on_invite)
        self.address = await endpoint.listen(transport, "127.0.0.1", 0)
        self.transport = transport

    @property
    def server(self) -> str:
        return f"{super().server};transport={self.transport}"


async def says_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.transport.abort()


async def tries_and_hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    # The response might yet come over a new connection (RFC 3261 18.2.2).
    request = parse_message(await reader.read(65_535))
    assert isinstance(request, Request)
    writer.write(response_to(request, 100).to_bytes())
    await writer.drain()
    writer.transport.abort()


async def fails_over(
    platform: Platform, first: str, second: StreamCarrier, within_s: float = ANSWER_WITHIN_S
) -> None:
    """Place a call that the first server fails, and see that the second gets it in time."""
    await platform.start(
        trunk(
            "one",
            first,
            probe={"interval_s": 0},
            answer_within_s=ANSWER_WITHIN_S,
            progress_within_s=PROGRESS_WITHIN_S,
        ),
        trunk("two", second.server, priority=2, probe={"interval_s": 0}),
    )
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await call(platform) == (Code.FLOW_ENDED, ["one", "two"])
    assert loop.time() - began < within_s + SWITCHING_S
    assert platform.trunks.outbound.calls == 0
    await second.stop()


@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_a_refused_connection(authority: Authority, transport: str) -> None:
    async def scenario() -> None:
        async with platform_of(authority) as platform:
            second = StreamCarrier()
            await second.listen(transport, authority.tls("127.0.0.1"))
            await fails_over(platform, f"sip:127.0.0.1:{free_port()};transport={transport}", second)

    play(scenario)


@pytest.mark.parametrize("transport", ["tcp", "tls"])
@pytest.mark.parametrize(
    ("carrier", "within_s"),
    [
        (says_nothing, ANSWER_WITHIN_S),
        (hangs_up, ANSWER_WITHIN_S),
        (tries_and_hangs_up, PROGRESS_WITHIN_S),
    ],
)
def test_a_connection_that_dies_or_says_nothing(
    authority: Authority, transport: str, carrier: Server, within_s: float
) -> None:
    async def scenario() -> None:
        async with platform_of(authority) as platform:
            second = StreamCarrier()
            await second.listen(transport, authority.tls("127.0.0.1"))
            context = authority.tls("127.0.0.1").server if transport == "tls" else None
            server = await asyncio.start_server(carrier, "127.0.0.1", 0, ssl=context)
            port = server.sockets[0].getsockname()[1]
            first = f"sip:127.0.0.1:{port};transport={transport}"
            await fails_over(platform, first, second, within_s)
            server.close()

    play(scenario)


@pytest.mark.parametrize("carrier", [says_nothing, hangs_up])
def test_a_handshake_that_leads_nowhere(authority: Authority, carrier: Server) -> None:
    async def scenario() -> None:
        async with platform_of(authority) as platform:
            second = StreamCarrier()
            await second.listen("tls", authority.tls("127.0.0.1"))
            server = await asyncio.start_server(carrier, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            await fails_over(platform, f"sip:127.0.0.1:{port};transport=tls", second)
            server.close()

    play(scenario)


@pytest.mark.parametrize("fault", ["name", "authority", "expired"])
def test_a_certificate_that_proves_nothing(
    authority: Authority, fault: str, tmp_path: Path
) -> None:
    async def scenario() -> None:
        issuer = Authority(tmp_path) if fault == "authority" else authority
        name = "other.test" if fault == "name" else "127.0.0.1"
        async with platform_of(authority) as platform:
            first, second = StreamCarrier(), StreamCarrier()
            await first.listen("tls", issuer.tls(name, expired=fault == "expired"))
            await second.listen("tls", authority.tls("127.0.0.1"))
            await fails_over(platform, first.server, second)
            assert not first.sessions
            await first.stop()

    play(scenario)
