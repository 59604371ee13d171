"""What a handler can do with its call, and how calls end."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest

from cti.call import Call, Collected, CollectEnd
from cti.media import PortId
from cti.sdp import Direction
from domain.failures import CATALOGUE, Code, Outcome, PlatformError
from tests.call_control.conftest import Bench, answered, idle
from tests.fakes.descriptions import build_offer
from tests.fakes.session import FakeSession
from tests.fakes.turn import turn

GREETING, MENU, MUSIC = Path("greeting.wav"), Path("menu.wav"), Path("music.wav")


def port_of(bench: Bench) -> PortId:
    (port,) = bench.media.ports
    return port


async def test_prompt_played_to_its_end(bench: Bench) -> None:
    results: list[bool] = []

    async def body(call: Call) -> None:
        results.append(await call.play([GREETING, MENU]))

    bench.handler = answered(body)
    bench.invite()
    await bench.settle()
    assert results == [True]
    assert bench.media.played == ["greeting.wav", "menu.wav"]


async def test_a_key_stops_the_prompt_and_is_collected(bench: Bench) -> None:
    results: list[object] = []

    async def body(call: Call) -> None:
        results.append(await call.play([GREETING]))
        results.append(await call.play([MENU]))  # a key is waiting: nothing is played
        results.append(await call.collect([MENU]))

    bench.media.prompts_end_by_themselves = False
    bench.handler = answered(body)
    bench.invite()
    await bench.until(lambda: bench.media.played)
    bench.media.key(port_of(bench), "7")
    await bench.settle()
    assert results == [False, False, Collected("7", CollectEnd.COMPLETE)]
    assert bench.media.played == ["greeting.wav"]
    assert "stop 1" in bench.media.log


async def test_without_barge_in_keys_wait(bench: Bench) -> None:
    results: list[object] = []

    async def body(call: Call) -> None:
        results.append(await call.collect([MENU], max_digits=2, barge_in=False))

    bench.media.prompts_end_by_themselves = False
    bench.handler = answered(body)
    bench.invite()
    await bench.until(lambda: bench.media.played)
    bench.media.key(port_of(bench), "1")
    bench.media.key(port_of(bench), "2")
    for _ in range(5):
        await turn()
    assert not results
    bench.media.end_play(port_of(bench))
    await bench.settle()
    assert results == [Collected("12", CollectEnd.COMPLETE)]


async def test_timers_of_a_collection(bench: Bench) -> None:
    results: list[object] = []

    async def body(call: Call) -> None:
        collect = partial(
            call.collect, max_digits=4, first_digit_timeout_ms=5, inter_digit_timeout_ms=5
        )
        results.append(await collect([MENU]))
        bench.media.key(port_of(bench), "3")
        results.append(await collect())
        done.set()

    done = asyncio.Event()
    bench.handler = answered(body)
    bench.invite()
    await asyncio.wait_for(done.wait(), 2)
    assert results == [
        Collected("", CollectEnd.FIRST_DIGIT_TIMEOUT),
        Collected("3", CollectEnd.INTER_DIGIT_TIMEOUT),
    ]
    await bench.settle()


async def test_keys_by_info_count_like_keys_by_rtp(bench: Bench) -> None:
    results: list[object] = []

    async def body(call: Call) -> None:
        results.append(await call.next_digit())
        call.flush_digits()
        results.append(await call.next_digit())

    bench.handler = answered(body)
    session = bench.invite()
    await bench.until(lambda: bench.control.calls and "call_answered" in bench.sink.names)
    session.observer.on_info("application/dtmf-relay", b"Signal=5\r\nDuration=160\r\n")
    session.observer.on_info("application/dtmf-relay", b"Signal=6\r\nDuration=160\r\n")
    session.observer.on_info("text/plain", b"Signal=6")
    await bench.until(lambda: len(results) == 1)
    for _ in range(3):
        await turn()
    bench.media.key(port_of(bench), "*")
    await bench.settle()
    assert results == ["5", "*"]


async def test_music_goes_on_under_next_digit_and_ends_with_a_prompt(bench: Bench) -> None:
    async def body(call: Call) -> None:
        call.start_music([MUSIC])
        bench.media.key(port_of(bench), "0")
        await call.next_digit()
        assert bench.media.log[-1] == "loop 1 music.wav"
        call.stop_music()
        assert bench.media.log[-1] == "stop 1"
        call.stop_music()
        call.start_music([MUSIC])
        await call.play([GREETING])
        before = len(bench.media.log)
        call.stop_music()
        assert len(bench.media.log) == before

    bench.handler = answered(body)
    bench.invite()
    await bench.settle()
    assert bench.sink.cause("call_ended") == Code.FLOW_ENDED


async def test_a_prompt_that_cannot_be_played(bench: Bench) -> None:
    async def body(call: Call) -> None:
        with pytest.raises(PlatformError) as failure:
            await call.play([GREETING])
        assert failure.value.code is Code.PROMPT_FAILED
        raise failure.value

    bench.media.prompts_end_by_themselves = False
    bench.handler = answered(body)
    session = bench.invite()
    await bench.until(lambda: bench.media.played)
    bench.media.end_play(port_of(bench), error="no such file")
    await bench.settle()
    assert bench.sink.cause("call_ended") == Code.PROMPT_FAILED
    assert session.ended_with is Code.PROMPT_FAILED


async def test_a_handler_tidies_up_when_the_caller_hangs_up(bench: Bench) -> None:
    tidied: list[bool] = []

    async def body(call: Call) -> None:
        try:
            await call.play([GREETING])
        finally:
            await asyncio.wait_for(bench.contacts.lookup(call.info.tenant, "1"), 1)
            tidied.append(True)

    bench.media.prompts_end_by_themselves = False
    bench.handler = answered(body)
    session = bench.invite()
    await bench.until(lambda: bench.media.played)
    session.hang_up()
    await bench.settle()
    assert tidied == [True]
    assert bench.sink.cause("call_ended") == Code.CALLER_HUNG_UP
    assert bench.sink.one("call_ended").by == 1
    assert bench.sink.names[-1] == "call_ended"
    assert bench.sink.names.count("call_ended") == 1


async def test_tasks_of_a_handler_hear_of_the_end(bench: Bench) -> None:
    async def body(call: Call) -> None:
        key = asyncio.create_task(call.next_digit())
        call.start_music([MUSIC])
        try:
            await idle(call)
        finally:
            with pytest.raises(PlatformError) as failure:
                await key
            codes.append(failure.value.code)

    codes: list[Code] = []
    bench.handler = answered(body)
    session = bench.invite()
    await bench.until(lambda: bench.media.played)
    session.hang_up()
    await bench.settle()
    assert codes == [Code.NO_CALL]


async def test_a_bug_of_the_handler_ends_the_call_and_is_logged(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    async def body(call: Call) -> None:
        raise ZeroDivisionError

    bench.handler = answered(body)
    session = bench.invite()
    await bench.settle()
    assert session.ended_with is Code.INTERNAL
    assert bench.sink.cause("call_ended") == Code.INTERNAL
    output = capsys.readouterr().out
    assert output.count("handler_failed") == 1
    assert "13812345678" not in output


async def test_handler_hangs_up(bench: Bench) -> None:
    async def body(call: Call) -> None:
        await call.hang_up(Code.QUEUE_TIMEOUT)
        with pytest.raises(PlatformError):
            await call.play([GREETING])
        after.append(True)

    after: list[bool] = []
    bench.handler = answered(body)
    session = bench.invite()
    await bench.settle()
    assert after
    assert session.ended_with is Code.QUEUE_TIMEOUT
    assert bench.sink.cause("call_ended") == Code.QUEUE_TIMEOUT


async def test_media_before_the_answer_is_refused(bench: Bench) -> None:
    async def handler(call: Call) -> None:
        await call.play([GREETING])

    bench.handler = handler
    bench.invite()
    await bench.settle()
    assert bench.sink.cause("call_ended") == Code.STATE_FORBIDS


async def test_no_ack(bench: Bench) -> None:
    bench.handler = answered(idle)
    session = FakeSession()
    session.acknowledges_at_once = False
    bench.invite(session)
    await bench.until(lambda: session.accepted_sdp)
    session.fail(Code.ACK_MISSING)
    await bench.settle()
    assert bench.sink.cause("call_ended") == Code.ACK_MISSING
    assert "call_answered" not in bench.sink.names


async def test_silence_ends_the_call_but_not_on_hold(bench: Bench) -> None:
    bench.handler = answered(idle)
    session = bench.invite()
    await bench.until(lambda: "call_answered" in bench.sink.names)
    port = port_of(bench)
    connected = bench.media.ports[port]
    assert connected.connected is not None
    assert connected.connected.media_timeout_ms == 60_000

    held = build_offer("127.0.0.2", 40002, session_id=1, version=2, direction=Direction.SENDONLY)
    answer = session.observer.on_reoffer(held)
    assert isinstance(answer, bytes)
    assert b"a=recvonly" in answer
    assert connected.connected.remote_ip == "127.0.0.2"
    assert connected.connected.remote_port == 40002
    assert connected.connected.send is False

    inactive = build_offer(
        "127.0.0.2", 40002, session_id=1, version=3, direction=Direction.INACTIVE
    )
    session.observer.on_reoffer(inactive)
    assert connected.connected.media_timeout_ms == 0
    assert session.observer.on_reoffer(b"junk") is Code.SDP_MALFORMED
    assert connected.connected.receive is False
    assert b"m=audio" in session.observer.on_reoffer(b"")

    bench.media.time_out(port)
    await bench.settle()
    assert bench.sink.cause("call_ended") == Code.MEDIA_TIMEOUT
    assert session.ended_with is Code.MEDIA_TIMEOUT


async def test_a_call_cut_short_by_the_nodes_end_counts_as_failed(bench: Bench) -> None:
    bench.handler = answered(idle)
    session = bench.invite()
    await bench.until(lambda: "call_answered" in bench.sink.names)
    await asyncio.wait_for(bench.control.aclose(), 5)
    assert session.ended_with is Code.NODE_STOPPED
    assert bench.sink.cause("call_ended") == Code.NODE_STOPPED
    assert CATALOGUE[Code.NODE_STOPPED].outcome is Outcome.FAILED


async def test_a_handler_that_never_ends_does_not_keep_the_record_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    release = asyncio.Event()

    async def body(call: Call) -> None:
        try:
            await idle(call)
        finally:
            await release.wait()

    monkeypatch.setattr("cti.calls.parts._SETTLE_TIMEOUT_S", 0.01)
    bench.handler = answered(body)
    session = bench.invite()
    await bench.until(lambda: "call_answered" in bench.sink.names)
    for _ in range(5):
        await turn()
    session.hang_up()
    await asyncio.wait_for(bench.control.aclose(), 5)
    assert bench.control.calls == 0
    assert bench.sink.names.count("call_ended") == 1
    assert "call_did_not_settle" in capsys.readouterr().out
    release.set()
    for _ in range(5):
        await turn()
    assert bench.sink.names.count("call_ended") == 1
