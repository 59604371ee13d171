"""What a subscriber hears of a conversation while it goes on."""

from __future__ import annotations

from array import array
from pathlib import Path

from cti import audio
from cti.media import PlayEnded, PortId, TapAudio, TapEnded, TapId
from cti.media_engine import RtpEngine
from tests.media.peer import Events, bridge, connect


def _phone(engine: RtpEngine) -> tuple[PortId, PortId]:
    """Return a phone and the port it talks to."""
    phone, phone_number = engine.open_port("127.0.0.1")
    port, number = engine.open_port("127.0.0.1")
    connect(engine, phone, number)
    connect(engine, port, phone_number)
    return phone, port


def _sound(pieces: list[bytes]) -> audio.Sound:
    return audio.Sound(array("h", b"".join(pieces)))


async def test_both_sides_come_in_pieces_and_in_time(
    engine: RtpEngine, events: Events, tmp_path: Path
) -> None:
    (caller_phone, caller), (agent_phone, agent) = _phone(engine), _phone(engine)
    bridge(engine, caller, agent)
    tap = engine.start_tap([caller], [agent])
    plays = [
        engine.play(phone, [str(audio.write_tone(tmp_path / f"{hz}.wav", hz, 1000))])
        for phone, hz in ((caller_phone, 440), (agent_phone, 1000))
    ]
    for play in plays:
        await events.wait(PlayEnded, play=play)
    engine.stop_tap(tap)
    ended = await events.wait(TapEnded, tap=tap)
    pieces = events.of(TapAudio, tap=tap)
    assert ended.dropped_ms == 0
    lengths_ms = [len(piece.left) // 16 for piece in pieces]
    assert lengths_ms[:-1] == [200] * (len(pieces) - 1)
    assert [piece.start_ms for piece in pieces] == [200 * index for index in range(len(pieces))]
    assert sum(lengths_ms) == ended.duration_ms
    left = _sound([piece.left for piece in pieces])
    right = _sound([piece.right for piece in pieces])
    for sound, hz, other_hz in ((left, 440, 1000), (right, 1000, 440)):
        assert sum(span.duration_ms for span in audio.tone_spans(sound, hz)) >= 800
        assert audio.tone_spans(sound, other_hz) == []


async def test_sides_change_while_the_tap_goes_on(
    engine: RtpEngine, events: Events, tmp_path: Path
) -> None:
    (phone, port), (other_phone, other) = _phone(engine), _phone(engine)
    tap = engine.start_tap([port], [])
    for index, (speaker, hz) in enumerate(((phone, 440), (other_phone, 1000))):
        play = engine.play(speaker, [str(audio.write_tone(tmp_path / f"{hz}.wav", hz, 600))])
        await events.wait(PlayEnded, play=play)
        if not index:
            engine.set_tap_sides(tap, [], [other])
    engine.stop_tap(tap)
    engine.set_tap_sides(tap, [port], [])  # of a tap that is gone
    ended = await events.wait(TapEnded, tap=tap)
    pieces = events.of(TapAudio, tap=tap)
    assert ended.dropped_ms == 0
    assert sum(len(piece.left) // 16 for piece in pieces) == ended.duration_ms
    (first,) = audio.tone_spans(_sound([piece.left for piece in pieces]), 440)
    (second,) = audio.tone_spans(_sound([piece.right for piece in pieces]), 1000)
    assert first.end_ms <= second.start_ms
    assert min(first.duration_ms, second.duration_ms) >= 500


async def test_a_reader_that_does_not_keep_up_costs_itself_only(
    inside_engine: RtpEngine, events: Events
) -> None:
    """Nothing is taken while 60 taps of one port make 300 pieces a second."""
    engine = inside_engine
    _, port = _phone(engine)
    taps = [engine.start_tap([port], []) for _ in range(60)]
    while engine.figures()["dropped_tap_frames"] < 100:
        pass  # the loop that takes the events stands still
    for tap in taps:
        engine.stop_tap(tap)
    ended = [await events.wait(TapEnded, tap=tap) for tap in taps]
    dropped_ms = sum(event.dropped_ms for event in ended)
    assert dropped_ms == engine.figures()["dropped_tap_frames"] * 20
    heard_ms = sum(len(piece.left) // 16 for piece in events.of(TapAudio))
    assert heard_ms + dropped_ms == sum(event.duration_ms for event in ended)
    assert engine.figures()["taps"] == 0


async def test_a_tap_that_is_gone_is_ignored(engine: RtpEngine, events: Events) -> None:
    engine.stop_tap(TapId(999_999))
    tap = engine.start_tap([], [])
    engine.stop_tap(tap)
    assert await events.wait(TapEnded, tap=tap) == TapEnded(tap, 0, 0)
