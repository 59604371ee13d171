"""The contact store on a real Redis, and while it is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
from redis.asyncio import Redis

from cti.contacts import Binding, ContactChange, ContactUpdate, RedisContactStore, Way
from cti.sip.transport import Hop
from domain.failures import Code, PlatformError
from domain.ids import NodeId, TenantId
from tests.routing.conftest import redis, redis_process  # noqa: F401 - fixtures
from tests.routing.redis_process import RedisProcess

pytestmark = pytest.mark.stores

TENANT = TenantId("sx")
NODE = NodeId("node-1")
HOP = Hop("tcp", "192.0.2.7", 40000, 9)


class Clock:
    def __init__(self) -> None:
        self.unix_s = time.time()

    def __call__(self) -> float:
        return self.unix_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(redis: Redis, clock: Clock) -> RedisContactStore:  # noqa: F811
    return RedisContactStore(redis, node=NODE, unix_clock=clock)


def update(
    cseq: int,
    *changes: tuple[str, int],
    call_id: str = "c1",
    user: str = "1001",
    remove_all: bool = False,
) -> ContactUpdate:
    return ContactUpdate(
        TENANT,
        user,
        call_id,
        cseq,
        tuple(ContactChange(uri, uri, HOP, expires_s) for uri, expires_s in changes),
        remove_all,
    )


def uris(bindings: list[Binding] | None) -> list[str]:
    assert bindings is not None
    return sorted(each.contact_uri for each in bindings)


async def test_bound_refreshed_and_removed(
    store: RedisContactStore,
    clock: Clock,
    redis: Redis,  # noqa: F811
) -> None:
    bindings = await store.apply(update(1, ("sip:a", 600)))
    assert bindings == [Binding((Way(HOP, (), "sip:a"),), int(clock.unix_s) + 600)]
    assert await redis.exists("{sx}:contacts:1001")
    assert 500 < await redis.ttl("{sx}:contacts:1001") <= 601
    assert uris(await store.apply(update(2, ("sip:b", 900)))) == ["sip:a", "sip:b"]
    assert [each.contact_uri for each in await store.lookup(TENANT, "1001")] == ["sip:b", "sip:a"]
    assert uris(await store.apply(update(3, ("sip:a", 0)))) == ["sip:b"]
    assert uris(await store.apply(update(4))) == ["sip:b"]
    assert await store.apply(update(5, remove_all=True)) == []
    assert await store.lookup(TENANT, "1001") == []
    assert await redis.keys("*") == [b"{sx}:contacts-life"]


async def test_an_older_request_changes_nothing(store: RedisContactStore) -> None:
    await store.apply(update(5, ("sip:a", 600)))
    assert await store.apply(update(5, ("sip:new", 60), ("sip:a", 0))) is None
    assert await store.apply(update(4, remove_all=True)) is None
    assert uris(await store.lookup(TENANT, "1001")) == ["sip:a"]
    assert uris(await store.apply(update(1, ("sip:a", 60), call_id="c2"))) == ["sip:a"]


async def test_bindings_end_by_themselves(store: RedisContactStore, clock: Clock) -> None:
    await store.apply(update(1, ("sip:a", 60), ("sip:b", 600)))
    clock.unix_s += 61
    assert uris(await store.lookup(TENANT, "1001")) == ["sip:b"]
    assert uris(await store.apply(update(2))) == ["sip:b"]


async def test_bindings_that_end_first_make_room(store: RedisContactStore) -> None:
    for number in range(12):
        await store.apply(update(number + 1, (f"sip:{number:02}", 600 + number)))
    assert uris(await store.lookup(TENANT, "1001")) == [f"sip:{n:02}" for n in range(4, 12)]


async def test_a_connection_of_another_process_is_not_used(
    store: RedisContactStore,
    redis: Redis,  # noqa: F811
) -> None:
    await store.apply(update(1, ("sip:a", 600)))
    other = RedisContactStore(redis, node=NodeId("node-2"))
    (binding,) = await other.lookup(TENANT, "1001")
    assert binding.hop == Hop("tcp", "192.0.2.7", 40000, 0)


async def test_registrations_at_the_same_time_are_all_kept(store: RedisContactStore) -> None:
    await asyncio.gather(
        *(store.apply(update(1, (f"sip:{n}", 600), call_id=f"c{n}")) for n in range(8))
    )
    assert len(await store.lookup(TENANT, "1001")) == 8


@pytest.fixture
def mortal_redis(redis_process: RedisProcess) -> Iterator[RedisProcess]:  # noqa: F811
    yield redis_process
    redis_process.kill()
    redis_process.start()


async def test_while_redis_is_away(mortal_redis: RedisProcess, clock: Clock) -> None:
    client = mortal_redis.client()
    await client.flushall()
    store = RedisContactStore(client, node=NODE, unix_clock=clock)
    await store.apply(update(1, ("sip:a", 600), ("sip:b", 60)))
    mortal_redis.kill()
    assert uris(await store.lookup(TENANT, "1001")) == ["sip:a", "sip:b"]
    assert await store.lookup(TENANT, "1002") == []
    with pytest.raises(PlatformError) as caught:
        await store.apply(update(2, ("sip:a", 600)))
    assert caught.value.code is Code.STORE_UNAVAILABLE
    clock.unix_s += 61
    assert uris(await store.lookup(TENANT, "1001")) == ["sip:a"]
    await client.aclose()


async def test_a_redis_that_forgot_is_told_again(mortal_redis: RedisProcess, clock: Clock) -> None:
    client = mortal_redis.client()
    await client.flushall()
    store = RedisContactStore(client, node=NODE, unix_clock=clock)
    other = RedisContactStore(client, node=NodeId("node-2"), unix_clock=clock)
    await store.apply(update(1, ("sip:a", 600), ("sip:b", 600), ("sip:c", 60)))
    await store.apply(update(1, ("sip:d", 600), user="1002"))
    await other.apply(update(1, ("sip:e", 600), user="1003"))
    assert uris(await store.lookup(TENANT, "1003")) == ["sip:e"]
    mortal_redis.kill()
    mortal_redis.start()
    clock.unix_s += 61
    assert await store.lookup(TENANT, "9999") == []  # over a connection that is broken
    # The first command after the restart is the one that restores.
    assert uris(await store.apply(update(2, ("sip:a", 600), ("sip:b", 0)))) == ["sip:a"]
    lookups = await asyncio.gather(*(store.lookup(TENANT, "1002") for _ in range(5)))
    assert [uris(each) for each in lookups] == [["sip:d"]] * 5
    assert await store.lookup(TENANT, "1003") == []  # for its own node to restore
    assert uris(await other.lookup(TENANT, "1003")) == ["sip:e"]
    assert uris(await store.lookup(TENANT, "1003")) == ["sip:e"]
    await client.aclose()
