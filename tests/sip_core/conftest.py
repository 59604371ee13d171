"""Endpoints and peers that are closed after each test."""

from collections.abc import AsyncIterator, Iterator, Sequence

import pytest
import pytest_asyncio

from cti.settings import IpNetwork
from cti.sip.endpoint import SipEndpoint
from cti.sip.timers import Timers
from cti.sip.transport import ConnectionLimits, Hop, TransportName
from tests.sip_core.network import Make, Peer


@pytest_asyncio.fixture
async def make() -> AsyncIterator[Make]:
    endpoints: list[SipEndpoint] = []

    async def build(
        transport: TransportName = "udp",
        host: str = "127.0.0.1",
        *,
        timers: Timers | None = None,
        limits: ConnectionLimits | None = None,
        max_transactions: int = 1000,
        trusted_proxies: Sequence[IpNetwork] = (),
    ) -> tuple[SipEndpoint, Hop]:
        endpoint = SipEndpoint(
            user_agent="test",
            timers=timers,
            limits=limits,
            max_transactions=max_transactions,
            trusted_proxies=trusted_proxies,
        )
        endpoints.append(endpoint)
        return endpoint, Hop(transport, *await endpoint.listen(transport, host, 0))

    yield build
    for endpoint in endpoints:
        await endpoint.aclose()


@pytest.fixture
def peer() -> Iterator[Peer]:
    built = Peer()
    yield built
    built.socket.close()
