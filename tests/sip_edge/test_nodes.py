"""What nodes share through Redis: addresses under a lease, and secrets by day."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from cti.shared.nodes import NodeAddresses
from cti.shared.shared_secrets import SharedSecrets
from cti.sip.authentication.digest import AuthResult, Credentials, DigestServer, authorization, ha1
from cti.sip.transports.transport import Hop
from domain.ids import NodeId
from tests.routing.redis_process import RedisProcess

pytestmark = pytest.mark.stores

DAY_S = 86_400


class Clock:
    def __init__(self) -> None:
        self.unix_s = 20_000.0 * DAY_S

    def __call__(self) -> float:
        return self.unix_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_a_node_is_known_while_its_lease_lasts(redis: Redis, clock: Clock) -> None:
    one = NodeAddresses(redis, node=NodeId("one"), unix_clock=clock)
    two = NodeAddresses(redis, node=NodeId("two"), unix_clock=clock)
    assert not one.is_alone()  # nothing is known yet
    await one.start([("udp", "192.0.2.1", 5060), ("tcp", "192.0.2.1", 5060)])
    assert one.is_alone()
    await two.start([])
    assert not two.is_alone()
    assert two.is_alive(NodeId("one"))
    assert two.is_node(Hop("udp", "192.0.2.1", 5060))
    assert two.is_node(Hop("tcp", "192.0.2.1", 40000))  # connections come from any port
    assert not two.is_node(Hop("udp", "192.0.2.1", 5061))
    assert not two.is_node(Hop("tcp", "192.0.2.2", 5060))
    clock.unix_s += 16
    await two.refresh()
    assert not two.is_alive(NodeId("one"))
    assert two.is_alone()
    assert not two.is_node(Hop("udp", "192.0.2.1", 5060))
    await one.refresh()
    await one.aclose()
    await two.refresh()
    assert not two.is_alive(NodeId("one"))
    await two.aclose()


async def test_nodes_stay_known_while_redis_is_away(
    redis_process: RedisProcess, clock: Clock
) -> None:
    client = redis_process.client()
    await client.flushall()
    one = NodeAddresses(client, node=NodeId("one"), unix_clock=clock)
    await one.start([("udp", "192.0.2.1", 5060)])
    redis_process.kill()
    clock.unix_s += 100
    await one._try_refresh()
    assert one.is_alive(NodeId("one"))
    await one.aclose()
    late = NodeAddresses(client, node=NodeId("late"), unix_clock=clock)
    await late.start([("udp", "192.0.2.3", 5060)])
    assert not late.is_alive(NodeId("one"))
    await late.aclose()
    await client.aclose()
    redis_process.start()


async def test_a_challenge_of_one_node_is_met_at_another(redis: Redis, clock: Clock) -> None:
    servers = []
    for _ in range(2):
        secrets = SharedSecrets(redis, purpose="digest", unix_clock=clock)
        await secrets.refresh()
        servers.append(DigestServer("r", secret_of=secrets.of))
    one, two = servers
    value = authorization(
        one.challenges(clock()), method="INVITE", uri="sip:a", credentials=Credentials("u", "p")
    )
    assert value is not None
    stored = {"MD5": ha1("MD5", "u", "r", "p")}
    arguments = {"method": "INVITE", "user": "u", "stored": stored, "now": clock()}
    assert two.judge([value], **arguments) is AuthResult.ACCEPTED  # type: ignore[arg-type]


async def test_secrets_change_with_the_day_and_outlive_redis(
    redis_process: RedisProcess, clock: Clock
) -> None:
    client = redis_process.client()
    await client.flushall()
    one = SharedSecrets(client, purpose="digest", unix_clock=clock)
    await one.start()
    day = int(clock()) // DAY_S
    today, tomorrow = one.of(day), one.of(day + 1)
    assert today != tomorrow
    redis_process.kill()
    clock.unix_s += DAY_S
    assert not await one._try_refresh()
    assert one.of(day + 1) == tomorrow  # fetched in advance
    lonely = SharedSecrets(client, purpose="digest", unix_clock=clock)
    await lonely.start()
    assert lonely.of(day + 1) == lonely.of(day + 2) != tomorrow
    redis_process.start()
    assert await one._try_refresh()
    assert await lonely._try_refresh()
    assert lonely.of(day + 1) == one.of(day + 1) == tomorrow  # an empty Redis is told
    await one.aclose()
    await lonely.aclose()
    await client.aclose()
