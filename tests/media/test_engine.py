"""Prompts, digits, figures and ports of the media engine, on real sockets."""

from __future__ import annotations

import asyncio
import statistics
import struct
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import cast

import pytest

from cti import audio
from cti.media import (
    Codec,
    Connection,
    DigitReceived,
    DigitsSent,
    MediaTimedOut,
    PlayEnded,
    PortClosed,
    PortId,
    RecordingId,
)
from cti.media_engine import RtpEngine
from domain.failures import Code, PlatformError
from tests.media.conftest import Engines
from tests.media.peer import FRAME, PCMA_SILENCE, WAIT_S, Events, Peer, connect, rtp
from tests.peers.waiting import wait_until


async def _called(engine: RtpEngine, media_timeout_ms: int = 0) -> tuple[Peer, PortId, int]:
    """Open a port and connect it to a far end."""
    peer = await Peer.open()
    port, number = engine.open_port("127.0.0.1")
    connect(engine, port, peer.port, media_timeout_ms=media_timeout_ms)
    return peer, port, number


async def test_prompt_is_sent_seamlessly_and_on_time(
    inside_engine: RtpEngine, events: Events, tmp_path: Path
) -> None:
    engine = inside_engine
    peer, port, _ = await _called(engine)
    first = audio.write_tone(tmp_path / "first.wav", 440, 500)
    second = audio.write_tone(tmp_path / "second.wav", 440, 490)
    play = engine.play(port, [str(first), str(second)])
    ended = await events.wait(PlayEnded)
    assert (ended.play, ended.completed, ended.error) == (play, True, "")
    sent = await peer.wait(len(peer.received) + 2)
    assert [packet.marker for packet in sent] == [True] + [False] * (len(sent) - 1)
    assert len({packet.ssrc for packet in sent}) == 1
    for before, after in pairwise(sent):
        assert (after.sequence - before.sequence) % (1 << 16) == 1
        assert (after.timestamp - before.timestamp) % (1 << 32) == FRAME
    voice = b"".join(packet.payload for packet in sent).strip(b"\xd5")
    assert abs(len(voice) - 990 * 8) <= 8
    span_s = sent[-1].arrived_s - sent[0].arrived_s
    assert abs(span_s - 0.02 * (len(sent) - 1)) < 0.1


@pytest.mark.parametrize("packet_time_ms", [10, 30, 50])
async def test_packets_leave_between_the_ticks_where_they_are_due(
    inside_engine: RtpEngine, packet_time_ms: int
) -> None:
    peer = await Peer.open()
    port, _ = inside_engine.open_port("127.0.0.1")
    connect(inside_engine, port, peer.port, packet_time_ms=packet_time_ms)
    sent = await peer.wait(41)
    for before, after in pairwise(sent):
        assert (after.sequence - before.sequence) % (1 << 16) == 1
        assert (after.timestamp - before.timestamp) % (1 << 32) == 8 * packet_time_ms
        assert len(after.payload) == 8 * packet_time_ms
    # In pairs, or by the ticks of 20 ms, each would be 10 ms off.
    off_ms = [
        abs(1000 * (after.arrived_s - before.arrived_s) - packet_time_ms)
        for before, after in pairwise(sent)
    ]
    assert statistics.median(off_ms) < 5


async def test_packets_flow_while_python_is_busy(inside_engine: RtpEngine) -> None:
    engine = inside_engine
    peer, _, _ = await _called(engine)
    await peer.wait(3)
    before = engine.figures()["packets_sent"]
    until = time.monotonic() + 0.3
    while time.monotonic() < until:
        pass
    assert engine.figures()["packets_sent"] - before >= 12


async def test_looped_music_goes_on_until_stopped(
    engine: RtpEngine, events: Events, tmp_path: Path
) -> None:
    peer, port, _ = await _called(engine)
    music = audio.write_tone(tmp_path / "music.wav", 440, 100)
    replaced = engine.play(port, [str(music)], loop=True)
    play = engine.play(port, [str(music)], loop=True)
    await peer.wait(20)
    engine.stop_play(port)
    ended = await events.wait(PlayEnded)
    assert (ended.play, ended.completed, ended.error) == (play, False, "")
    assert events.of(PlayEnded, play=replaced) == []
    assert any(packet.payload != PCMA_SILENCE for packet in peer.received[12:])


async def test_files_that_cannot_be_played_say_why(
    engine: RtpEngine, events: Events, tmp_path: Path
) -> None:
    _, port, _ = await _called(engine)
    good = audio.write_tone(tmp_path / "good.wav", 440, 100)
    header = bytearray(good.read_bytes())
    header[24:28] = struct.pack("<I", 16_000)
    fast = tmp_path / "fast.wav"
    fast.write_bytes(header)
    for paths, why in (
        ([str(tmp_path / "absent.wav")], "absent.wav"),
        ([str(good), str(fast)], "16000 Hz; 8000 Hz is needed"),
    ):
        play = engine.play(port, paths)
        ended = await events.wait(PlayEnded, play=play)
        assert not ended.completed
        assert why in ended.error
    play = engine.play(port, [])
    assert (await events.wait(PlayEnded, play=play)).completed


async def test_digits_pass_from_port_to_port(inside_engine: RtpEngine, events: Events) -> None:
    engine = inside_engine
    a, a_number = engine.open_port("127.0.0.1")
    b, b_number = engine.open_port("127.0.0.1")
    connect(engine, a, b_number)
    connect(engine, b, a_number)
    digits = "1234567890*#ABCD"
    engine.send_digits(a, digits, tone_ms=60, gap_ms=60)
    await events.wait(DigitsSent, port=a)
    await events.wait(DigitReceived, count=len(digits), port=b)
    heard = events.of(DigitReceived)
    assert "".join(event.digit for event in heard) == digits
    assert {event.duration_ms for event in heard} == {60}


async def test_a_key_whose_end_is_lost_is_reported_once(
    inside_engine: RtpEngine, events: Events
) -> None:
    engine = inside_engine
    peer, port, number = await _called(engine)
    connect(engine, port, peer.port)
    await peer.wait(1)
    presses = [rtp(101, index, 5000, bytes([7, 10, 0, 160 * (index % 2)])) for index in range(3)]
    late_end = rtp(101, 3, 5000, bytes([7, 0x8A, 3, 0x20]))
    await peer.stream(number, presses)
    await events.wait(DigitReceived)
    peer.send(late_end, number)
    peer.send(rtp(101, 4, 9000, bytes([8, 0x8A, 3, 0x20])), number)
    await events.wait(DigitReceived, count=2)
    assert [event.digit for event in events.of(DigitReceived)] == ["7", "8"]


async def test_bad_datagrams_are_counted_and_harmless(
    inside_engine: RtpEngine, events: Events
) -> None:
    engine = inside_engine
    peer, port, number = await _called(engine)
    stranger = await Peer.open("127.0.0.2")
    await peer.wait(1)
    bad = [b"x", b"\x80" * 11, b"\x00" * 40, b"\xff" * 1400, rtp(8, 1, 0, b""), b"\xaf" * 12]
    await peer.stream(number, [*bad, rtp(96, 2, 0, b"what"), rtp(101, 3, 0, b"abc")])
    await stranger.stream(number, [rtp(8, 4, 0, PCMA_SILENCE)] * 2)
    good = [rtp(8, 10 + index, index * FRAME, PCMA_SILENCE) for index in range(20) if index != 7]
    await peer.stream(number, good)
    sent = len(await peer.wait(len(peer.received) + 2))
    engine.close_port(port)
    figures = (await events.wait(PortClosed, port=port)).figures
    assert figures.packets_invalid == len(bad) + 4
    assert (figures.packets_received, figures.packets_lost) == (19, 1)
    assert figures.packets_sent >= sent
    assert figures.jitter_ms < 20
    counted = len(bad) + 4
    await wait_until(
        lambda: engine.figures()["packets_invalid"] == counted, WAIT_S, "the engine's own count"
    )


async def test_packets_follow_the_port_the_far_end_sends_from(inside_engine: RtpEngine) -> None:
    engine = inside_engine
    negotiated, actual = await Peer.open(), await Peer.open()
    port, number = engine.open_port("127.0.0.1")
    connect(engine, port, negotiated.port)
    await negotiated.wait(2)
    actual.send(rtp(8, 1, 0, PCMA_SILENCE), number)
    await actual.wait(3)


async def test_a_far_end_that_moves_in_the_midst_of_a_call_is_followed(
    inside_engine: RtpEngine,
) -> None:
    engine = inside_engine
    first, second = await Peer.open(), await Peer.open()
    port, number = engine.open_port("127.0.0.1")
    connect(engine, port, first.port)
    # Long enough for the socket to be tied to where it is called from.
    voice = [rtp(8, index, index * FRAME, PCMA_SILENCE) for index in range(80)]
    await first.stream(number, voice)
    moved = [rtp(8, 80 + index, (80 + index) * FRAME, PCMA_SILENCE) for index in range(30)]
    await second.stream(number, moved)
    await second.wait(3)


async def test_a_far_end_that_has_gone_and_comes_back_is_reached(inside_engine: RtpEngine) -> None:
    engine = inside_engine
    peer, port, number = await _called(engine)
    voice = [rtp(8, index, index * FRAME, PCMA_SILENCE) for index in range(80)]
    await peer.stream(number, voice)
    peer.transport.close()
    # Another call tells when packets have gone to nobody for a while.
    other, _, _ = await _called(engine)
    await other.wait(20)
    back = await Peer.open()
    connect(engine, port, back.port)
    await back.wait(10)


async def test_missing_media_is_reported(engine: RtpEngine, events: Events) -> None:
    peer, port, number = await _called(engine, media_timeout_ms=100)
    await events.wait(MediaTimedOut, port=port)
    peer.send(rtp(8, 1, 0, PCMA_SILENCE), number)
    await events.wait(MediaTimedOut, port=port, count=2)


async def test_ports_run_out_and_come_back(
    engines: Engines, events: Events, tmp_path: Path
) -> None:
    async with engines(events, tmp_path, port_min=45_001, port_max=45_004) as engine:
        opened = [engine.open_port("127.0.0.1") for _ in range(2)]
        assert sorted(number for _, number in opened) == [45_002, 45_004]
        with pytest.raises(PlatformError) as failure:
            engine.open_port("127.0.0.1")
        assert failure.value.code is Code.MEDIA_PORTS_EXHAUSTED
        port, number = opened[0]
        engine.close_port(port)
        await events.wait(PortClosed, port=port)
        assert engine.open_port("127.0.0.1")[1] == number
        await engine.aclose()
        assert len(events.of(PortClosed)) == 3
        assert engine.figures()["ports"] == 0


async def test_wrong_use_is_refused(engine: RtpEngine) -> None:
    for address in ("nowhere", "192.0.2.77"):
        with pytest.raises(PlatformError) as failure:
            engine.open_port(address)
        assert failure.value.code is Code.CONFIG_INVALID
    port, _ = engine.open_port("127.0.0.1")
    good = Connection("127.0.0.1", 5000, Codec.PCMA, 8)
    bad = (replace(good, codec=cast("Codec", "GSM")), replace(good, remote_ip="example.com"))
    for connection in (*bad, replace(good, remote_port=65_536)):
        with pytest.raises(PlatformError) as failure:
            engine.connect(port, connection)
        assert failure.value.code is Code.SDP_MALFORMED


async def test_commands_for_a_port_that_is_gone_are_ignored(
    engine: RtpEngine, events: Events
) -> None:
    gone = PortId(999_999)
    engine.play(gone, ["/absent.wav"])
    engine.stop_play(gone)
    engine.send_digits(gone, "1", tone_ms=100, gap_ms=100)
    engine.set_routes({gone: [gone]})
    engine.set_recording_sides(RecordingId(999_999), [gone], [])
    engine.close_port(gone)
    connect(engine, gone, 5000)
    peer, _, _ = await _called(engine)
    await asyncio.wait_for(peer.wait(2), WAIT_S)
    assert events.all == []
