"""Phones: dialling, forking, bridging, recording."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from cti.call import BridgeEnd, Call, DialTarget, HangUpParty, RingingLeg
from cti.media import RecordingEnded
from domain.failures import Code, PlatformError
from tests.call_control.conftest import Bench, answered
from tests.fakes.session import FakeSession

MUSIC = Path("music.wav")
TARGET = DialTarget("1001", "13812345678", caller_name="电费\r\nX: y")
DESK, MOBILE = "sip:1001@192.0.2.7:5060", "sip:1001@192.0.2.8:5060"


def dialling(
    outcome: list[object],
    *,
    timeout_ms: int = 5000,
    on_ringing: Callable[[RingingLeg], None] | None = None,
    target: DialTarget = TARGET,
    then: Callable[[Call], Awaitable[None]] | None = None,
) -> Callable[[Call], Awaitable[None]]:
    """Dial, bridge with recording, and note how each ended."""

    async def body(call: Call) -> None:
        call.start_music([MUSIC])
        try:
            leg = await call.dial(target, timeout_ms=timeout_ms, on_ringing=on_ringing)
        except PlatformError as error:
            outcome.append(error.code)
            return
        end = await call.bridge(leg, record_party="1001")
        outcome.append(end.by)
        if then is not None:
            await then(call)

    return answered(body)


async def ringing(bench: Bench, *contacts: str) -> list[FakeSession]:
    bench.contacts.by_user["1001"] = list(contacts)
    bench.invite()
    await bench.until(lambda: len(bench.user_agent.sessions) == len(contacts))
    return bench.user_agent.sessions


async def bridged(bench: Bench) -> FakeSession:
    (phone,) = await ringing(bench, DESK)
    phone.answer()
    await bench.until(lambda: "bridged" in bench.sink.names)
    return phone


async def test_a_conversation_is_recorded_from_its_first_frame(bench: Bench) -> None:
    outcome: list[object] = []
    bench.handler = dialling(outcome)
    phone = await bridged(bench)
    assert bench.media.log[1:] == [
        "loop 1 music.wav",
        "connect 3",
        "record 1 | 3",
        "hear 1: 3",
        "hear 3: 1",
        "stop 1",
        "stop 3",
    ]
    phone.hang_up()
    await bench.settle()
    assert outcome == [HangUpParty.FAR_END]
    assert bench.media.log[8:] == ["record end", "hear 1:", "hear 3:", "close 3", "close 1"]
    names = bench.sink.names
    assert names == [
        "call_arrived",
        "call_answered",
        "leg_started",
        "recording_started",
        "bridged",
        "unbridged",
        "recording_finished",
        "leg_ended",
        "call_ended",
    ]
    leg_ended = bench.sink.one("leg_ended")
    assert (leg_ended.sip_status, leg_ended.media.packets_sent) == (200, 100)
    assert bench.sink.cause("leg_ended") == Code.AGENT_HUNG_UP
    assert bench.sink.cause("unbridged") == Code.AGENT_HUNG_UP
    finished = bench.sink.one("recording_finished")
    assert (finished.channels, finished.sample_rate_hz) == (2, 8000)
    assert finished.recording == bench.sink.one("recording_started").recording
    assert Path(finished.path).parent == bench.recording_dir


async def test_nothing_of_the_caller_leaks_to_the_phone(bench: Bench) -> None:
    bench.handler = dialling([])
    phone = await bridged(bench)
    sent = repr((phone.headers, phone.sent_sdp, phone.uri))
    assert "secret-call-id" not in sent
    assert "carrier" not in sent
    assert "40000" not in sent
    assert "\r" not in dict(phone.headers)["From"]
    phone.hang_up()
    await bench.settle()


async def test_caller_hangs_up_during_a_conversation(bench: Bench) -> None:
    bench.handler = dialling([])
    bench.contacts.by_user["1001"] = [DESK]
    caller = bench.invite()
    await bench.until(lambda: bench.user_agent.sessions)
    phone = bench.user_agent.sessions[0]
    phone.answer()
    await bench.until(lambda: "bridged" in bench.sink.names)
    caller.hang_up()
    await bench.settle()
    assert phone.ended_with is Code.CALLER_HUNG_UP
    assert bench.sink.one("unbridged").by == 1
    names = bench.sink.names
    assert names.index("unbridged") < names.index("leg_ended") < names.index("call_ended")
    assert names.index("recording_finished") < names.index("call_ended")
    assert [names.count(name) for name in ("unbridged", "leg_ended", "call_ended")] == [1, 1, 1]


async def test_the_caller_stays_when_the_phone_hangs_up(bench: Bench) -> None:
    async def rate(call: Call) -> None:
        await call.play([Path("rate.wav")])

    outcome: list[object] = []
    bench.handler = dialling(outcome, then=rate)
    phone = await bridged(bench)
    phone.hang_up()
    await bench.settle()
    assert bench.media.played[-1] == "rate.wav"
    assert bench.sink.cause("call_ended") == Code.FLOW_ENDED


async def test_toolbar_hangs_up_the_leg(bench: Bench) -> None:
    legs: list[RingingLeg] = []
    outcome: list[object] = []
    bench.handler = dialling(outcome, on_ringing=legs.append)
    phone = await bridged(bench)
    legs[0].hang_up(Code.AGENT_HUNG_UP)
    legs[0].hang_up(Code.BUSY)
    await bench.settle()
    assert outcome == [HangUpParty.PLATFORM]
    assert phone.ended_with is Code.AGENT_HUNG_UP


async def test_first_of_several_contacts_wins(bench: Bench) -> None:
    outcome: list[object] = []
    bench.handler = dialling(outcome)
    desk, mobile = await ringing(bench, DESK, MOBILE)
    mobile.answer()
    desk.answer()  # its 200 crosses the CANCEL; the session itself then sends BYE
    await bench.until(lambda: "bridged" in bench.sink.names)
    assert desk.ended_with is not None
    assert mobile.ended_with is None
    mobile.hang_up()
    await bench.settle()
    assert bench.sink.names.count("leg_ended") == 1
    assert outcome == [HangUpParty.FAR_END]


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        (Code.BUSY, Code.SIP_TIMEOUT, Code.BUSY),
        (Code.SIP_TRANSPORT, Code.SIP_TIMEOUT, Code.PHONE_UNREACHABLE),
        (Code.SIP_TRANSPORT, Code.FAR_END_REFUSED, Code.FAR_END_REFUSED),
        (Code.NO_ANSWER, Code.SIP_TRANSPORT, Code.NO_ANSWER),
        (Code.CALLER_ABANDONED, Code.SIP_TRANSPORT, Code.FAR_END_REFUSED),
    ],
)
async def test_why_nobody_answered(bench: Bench, first: Code, second: Code, told: Code) -> None:
    outcome: list[object] = []
    bench.handler = dialling(outcome)
    desk, mobile = await ringing(bench, DESK, MOBILE)
    desk.fail(first)
    assert not outcome
    mobile.fail(second)
    await bench.settle()
    assert outcome == [told]
    assert bench.sink.cause("leg_ended") == told


async def test_a_decline_speaks_for_all_phones_of_a_person(bench: Bench) -> None:
    outcome: list[object] = []
    bench.handler = dialling(outcome)
    desk, mobile = await ringing(bench, DESK, MOBILE)
    desk.fail(Code.DECLINED)
    await bench.settle()
    assert outcome == [Code.DECLINED]
    assert mobile.ended_with is Code.DECLINED
    assert bench.sink.one("leg_ended").sip_status == 603


async def test_nobody_registered(bench: Bench) -> None:
    outcome: list[object] = []
    bench.handler = dialling(outcome)
    bench.invite()
    await bench.settle()
    assert outcome == [Code.PHONE_NOT_REGISTERED]
    assert bench.sink.cause("leg_ended") == Code.PHONE_NOT_REGISTERED
    assert bench.sink.one("leg_ended").sip_status == 480


async def test_ring_time_out(bench: Bench) -> None:
    outcome: list[object] = []
    done = asyncio.Event()
    bench.handler = dialling(outcome, timeout_ms=5, on_ringing=lambda leg: done.set())
    (phone,) = await ringing(bench, DESK)
    await asyncio.wait_for(done.wait(), 1)
    settled = asyncio.Event()
    phone.observer_ended = lambda end: settled.set()  # type: ignore[method-assign]
    await asyncio.wait_for(settled.wait(), 1)
    await bench.settle()
    assert outcome == [Code.NO_ANSWER]
    assert phone.ended_with is Code.NO_ANSWER


async def test_caller_gives_up_while_it_rings(bench: Bench) -> None:
    bench.handler = dialling([])
    bench.contacts.by_user["1001"] = [DESK]
    caller = bench.invite()
    await bench.until(lambda: bench.user_agent.sessions)
    caller.hang_up()
    await bench.settle()
    assert bench.user_agent.sessions[0].ended_with is Code.CALLER_HUNG_UP
    assert not bench.media.ports


async def test_a_cancelled_dial_stops_ringing(bench: Bench) -> None:
    async def body(call: Call) -> None:
        dial = asyncio.create_task(call.dial(TARGET, timeout_ms=5000))
        await bench.until(lambda: bench.user_agent.sessions)
        dial.cancel()
        await asyncio.wait([dial])
        assert dial.cancelled()
        await call.play([MUSIC])

    bench.contacts.by_user["1001"] = [DESK]
    bench.handler = answered(body)
    bench.invite()
    await bench.settle()
    assert bench.user_agent.sessions[0].ended_with is Code.CALLER_ABANDONED
    assert bench.media.played == ["music.wav"]
    assert bench.sink.cause("call_ended") == Code.FLOW_ENDED


async def test_toolbar_answers_the_phone(bench: Bench) -> None:
    legs: list[RingingLeg] = []
    outcome: list[object] = []
    bench.handler = dialling(outcome, on_ringing=legs.append)
    desk, mobile = await ringing(bench, DESK, MOBILE)
    desk.talk_result = False
    mobile.talk_result = True
    assert await legs[0].answer_remotely() is True
    mobile.talk_result = False
    assert await legs[0].answer_remotely() is False
    mobile.talk_result = None  # the NOTIFY stays without an answer until the phone answers
    waiting = asyncio.ensure_future(legs[0].answer_remotely())
    mobile.answer()
    assert await asyncio.wait_for(waiting, 1) is True
    mobile.hang_up()
    await bench.settle()
    assert await legs[0].answer_remotely() is False
    assert legs[0].leg_id


async def test_auto_answer_is_asked_for(bench: Bench) -> None:
    target = DialTarget("1001", "13812345678", auto_answer=True)
    bench.handler = dialling([], target=target)
    (phone,) = await ringing(bench, DESK)
    assert dict(phone.headers)["Answer-Mode"] == "Auto"
    phone.fail(Code.BUSY)
    await bench.settle()


async def test_a_phone_without_common_codec(bench: Bench) -> None:
    outcome: list[object] = []
    bench.handler = dialling(outcome)
    (phone,) = await ringing(bench, DESK)
    phone.answer(b"v=0\r\n")
    await bench.settle()
    assert outcome == [Code.FAR_END_REFUSED]
    assert phone.over


async def test_a_recording_that_cannot_begin_raises_an_alarm_and_the_call_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> Path:
        raise OSError("no space")

    object.__setattr__(bench.control._context, "recording_path", full)
    outcome: list[object] = []
    bench.handler = dialling(outcome)
    phone = await bridged(bench)
    phone.hang_up()
    await bench.settle()
    assert outcome == [HangUpParty.FAR_END]
    assert "alarm" in bench.sink.names
    assert "recording_finished" not in bench.sink.names


async def test_a_recording_that_failed(bench: Bench) -> None:
    bench.handler = dialling([])
    phone = await bridged(bench)
    (recording,) = bench.media.recordings
    failed = RecordingEnded(recording, "x.wav", "", 0, 0, 2, 9, (), "disk full")
    bench.control.on_media(failed)
    phone.hang_up()
    await bench.settle()
    assert bench.sink.cause("recording_finished") == Code.RECORDING_FAILED
    assert "disk full" in bench.sink.one("alarm").text


async def test_phone_holds_and_goes_silent(bench: Bench) -> None:
    outcome: list[object] = []
    bench.handler = dialling(outcome)
    phone = await bridged(bench)
    answer = phone.observer.on_reoffer(FakeSession().offer)
    assert isinstance(answer, bytes)
    assert isinstance(phone.observer.on_reoffer(b""), bytes)
    phone.observer.on_acknowledged(FakeSession().offer)
    assert phone.observer.on_reoffer(b"v=0") is Code.SDP_MALFORMED
    bench.media.time_out(max(bench.media.ports))
    await bench.settle()
    assert outcome == [HangUpParty.PLATFORM]
    assert phone.ended_with is Code.MEDIA_TIMEOUT


async def test_bridging_a_leg_that_is_gone(bench: Bench) -> None:
    ends: list[BridgeEnd] = []

    async def body(call: Call) -> None:
        leg = await call.dial(TARGET, timeout_ms=5000)
        bench.user_agent.sessions[0].hang_up()
        ends.append(await call.bridge(leg))

    bench.user_agent.on_invited = lambda session: session.answer()
    bench.contacts.by_user["1001"] = [DESK]
    bench.handler = answered(body)
    bench.invite()
    await bench.settle()
    assert ends == [BridgeEnd(HangUpParty.FAR_END, 0)]
