"""Endpoints and peers that are closed after each test."""

from collections.abc import AsyncIterator, Iterator, Sequence

import pytest
import pytest_asyncio

from cti.settings import IpNetwork
from cti.sip.endpoint import SipEndpoint
from cti.sip.transactions.timers import Timers
from cti.sip.transports.tls_files import Tls
from cti.sip.transports.transport import SECURE, ConnectionLimits, Hop, TransportName
from tests.sip_core.certificates import Authority
from tests.sip_core.network import Make, Peer


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def own_tls(authority: Authority) -> Tls:
    """What a node on loopback shows, and trusts."""
    return authority.tls("127.0.0.1", "::1")


@pytest_asyncio.fixture
async def make(own_tls: Tls) -> AsyncIterator[Make]:
    endpoints: list[SipEndpoint] = []

    async def build(
        transport: TransportName = "udp",
        host: str = "127.0.0.1",
        *,
        timers: Timers | None = None,
        limits: ConnectionLimits | None = None,
        max_transactions: int = 1000,
        trusted_proxies: Sequence[IpNetwork] = (),
        tls: Tls | None = None,
        web_origins: Sequence[str] = (),
    ) -> tuple[SipEndpoint, Hop]:
        endpoint = SipEndpoint(
            user_agent="test",
            timers=timers,
            limits=limits,
            max_transactions=max_transactions,
            trusted_proxies=trusted_proxies,
            tls=tls or (own_tls if transport in SECURE else None),
            web_origins=web_origins,
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
