"""Where other nodes are told to reach this one."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from cti.settings import SipSettings
from cti.shared.contacts import RedisContactStore
from cti.sip.endpoint import SipEndpoint
from cti.sip.registration.registrar import RegistrarEvents
from cti.sip.transports.transport import Hop
from domain.ids import NodeId
from domain.redis_line import RedisLine
from node.registration import Registration
from tests.routing.conftest import redis, redis_process  # noqa: F401 - fixtures
from tests.sip_session.phones import Directory

pytestmark = pytest.mark.stores


@pytest.mark.parametrize(
    ("listen", "advertised", "expected"),
    [
        ([("udp", "127.0.0.1", 0)], None, "udp 127.0.0.1"),
        ([("tcp", "127.0.0.1", 0)], None, "tcp 127.0.0.1"),
        ([("udp", "127.0.0.1", 5060), ("udp", "192.0.2.1", 5060)], None, "udp 192.0.2.1"),
        ([("udp", "0.0.0.0", 5060)], "192.0.2.9", "udp 192.0.2.9"),
        ([("udp", "0.0.0.0", 5060)], "sip.example", ""),  # a name leads to any of the nodes
        ([("tls", "192.0.2.1", 5061)], None, ""),
    ],
)
async def test_nodes_tell_addresses_that_lead_to_them(
    redis: Redis,  # noqa: F811
    listen: list[tuple[str, str, int]],
    advertised: str | None,
    expected: str,
) -> None:
    settings = SipSettings.model_validate(
        {
            "listen": [{"transport": t, "host": host, "port": port} for t, host, port in listen],
            "advertised_host": advertised,
            "tls": {"certificate": "unused.pem"} if listen[0][0] == "tls" else None,
        }
    )
    endpoint = SipEndpoint(user_agent="x", advertised_host=advertised)
    registration = Registration(
        settings,
        endpoint=endpoint,
        redis=redis,
        node=NodeId("node-1"),
        phones=Directory(),
        contacts=RedisContactStore(RedisLine(redis), node=NodeId("node-1")),
        events=RegistrarEvents(),
        on_failure=lambda _source, _user: None,
    )
    await registration.start()
    for transport, host, port in listen:
        if not port:
            await endpoint.listen(transport, host, port)
    await registration.publish()
    published = await redis.hget("{cti95598}:sip-nodes", "node-1")
    assert isinstance(published, bytes)
    first = published.decode().split(" ")[1]
    assert " ".join(first.split(",")[:2]) == expected
    route = registration.registrar._route_of(Hop("udp", "192.0.2.7", 5060, 1))
    assert bool(route) is bool(expected)
    await registration.aclose()
    await endpoint.aclose()
