"""Any course of registrations at two nodes, held against a model of RFC 3261 10.3 in Python."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cti.shared.contacts import ContactChange, ContactUpdate, RedisContactStore
from cti.shared.ways import StoredWay, phones_of
from cti.sip.transports.transport import Hop
from domain.ids import NodeId, TenantId
from domain.redis_line import RedisLine
from tests.routing.conftest import redis_process  # noqa: F401 - fixture
from tests.routing.redis_process import RedisProcess

pytestmark = pytest.mark.stores

TENANT = TenantId("sx")
HOP = Hop("udp", "192.0.2.7", 5060, 1)
CONTACTS = [f"sip:u@192.0.2.7:{port};" for port in (5060, 5062, 5064)]


@dataclass(frozen=True)
class Step:
    """A REGISTER at a node, after some time."""

    node: int
    call_id: str
    cseq: int
    wait_s: int
    changes: tuple[tuple[str, str, int], ...]
    remove_all: bool


CHANGES = st.tuples(
    st.sampled_from(CONTACTS), st.sampled_from(["", "urn:1"]), st.sampled_from([0, 60, 300])
)
STEPS = st.lists(
    st.builds(
        Step,
        node=st.integers(0, 1),
        call_id=st.sampled_from(["c1", "c2"]),
        cseq=st.integers(1, 6),
        wait_s=st.sampled_from([0, 1, 61]),
        changes=st.lists(CHANGES, max_size=2, unique_by=lambda each: each[0]).map(tuple),
        remove_all=st.booleans() | st.just(False),
    ),
    max_size=12,
)


class Model:
    """What the store must hold: way by place and identity."""

    def __init__(self) -> None:
        self.ways: dict[tuple[str, str], tuple[str, str, int, int]] = {}

    def expire(self, now_s: int) -> None:
        self.ways = {key: way for key, way in self.ways.items() if way[3] > now_s}

    def apply(self, step: Step, now_s: int) -> bool:
        """Return False when the step is out of order."""
        place = f"node-{step.node}"
        touched = {contact for contact, _, _ in step.changes}
        fields = {(instance or contact, place) for contact, instance, _ in step.changes}
        for key, (contact, call_id, cseq, _) in self.ways.items():
            same = step.remove_all or key in fields or (contact in touched and key[1] == place)
            if same and call_id == step.call_id and cseq >= step.cseq:
                return False
        if step.remove_all:
            self.ways.clear()
            return True
        for contact, instance, expires_s in step.changes:
            if expires_s:
                way = (contact, step.call_id, step.cseq, now_s + expires_s)
                self.ways[instance or contact, place] = way
            else:
                self.ways = {
                    key: way
                    for key, way in self.ways.items()
                    if way[0] != contact
                    or not (key[1] == place or (way[1] == step.call_id and way[2] < step.cseq))
                }
        return True


def update_of(step: Step) -> ContactUpdate:
    changes = () if step.remove_all else step.changes
    return ContactUpdate(
        TENANT,
        "1001",
        step.call_id,
        step.cseq,
        tuple(
            ContactChange(contact, contact, HOP, expires_s, instance, "1" if instance else "")
            for contact, instance, expires_s in changes
        ),
        step.remove_all,
    )


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=STEPS)
def test_the_store_does_as_the_model(
    loop: asyncio.AbstractEventLoop,
    redis_process: RedisProcess,  # noqa: F811
    steps: list[Step],
) -> None:
    loop.run_until_complete(run(redis_process, steps))


async def run(process: RedisProcess, steps: list[Step]) -> None:
    client = process.client()
    await client.flushall()
    now_s = 2_000_000_000  # far enough that Redis expires nothing by its own clock
    stores = [
        RedisContactStore(RedisLine(client), node=NodeId(f"node-{n}"), unix_clock=lambda: now_s)
        for n in range(2)
    ]
    model = Model()
    for step in steps:
        now_s += step.wait_s
        model.expire(now_s)
        is_in_order = model.apply(step, now_s)
        registered = await stores[step.node].apply(update_of(step))
        assert (registered is not None) is is_in_order
        if registered is not None:
            stored = {(each.instance or each.contact, str(each.place)) for each in registered.ways}
            assert stored == set(model.ways)
            assert {each.expires_unix_s for each in registered.ways} == {
                way[3] for way in model.ways.values()
            }
    bindings = await stores[0].lookup(TENANT, "1001")
    assert sum(len(each.ways) for each in bindings) == len(model.ways)
    await client.aclose()


WAYS = st.lists(
    st.builds(
        StoredWay,
        contact=st.sampled_from(CONTACTS),
        uri=st.just("sip:u@192.0.2.7"),
        hop=st.sampled_from([HOP, Hop("udp", "192.0.2.8", 5060, 1)]),
        expires_unix_s=st.integers(1, 9),
        at_unix_s=st.integers(1, 9),
        node=st.sampled_from([NodeId("a"), NodeId("b"), NodeId("c")]),
        process=st.just("p"),
        instance=st.sampled_from(["", "", "urn:1", "urn:2"]),
    ),
    max_size=8,
    unique_by=lambda way: way.field,
)


@given(WAYS)
def test_every_way_belongs_to_one_phone(ways: list[StoredWay]) -> None:
    phones = phones_of(ways)
    assert sorted(map(repr, ways)) == sorted(repr(way) for phone in phones for way in phone)
    for phone in phones:
        assert len({way.instance for way in phone} - {""}) <= 1
    by_instance = [{way.instance for way in phone} - {""} for phone in phones]
    named = [each for instances in by_instance for each in instances]
    assert len(named) == len(set(named))


@given(WAYS)
def test_a_record_is_read_as_it_was_written(ways: list[StoredWay]) -> None:
    for way in ways:
        assert StoredWay.of_text(way.to_text("call-id", 7)) == way
