"""The contact store on a real Redis, and while it is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis

from cti.shared.contacts import (
    Binding,
    ContactChange,
    ContactUpdate,
    RedisContactStore,
    Registered,
    Way,
)
from cti.sip.transports.transport import Hop
from domain.failures import Code, PlatformError
from domain.ids import NodeId, TenantId
from domain.redis_line import RedisLine
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
    return RedisContactStore(RedisLine(redis), node=NODE, unix_clock=clock)


def change(contact: str, expires_s: int, **options: Any) -> ContactChange:
    fields: dict[str, Any] = {"contact": contact, "uri": contact, "hop": HOP}
    return ContactChange(**(fields | options), expires_s=expires_s)


def update(
    cseq: int,
    *changes: tuple[str, int] | ContactChange,
    call_id: str = "c1",
    user: str = "1001",
    remove_all: bool = False,
) -> ContactUpdate:
    asked = [each if isinstance(each, ContactChange) else change(*each) for each in changes]
    return ContactUpdate(TENANT, user, call_id, cseq, tuple(asked), remove_all)


def uris(found: Registered | list[Binding] | None) -> list[str]:
    assert found is not None
    if isinstance(found, Registered):
        return sorted({each.uri for each in found.ways})
    return sorted(each.contact_uri for each in found)


async def test_bound_refreshed_and_removed(
    store: RedisContactStore,
    clock: Clock,
    redis: Redis,  # noqa: F811
) -> None:
    registered = await store.apply(update(1, ("sip:a", 600)))
    assert registered is not None
    assert registered.changed == (True,)
    expires = int(clock.unix_s) + 600
    assert await store.lookup(TENANT, "1001") == [Binding((Way(HOP, (), "sip:a"),), expires)]
    assert 500 < await redis.ttl("{sx}:contacts:1001") <= 601
    assert uris(await store.apply(update(2, ("sip:b", 900)))) == ["sip:a", "sip:b"]
    assert [each.contact_uri for each in await store.lookup(TENANT, "1001")] == ["sip:b", "sip:a"]
    assert uris(await store.apply(update(3, ("sip:a", 0)))) == ["sip:b"]
    assert uris(await store.apply(update(4))) == ["sip:b"]
    assert uris(await store.apply(update(5, remove_all=True))) == []
    assert await store.lookup(TENANT, "1001") == []
    assert await redis.keys("*") == [b"{sx}:contacts-life"]


async def test_a_refresh_is_no_change(store: RedisContactStore, clock: Clock) -> None:
    outcomes = []
    requests: list[list[tuple[str, int] | ContactChange]] = [
        [("sip:a", 600)],
        [("sip:a", 300)],
        [("sip:a", 300), ("sip:b", 60)],
        [change("sip:a", 600, hop=Hop("tcp", "192.0.2.7", 40001, 10))],
        [("sip:b", 0), ("sip:c", 0)],
    ]
    for cseq, changes in enumerate(requests):
        clock.unix_s += 1
        registered = await store.apply(update(cseq + 1, *changes))
        assert registered is not None
        outcomes.append(registered.changed)
    assert outcomes == [(True,), (False,), (False, True), (True,), (True, False)]


async def test_the_preferred_contact_comes_first(store: RedisContactStore) -> None:
    await store.apply(update(1, change("sip:a", 600, q=300), ("sip:b", 60)))
    bindings = await store.lookup(TENANT, "1001")
    assert [(each.contact_uri, each.q) for each in bindings] == [("sip:b", 1000), ("sip:a", 300)]


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
    for number in range(20):
        await store.apply(update(number + 1, (f"sip:{number:02}", 600 + number)))
    assert uris(await store.lookup(TENANT, "1001")) == [f"sip:{n:02}" for n in range(4, 20)]


async def test_a_lost_connection_takes_its_way_with_it(store: RedisContactStore) -> None:
    registered = await store.apply(update(1, ("sip:a", 600), ("sip:b", 600)))
    assert registered is not None
    lost = next(each for each in registered.ways if each.uri == "sip:a")
    dropped = await store.drop(TENANT, "1001", lost)
    assert dropped is not None
    assert dropped.changed == (True,)
    assert uris(await store.lookup(TENANT, "1001")) == ["sip:b"]
    again = change("sip:b", 600, hop=Hop("tcp", "192.0.2.7", 40001, 10))
    await store.apply(update(2, again))
    old = next(each for each in registered.ways if each.uri == "sip:b")
    dropped = await store.drop(TENANT, "1001", old)  # it is back over another connection
    assert dropped is not None
    assert dropped.changed == (False,)
    assert [each.hop for each in await store.lookup(TENANT, "1001")] == [again.hop]


class TwoNodes:
    """A main and a standby node on one Redis; each knows how the other is reached."""

    MAIN_HOP = Hop("udp", "192.0.2.101", 5060)

    def __init__(self, client: Redis, clock: Clock) -> None:
        self.redis = client
        self.main = RedisContactStore(RedisLine(client), node=NODE, unix_clock=clock)
        self.standby = RedisContactStore(RedisLine(client), node=NodeId("node-2"), unix_clock=clock)
        self.alive = {"node-1", "node-2"}
        for store in (self.main, self.standby):
            store.is_alive = self.alive.__contains__
            store.hop_of_route = lambda _route: self.MAIN_HOP

    async def phones(self, store: RedisContactStore) -> list[list[Hop]]:
        return [[way.hop for way in each.ways] for each in await store.lookup(TENANT, "1001")]


@pytest.fixture
def nodes(redis: Redis, clock: Clock) -> TwoNodes:  # noqa: F811
    return TwoNodes(redis, clock)


EDGE = "<sip:token@192.0.2.101;lr>"
PHONE_HOP = Hop("udp", "192.0.2.7", 5060, 1)
AFRESH = Hop("udp", "192.0.2.7", 5060)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {}),  # the same contact
        ({"instance": "urn:uuid:1"}, {"instance": "urn:uuid:1", "contact": "sip:x@192.0.2.9:1;"}),
        ({"instance": "urn:uuid:1", "reg_id": "1"}, {"instance": "urn:uuid:1", "reg_id": "2"}),
        ({}, {"instance": "urn:uuid:1"}),  # one account of the phone tells its instance
        ({}, {"contact": "sip:1001@192.0.2.7:5062;"}),  # a port for each account
    ],
)
async def test_a_phone_registered_at_two_nodes_is_one_phone(
    nodes: TwoNodes, clock: Clock, first: dict[str, Any], second: dict[str, Any]
) -> None:
    contact = "sip:1001@192.0.2.7:5060;"
    await nodes.main.apply(update(1, change(contact, 600, hop=PHONE_HOP, **first)))
    clock.unix_s += 1
    other = Hop("udp", "192.0.2.7", 5062, 1)
    again = replace(change(contact, 300, hop=other), **second)
    await nodes.standby.apply(update(7, again, call_id="c2"))
    assert await nodes.phones(nodes.main) == [[PHONE_HOP, other._replace(connection=0)]]
    assert await nodes.phones(nodes.standby) == [[other, AFRESH]]
    clock.unix_s += 301  # each way has an end of its own
    assert await nodes.phones(nodes.main) == [[PHONE_HOP]]
    assert await nodes.phones(nodes.standby) == [[AFRESH]]


async def test_two_phones_behind_one_address_stay_two(nodes: TwoNodes) -> None:
    for cseq, port in enumerate((5060, 5070)):
        for store in (nodes.main, nodes.standby):
            contact = f"sip:1001@192.0.2.7:{port};"
            hop = Hop("udp", "192.0.2.7", port, 1)
            await store.apply(update(cseq, change(contact, 600, hop=hop), call_id=f"c{port}"))
    phones = await nodes.phones(nodes.main)
    assert sorted([hop.port for hop in hops] for hops in phones) == [[5060, 5060], [5070, 5070]]


async def test_a_connection_of_another_node_is_reached_through_that_node(nodes: TwoNodes) -> None:
    await nodes.main.apply(update(1, change("sip:1001@10.0.0.1:;", 600, edge=EDGE)))
    bindings = await nodes.standby.lookup(TENANT, "1001")
    assert [each.ways for each in bindings] == [
        (Way(TwoNodes.MAIN_HOP, (EDGE,), "sip:1001@10.0.0.1:;"),)
    ]
    nodes.alive.discard("node-1")
    assert await nodes.standby.lookup(TENANT, "1001") == []  # the connection went with its node
    udp = change("sip:1001@10.0.0.1:;", 600, edge=EDGE, hop=PHONE_HOP)
    await nodes.main.apply(update(2, udp))
    assert await nodes.phones(nodes.standby) == [[AFRESH]]  # through NAT with some luck
    named = change("sip:1001@192.0.2.7:5060;tcp", 600, edge=EDGE, hop=HOP)
    await nodes.main.apply(update(3, named, call_id="c2"))
    assert [HOP._replace(connection=0)] in await nodes.phones(nodes.standby)


async def test_a_way_through_a_dead_node_comes_last(nodes: TwoNodes, clock: Clock) -> None:
    contact = "sip:1001@192.0.2.7:5060;"
    await nodes.main.apply(update(1, change(contact, 600, hop=PHONE_HOP)))
    clock.unix_s += 1
    standby_hop = Hop("udp", "192.0.2.7", 5062, 1)
    await nodes.standby.apply(update(1, change(contact, 600, hop=standby_hop), call_id="c2"))
    third = RedisContactStore(RedisLine(nodes.redis), node=NodeId("node-3"))
    third.is_alive = {"node-1"}.__contains__
    bindings = await third.lookup(TENANT, "1001")
    assert [way.hop.port for way in bindings[0].ways] == [5060, 5062]


async def test_a_phone_that_unregisters_leaves_its_other_registration(nodes: TwoNodes) -> None:
    contact = "sip:1001@192.0.2.7:5060;"
    await nodes.main.apply(update(1, change(contact, 600, hop=PHONE_HOP)))
    await nodes.standby.apply(update(1, change(contact, 600, hop=PHONE_HOP), call_id="c2"))
    await nodes.main.apply(update(2, (contact, 0)))
    assert await nodes.phones(nodes.main) == [[AFRESH]]
    # A balancer took the refresh of one registration elsewhere: it ends as a whole.
    await nodes.main.apply(update(3, change(contact, 600, hop=PHONE_HOP), call_id="c2"))
    await nodes.main.apply(update(4, (contact, 0), call_id="c2"))
    assert await nodes.phones(nodes.main) == []


async def test_a_path_is_where_the_phone_is_reached_from_every_node(nodes: TwoNodes) -> None:
    path = ("<sip:proxy@192.0.2.50;lr>",)
    proxy = Hop("udp", "192.0.2.50", 5060, 1)
    through = change("sip:1001@10.0.0.1:;", 600, hop=proxy, path=path)
    await nodes.main.apply(update(1, through))
    moved = ("<sip:proxy@192.0.2.50;lr;received=sip:203.0.113.9:4711>",)
    await nodes.standby.apply(update(2, replace(through, path=moved)))
    # The proxy chose another node this time, and the phone is back as it was.
    await nodes.standby.apply(update(3, through))
    for store, connection in ((nodes.main, 0), (nodes.standby, 1)):
        ways = [each.ways for each in await store.lookup(TENANT, "1001")]
        assert ways == [(Way(proxy._replace(connection=connection), path, through.uri),)]


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
    store = RedisContactStore(RedisLine(client), node=NODE, unix_clock=clock)
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


async def test_a_node_alone_asks_only_for_phones_that_it_does_not_know(
    redis: Redis,  # noqa: F811
    clock: Clock,
) -> None:
    trips: list[None] = []
    line = RedisLine(redis, on_round_trip=lambda: trips.append(None))
    store = RedisContactStore(line, node=NODE, unix_clock=clock)
    other = RedisContactStore(RedisLine(redis), node=NodeId("node-2"), unix_clock=clock)
    await other.apply(update(1, ("sip:a", 600)))
    store.is_alone = lambda: True
    await store.apply(update(1, ("sip:b", 60), user="1002"))
    asked = len(trips)
    assert uris(await store.lookup(TENANT, "1001")) == ["sip:a"]
    assert len(trips) == asked + 1
    assert uris(await store.lookup(TENANT, "1001")) == ["sip:a"]
    assert uris(await store.lookup(TENANT, "1002")) == ["sip:b"]
    assert len(trips) == asked + 1
    registering = store.apply(update(2, ("sip:c", 600), user="1002"))
    assert uris(await store.lookup(TENANT, "1002")) == ["sip:b", "sip:c"]
    await registering
    clock.unix_s += 61
    assert uris(await store.lookup(TENANT, "1002")) == ["sip:c"]
    await other.apply(update(2, ("sip:d", 600)))
    store.is_alone = lambda: False
    assert uris(await store.lookup(TENANT, "1001")) == ["sip:a", "sip:d"]


async def test_a_redis_that_forgot_is_told_again(mortal_redis: RedisProcess, clock: Clock) -> None:
    client = mortal_redis.client()
    await client.flushall()
    store = RedisContactStore(RedisLine(client), node=NODE, unix_clock=clock)
    other = RedisContactStore(RedisLine(client), node=NodeId("node-2"), unix_clock=clock)
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
