"""From the stream to rows, on a real Redis and PostgreSQL: each event exactly once."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from google.protobuf.message import Message
from prometheus_client import REGISTRY

import recording
import reports
from cti95598.events.v1 import events_pb2 as pb
from domain.events import EventStamp
from domain.failures import Code
from domain.ids import CallId, NodeId, TenantId
from domain.redis_line import RedisLine
from node.event_bus import EventBus, stream_name
from node.stores.migrations import migrate
from recording.index import RecordingIndex
from reports.agent_records import AgentRecords
from reports.call_records import CallRecords
from reports.consumer import GROUP, EventConsumer
from reports.database import DATABASE_ERRORS
from reports.projection import MOST_AT_ONCE, event_time
from reports.queries import CallReport, RecordQueries
from tests.node.running import RunningStores, running_stores, until

pytestmark = pytest.mark.stores

DEMO = TenantId("demo")
CALL = CallId("01a1000000000000000000000000000a")


class Keeper:
    """EventSink that keeps what it gets."""

    def __init__(self) -> None:
        self.events: list[pb.Event] = []

    def publish(self, event: pb.Event) -> None:
        self.events.append(event)


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[RunningStores]:
    async with running_stores(tmp_path) as running:
        yield running


def consumer_of(stores: RunningStores, member: str = "n1") -> EventConsumer:
    async def prepare() -> None:
        async with stores.pool.acquire() as connection:
            await migrate(
                connection,
                {
                    "reports": Path(reports.__path__[0]) / "migrations",
                    "recording": Path(recording.__path__[0]) / "migrations",
                },
            )

    return EventConsumer(
        stores.redis,
        stores.pool,
        streams=[stream_name(DEMO)],
        member=member,
        projections=[CallRecords(), AgentRecords(), RecordingIndex()],
        prepare=prepare,
    )


@asynccontextmanager
async def running(consumer: EventConsumer) -> AsyncIterator[EventConsumer]:
    consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def write(stores: RunningStores, events: list[pb.Event]) -> None:
    body = pb.EventBatch(events=events).SerializeToString()
    await stores.redis.xadd(stream_name(DEMO), {"batch": body})


def counts(stores: RunningStores, table: str, number: int) -> Callable[[], Awaitable[bool]]:
    async def reached() -> bool:
        try:
            return bool(await stores.pool.fetchval(f"SELECT count(*) FROM {table}") == number)
        except DATABASE_ERRORS:
            return False

    return reached


def whole_call() -> list[pb.Event]:
    """A call through menu, queue, agent and rating."""
    keeper = Keeper()
    stamp = EventStamp(NodeId("n1"), keeper)

    def happens(body: Message, cause: Code | None = None) -> None:
        stamp.publish(DEMO, body, call_id=CALL, cause=cause)

    happens(
        pb.CallArrived(
            trunk="telecom", caller="13812345678", called="95598", access_code="95598",
            landing_code="0571", sip_call_id="abc@host", source_address="192.0.2.1",
        )
    )  # fmt: skip
    happens(pb.FlowStarted(flow="hotline", version="aabbcc"))
    happens(pb.CallAnswered())
    happens(pb.NodeEntered(flow="hotline", flow_node="menu", kind="menu", step=1))
    happens(
        pb.NodeLeft(flow="hotline", flow_node="menu", kind="menu", step=1, exit="1", digits="1",
                    duration_ms=900)
    )  # fmt: skip
    happens(pb.NodeEntered(flow="hotline", flow_node="queue", kind="queue", step=2))
    happens(pb.CallQueued(queue="bill", ticket="t1", priority=100, position=1))
    happens(pb.AgentOffered(agent="1002", queue="bill", ticket="t1", fence=1))
    happens(pb.LegStarted(leg="l1", target="1002", purpose="agent"))
    happens(pb.LegEnded(leg="l1", sip_status=487, ring_ms=12_000), Code.NO_ANSWER)
    happens(pb.AgentOfferEnded(agent="1002", ticket="t1", ring_ms=12_000, outcome="no_answer"))
    happens(pb.AgentOffered(agent="1001", queue="bill", ticket="t1", fence=2))
    happens(pb.LegStarted(leg="l2", target="1001", purpose="agent"))
    happens(pb.AgentOfferEnded(agent="1001", ticket="t1", ring_ms=2_000, outcome="answered"))
    happens(
        pb.CallDequeued(queue="bill", ticket="t1", outcome="agent", waited_ms=15_000, agent="1001")
    )
    happens(pb.RecordingStarted(recording="r1", path="/r1.wav", agent="1001"))
    happens(pb.Bridged(leg="l2", agent="1001"))
    happens(pb.Unbridged(leg="l2", agent="1001", talk_ms=5_000, by=pb.CallEnded.PARTY_PLATFORM))
    happens(pb.LegEnded(leg="l2", sip_status=200, ring_ms=2_000, talk_ms=5_000))
    happens(
        pb.RecordingFinished(recording="r1", path="/r1.wav", agent="1001", sha256="ab" * 32,
                             size_bytes=160_044, duration_ms=5_000, channels=2,
                             sample_rate_hz=8000, left_party="caller", right_party="1001",
                             pauses=[pb.RecordingPause(start_ms=1_000, end_ms=2_500)])
    )  # fmt: skip
    happens(pb.Rated(agent="1001", score=5, language="zh"))
    happens(
        pb.CallEnded(by=pb.CallEnded.PARTY_CALLER, sip_status=200, duration_ms=40_000,
                     media=pb.MediaFigures(packets_received=2000, packets_lost=3, jitter_ms=0.5,
                                           codec="PCMA", mos=4.3, worst_mos=3.9)),
        Code.CALLER_HUNG_UP,
    )  # fmt: skip
    return keeper.events


async def report_of(stores: RunningStores) -> CallReport:
    report = await RecordQueries(stores.pool).call(CALL)
    assert report is not None
    return report


def check_whole_call(report: CallReport) -> None:
    expected = {
        "tenant": "demo", "node": "n1", "trunk": "telecom", "caller": "13812345678",
        "access_code": "95598", "landing_code": "0571", "flow": "hotline",
        "flow_version": "aabbcc", "queue": "bill", "agent": "1001", "recording_id": "r1",
        "rating": 5, "cause": "caller_hung_up", "outcome": "completed", "ended_by": "caller",
        "sip_status": 200, "duration_ms": 40_000, "wait_ms": 15_000, "ring_ms": 14_000,
        "talk_ms": 5_000, "offers": 2, "packets_received": 2000, "packets_lost": 3,
        "codec": "PCMA", "mos": 4.3, "worst_mos": 3.9, "round_trip_ms": None,
    }  # fmt: skip
    assert {name: report.record[name] for name in expected} == expected
    assert [(step["flow_node"], step["exit"], step["digits"]) for step in report.steps] == [
        ("menu", "1", "1"),
        ("queue", None, None),
    ]
    assert [(leg["target"], leg["cause"]) for leg in report.legs] == [
        ("1002", "no_answer"),
        ("1001", ""),
    ]
    assert [(visit["queue"], visit["outcome"]) for visit in report.visits] == [("bill", "agent")]
    assert [recording["pauses_ms"] for recording in report.recordings] == [[[1_000, 2_500]]]
    assert [item["sha256"] for item in report.recordings] == ["ab" * 32]
    assert [item["talk_ms"] for item in report.conversations] == [5_000]


async def test_a_call_becomes_its_record(stores: RunningStores) -> None:
    async with running(consumer_of(stores)):
        await write(stores, whole_call())
        await until(counts(stores, "event_log", 22))
    check_whole_call(await report_of(stores))
    took_s = REGISTRY.get_sample_value("events_store_seconds_sum")
    assert took_s is not None
    assert took_s > 0.0005  # the time of a transaction, and not of making a coroutine
    waited = REGISTRY.get_sample_value("event_row_delay_seconds_count")
    assert waited is not None
    assert waited >= 1
    queries = RecordQueries(stores.pool)
    day = await queries.agent_day("demo", "1001")
    assert (day.calls_offered, day.calls_answered, day.talk_ms) == (1, 1, 5_000)
    assert (day.ratings, day.rating_sum) == (1, 5)
    assert (await queries.agent_day("demo", "1002")).calls_answered == 0
    assert [row["call_id"] for row in await queries.latest_calls(5)] == [CALL]


async def test_a_call_that_went_with_its_node_gets_an_end(stores: RunningStores) -> None:
    *begun, _ = whole_call()
    keeper = Keeper()
    other = EventStamp(NodeId("n2"), keeper)
    other.publish(DEMO, pb.CallArrived(caller="13800138000"), call_id=CallId("elsewhere"))
    EventStamp(NodeId("n1"), keeper).publish(DEMO, pb.NodeStarted())
    async with running(consumer_of(stores)):
        await write(stores, begun)
        await write(stores, keeper.events)
        await until(counts(stores, "event_log", len(begun) + 2))
    record = (await report_of(stores)).record
    assert (record["cause"], record["outcome"]) == ("node_lost", "failed")
    assert record["ended_at"] is not None
    assert record["duration_ms"] >= 0
    report = await RecordQueries(stores.pool).call("elsewhere")
    assert report is not None
    assert report.record["ended_at"] is None


async def test_who_is_hung_up_on_in_a_queue_has_not_given_up(stores: RunningStores) -> None:
    keeper = Keeper()
    stamp = EventStamp(NodeId("n1"), keeper)
    stamp.publish(DEMO, pb.CallArrived(caller="13800138000"), call_id=CALL)
    stamp.publish(DEMO, pb.CallDequeued(queue="bill", outcome="abandoned"), call_id=CALL)
    ended = pb.CallEnded(by=pb.CallEnded.PARTY_PLATFORM, sip_status=200)
    stamp.publish(DEMO, ended, call_id=CALL, cause=Code.NODE_STOPPED)
    async with running(consumer_of(stores)):
        await write(stores, keeper.events)
        await until(counts(stores, "event_log", 3))
    assert (await report_of(stores)).record["outcome"] == "failed"


async def test_events_read_twice_count_once(stores: RunningStores) -> None:
    events = whole_call()
    async with running(consumer_of(stores)):
        for event in events:  # each in a batch of its own, then all again, and some twice
            await write(stores, [event])
        await write(stores, events + events[3:9])
        await until(lambda: _is_read(stores))
    check_whole_call(await report_of(stores))
    assert (await RecordQueries(stores.pool).agent_day("demo", "1001")).calls_offered == 1


async def test_a_long_batch_is_stored_in_pieces(stores: RunningStores) -> None:
    keeper = Keeper()
    stamp = EventStamp(NodeId("n1"), keeper)
    calls = 2 * MOST_AT_ONCE + 50
    for number in range(calls):
        stamp.publish(DEMO, pb.CallArrived(caller=str(number)), call_id=CallId(f"c{number}"))
    arrived = list(keeper.events)
    for number in range(calls):
        stamp.publish(DEMO, pb.LegEnded(leg=f"l{number}", ring_ms=7), call_id=CallId(f"c{number}"))
    async with running(consumer_of(stores)):
        await write(stores, arrived[::3])
        await write(stores, keeper.events)  # each third arrival for the second time
        await until(counts(stores, "event_log", 2 * calls))
    rows = await stores.pool.fetch("SELECT call_id, caller, ring_ms, arrived_at FROM call_record")
    assert {(row["call_id"], row["caller"], row["ring_ms"]) for row in rows} == {
        (f"c{number}", str(number), 7) for number in range(calls)
    }
    at = {row["call_id"]: row["arrived_at"] for row in rows}
    assert all(at[event.call_id] == event_time(event) for event in arrived)  # to the microsecond
    bodies = await stores.pool.fetch("SELECT event_id, body FROM event_log")
    assert {row["event_id"].hex: row["body"] for row in bodies} == {
        event.id: event.SerializeToString() for event in keeper.events
    }


async def _is_read(stores: RunningStores) -> bool:
    groups = await stores.redis.xinfo_groups(stream_name(DEMO))
    return any(
        group["name"] == GROUP.encode() and group["lag"] == 0 and group["pending"] == 0
        for group in groups
    )


async def test_what_a_dead_member_had_read_is_stored(stores: RunningStores) -> None:
    stream = stream_name(DEMO)
    await stores.redis.xgroup_create(stream, GROUP, id="0", mkstream=True)
    await write(stores, whole_call())
    # Read by a process of the same node that died before it stored anything.
    await stores.redis.xreadgroup(GROUP, "n1", {stream: ">"})
    async with running(consumer_of(stores)):
        await until(counts(stores, "event_log", 22))
    check_whole_call(await report_of(stores))


async def test_records_survive_the_death_of_postgres(stores: RunningStores) -> None:
    events = whole_call()
    async with running(consumer_of(stores)):
        await write(stores, events[:10])
        await until(counts(stores, "event_log", 10))
        assert stores.postgres_server.pid is not None
        os.kill(stores.postgres_server.pid, signal.SIGKILL)
        await write(stores, events[10:])
        await until(counts(stores, "event_log", 22))
    check_whole_call(await report_of(stores))


async def test_events_come_through_the_death_of_redis(stores: RunningStores) -> None:
    bus = EventBus(RedisLine(stores.redis), stores.directory.spool)
    bus.start()
    events = whole_call()
    async with running(consumer_of(stores)):
        for event in events[:10]:
            bus.publish(event)
        await until(counts(stores, "event_log", 10))
        assert stores.redis_server.pid is not None
        os.kill(stores.redis_server.pid, signal.SIGKILL)
        for event in events[10:]:
            bus.publish(event)
        await until(counts(stores, "event_log", 22))
        await bus.stop()
    check_whole_call(await report_of(stores))


async def test_an_event_that_sql_refuses_stops_no_other(stores: RunningStores) -> None:
    events = whole_call()
    bad = pb.Event(id="not-a-uuid", tenant="demo", call_id="x", call_answered=pb.CallAnswered())
    zero = pb.Event(
        id="0" * 32, tenant="demo", call_id="x", call_arrived=pb.CallArrived(caller="a\0b")
    )
    async with running(consumer_of(stores)):
        await stores.redis.xadd(stream_name(DEMO), {"batch": b"\xff\xff"})
        await stores.redis.xadd(stream_name(DEMO), {"other": b""})
        await write(stores, [bad, *events, zero])
        await until(counts(stores, "event_log", 22))
        await until(counts(stores, "event_refused", 2))
        await until(lambda: _is_read(stores))
    check_whole_call(await report_of(stores))


async def test_a_caller_who_gives_up_is_abandoned(stores: RunningStores) -> None:
    keeper = Keeper()
    stamp = EventStamp(NodeId("n1"), keeper)
    stamp.publish(DEMO, pb.CallArrived(), call_id=CALL)
    stamp.publish(DEMO, pb.CallEnded(), call_id=CALL, cause=Code.CALLER_HUNG_UP)
    dequeued = pb.CallDequeued(queue="bill", ticket="t", outcome="abandoned", waited_ms=3000)
    stamp.publish(DEMO, dequeued, call_id=CALL)
    stamp.publish(DEMO, pb.CallArrived(), call_id=CallId("refused"))
    stamp.publish(
        DEMO, pb.CallRefused(sip_status=404), call_id=CallId("refused"),
        cause=Code.ACCESS_CODE_UNKNOWN,
    )  # fmt: skip
    async with running(consumer_of(stores)):
        await write(stores, keeper.events)
        await until(counts(stores, "call_record", 2))
    assert (await report_of(stores)).record["outcome"] == "abandoned"
    refused = await RecordQueries(stores.pool).call("refused")
    assert refused is not None
    assert (refused.record["outcome"], refused.record["sip_status"]) == ("refused", 404)


async def test_sessions_and_states_of_agents(stores: RunningStores) -> None:
    keeper = Keeper()
    stamp = EventStamp(NodeId("n1"), keeper)

    def turns(before: str, after: str, previous_ms: int) -> None:
        change = pb.AgentStateChanged(
            agent="1001", from_state=before, to_state=after, previous_ms=previous_ms, device="1001"
        )
        stamp.publish(DEMO, change)

    turns("signed_out", "not_ready", 0)
    turns("not_ready", "ready", 2_000)
    turns("ready", "ready", 0)
    turns("ready", "signed_out", 3_000)
    turns("signed_out", "not_ready", 0)
    turns("signed_out", "not_ready", 0)  # its node died between
    failed = pb.AuthenticationFailed(protocol="sign_in", user="1001", source_address="ipv4:x")
    stamp.publish(DEMO, failed, cause=Code.PASSWORD_WRONG)
    stamp.publish(DEMO, pb.Alarm(component="recording", text="disk is full"))
    banned = pb.SourceBanned(source_address="127.0.0.66", offence="scanner", duration_ms=300_000)
    stamp.publish(DEMO, banned, cause=Code.SOURCE_BANNED)
    async with running(consumer_of(stores)):
        await write(stores, keeper.events)
        await until(counts(stores, "event_log", 9))
    sessions = await stores.pool.fetch("SELECT * FROM agent_session ORDER BY signed_in_at")
    assert [row["signed_out_at"] is None for row in sessions] == [False, False, True]
    day = await RecordQueries(stores.pool).agent_day("demo", "1001")
    assert day.not_ready_ms in range(2_001)  # a day may have begun just now
    security = await stores.pool.fetch("SELECT * FROM security_event ORDER BY at")
    assert [row["user_name"] for row in security] == ["1001", ""]
    assert [row["cause"] for row in security] == ["password_wrong", "source_banned"]
    assert await stores.pool.fetchval("SELECT words FROM alarm") == "disk is full"


@pytest.mark.parametrize("together", [True, False], ids=["one batch", "a batch each"])
async def test_offers_and_recordings_come_in_parts(stores: RunningStores, together: bool) -> None:
    keeper = Keeper()
    stamp = EventStamp(NodeId("n1"), keeper)
    ended = pb.AgentOfferEnded(agent="1001", ticket="t1", ring_ms=900, outcome="no_answer")
    finished = pb.RecordingFinished(
        recording="r1", path="/kept.wav", sha256="ab", pauses=[pb.RecordingPause(end_ms=5)]
    )
    for body in (
        pb.AgentOffered(agent="1001", queue="bill", ticket="t1"),
        ended,
        pb.AgentOffered(agent="1001", queue="bill", ticket="t1"),
        pb.AgentOfferEnded(agent="1002", ticket="t1", ring_ms=1, outcome="refused"),  # not offered
        pb.AgentOfferEnded(agent="1001", ticket="t1", ring_ms=70, outcome="answered"),
        finished,  # of two members of the group, the one that reads later may write sooner
        pb.RecordingStarted(recording="r1", path="/begun.wav", agent="1001"),
    ):
        stamp.publish(DEMO, body, call_id=CALL)
    async with running(consumer_of(stores)):
        for number, event in enumerate([] if together else keeper.events, 1):
            await write(stores, [event])
            await until(counts(stores, "event_log", number))
        await write(stores, keeper.events)
        await until(counts(stores, "event_log", len(keeper.events)))
    offers = await stores.pool.fetch("SELECT * FROM agent_offer ORDER BY offered_at")
    assert [(row["agent"], row["ring_ms"], row["outcome"]) for row in offers] == [
        ("1001", 900, "no_answer"),
        ("1001", 70, "answered"),
    ]
    assert all(row["ended_at"] > row["offered_at"] for row in offers)
    [row] = await stores.pool.fetch("SELECT * FROM recording")
    assert (row["path"], row["sha256"], row["pauses_ms"]) == ("/kept.wav", "ab", [[0, 5]])
    assert row["finished_at"] < row["started_at"]


async def test_tables_may_get_columns_meanwhile(stores: RunningStores) -> None:
    *begun, ended = whole_call()
    async with (
        asyncpg.create_pool(stores.postgres_server.url, min_size=0, max_size=1) as pool,
        running(consumer_of(dataclasses.replace(stores, pool=pool))),
    ):
        await write(stores, begun)
        await until(counts(stores, "event_log", len(begun)))
        for table in ("call_record", "call_leg", "event_log"):
            await stores.pool.execute(f"ALTER TABLE {table} ADD COLUMN of_a_later_version text")
        await write(stores, [begun[0], ended])  # one known, so that each way to write is taken
        await until(counts(stores, "event_log", len(begun) + 1))
    check_whole_call(await report_of(stores))
