"""Keys as events and as tones, from port to port, and the tones of the network."""

from __future__ import annotations

import pytest

from cti.media import (
    Answer,
    AnswerJudged,
    Codec,
    Connection,
    Detect,
    DigitReceived,
    DigitSource,
    DigitsSent,
    PlayEnded,
    PortId,
    Signal,
    Tone,
    ToneDetected,
)
from cti.media_engine import RtpEngine
from tests.media.peer import Events

DIGITS = "1590*#AD"
NOTHING: frozenset[Detect] = frozenset()


def connect_pair(
    engine: RtpEngine, *, digits: int | None = 101, detect: frozenset[Detect] = NOTHING
) -> tuple[PortId, PortId]:
    """Two ports that talk to each other: a far end's, and ours, which detects."""
    far, far_number = engine.open_port("127.0.0.1")
    near, near_number = engine.open_port("127.0.0.1")
    for port, number, wanted in ((far, near_number, NOTHING), (near, far_number, detect)):
        engine.connect(
            port,
            Connection(
                remote_ip="127.0.0.1",
                remote_port=number,
                codec=Codec.PCMA,
                payload_type=8,
                digit_payload_type=digits,
                detect=wanted,
            ),
        )
    return far, near


def _keys(events: Events, port: PortId) -> str:
    return "".join(event.digit for event in events.of(DigitReceived, port=port))


@pytest.mark.parametrize(
    ("digits", "source"), [(101, DigitSource.RFC4733), (None, DigitSource.INBAND)]
)
async def test_keys_arrive_whatever_was_negotiated(
    engine: RtpEngine, events: Events, digits: int | None, source: DigitSource
) -> None:
    far, near = connect_pair(engine, digits=digits, detect=frozenset({Detect.DTMF}))
    engine.send_digits(far, DIGITS, tone_ms=80, gap_ms=80)
    await events.wait(DigitsSent, port=far)
    await events.wait(DigitReceived, count=len(DIGITS), port=near)
    assert _keys(events, near) == DIGITS
    assert {event.source for event in events.of(DigitReceived)} == {source}


async def test_keys_in_the_audio_are_not_looked_for_unless_asked(
    inside_engine: RtpEngine, events: Events
) -> None:
    engine = inside_engine
    far, _ = connect_pair(engine, digits=None)
    engine.send_digits(far, DIGITS, tone_ms=60, gap_ms=60)
    await events.wait(DigitsSent, port=far)
    assert events.of(DigitReceived) == []


@pytest.mark.parametrize("digits", [101, None])
async def test_keys_cross_from_one_party_to_the_other(
    engine: RtpEngine, events: Events, digits: int | None
) -> None:
    caller, caller_port = connect_pair(engine)
    # The platform's phone of the callee listens to what it gets.
    callee_port, callee = connect_pair(engine, digits=digits, detect=frozenset({Detect.DTMF}))
    engine.set_routes({callee_port: [caller_port], caller_port: [callee_port]})
    engine.set_key_routes({callee_port: [caller_port], caller_port: [callee_port]})
    engine.send_digits(caller, DIGITS, tone_ms=100, gap_ms=100)
    await events.wait(DigitsSent, port=caller)
    await events.wait(DigitReceived, count=len(DIGITS), port=callee)
    assert _keys(events, callee) == DIGITS
    assert _keys(events, caller_port) == DIGITS
    for event in events.of(DigitReceived, port=callee):
        assert 80 <= event.duration_ms <= 120
    assert events.of(DigitsSent, port=callee_port) == []

    # Whose keys are not wanted any more presses them unheard.
    engine.set_key_routes({callee_port: []})
    engine.send_digits(caller, "7", tone_ms=100, gap_ms=100)
    await events.wait(DigitReceived, count=len(DIGITS) + 1, port=caller_port)
    assert _keys(events, callee) == DIGITS


@pytest.mark.parametrize(
    ("tone", "signal", "detect"),
    [
        (Tone.RINGBACK, Signal.RINGBACK, Detect.PROGRESS),
        (Tone.BUSY, Signal.BUSY, Detect.PROGRESS),
        (Tone.UNOBTAINABLE, Signal.UNOBTAINABLE, Detect.PROGRESS),
        (Tone.FAX_CALLING, Signal.FAX_CALLING, Detect.FAX),
        (Tone.FAX_ANSWER, Signal.FAX_ANSWER, Detect.FAX),
    ],
)
async def test_tones_are_played_and_recognised(
    inside_engine: RtpEngine, events: Events, tone: Tone, signal: Signal, detect: Detect
) -> None:
    engine = inside_engine
    far, near = connect_pair(engine, detect=frozenset({detect}))
    engine.play_tone(far, tone)
    found = await events.wait(ToneDetected, port=near)
    assert found.signal is signal


async def test_a_tone_ends_after_a_period_or_goes_on(engine: RtpEngine, events: Events) -> None:
    far, _ = connect_pair(engine)
    once = engine.play_tone(far, Tone.BUSY, loop=False)
    ended = await events.wait(PlayEnded, play=once)
    assert ended.completed
    engine.play_tone(far, Tone.BUSY)
    engine.stop_play(far)
    assert not (await events.wait(PlayEnded, count=2)).completed


async def test_silence_after_an_answer_is_judged(engine: RtpEngine, events: Events) -> None:
    _, near = connect_pair(engine, detect=frozenset({Detect.ANSWER}))
    judged = await events.wait(AnswerJudged, port=near)
    assert judged.answer is Answer.SILENCE
