"""Who hears whom, shown by tones: bridges and recordings on real sockets."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from dataclasses import dataclass
from pathlib import Path

import pytest

from cti import audio
from cti.media import Codec, PlayEnded, PortClosed, PortId, RecordingEnded
from cti.media_engine import RtpEngine
from cti.media_remote.client import RemoteEngine
from tests.media.conftest import inside, remote
from tests.media.peer import FRAME, PCMA_SILENCE, Events, Peer, bridge, connect, rtp

CALLER_HZ, AGENT_HZ = 440, 1000


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@dataclass
class Party:
    """A phone (a port of its own) and the platform's port it talks to."""

    phone: PortId
    port: PortId


def _party(engine: RtpEngine, codec: Codec = Codec.PCMA, host: str = "127.0.0.1") -> Party:
    phone, phone_number = engine.open_port(host)
    port, number = engine.open_port(host)
    connect(engine, phone, number, codec=codec, remote_ip=host)
    connect(engine, port, phone_number, codec=codec, remote_ip=host)
    return Party(phone, port)


async def _talk(engine: RtpEngine, events: Events, parties: list[Party], directory: Path) -> None:
    """Let each party play its own tone for a second, and wait until it must have been heard."""
    plays = []
    for party, frequency_hz in zip(parties, (CALLER_HZ, AGENT_HZ), strict=False):
        path = audio.write_wav(
            directory / f"{frequency_hz}.wav", audio.tone(frequency_hz, 1000), audio.silence(200)
        )
        plays.append(engine.play(party.phone, [str(path)]))
    for play in plays:
        await events.wait(PlayEnded, play=play)


def _size_and_hash(path: str) -> tuple[int, str]:
    data = Path(path).read_bytes()
    return len(data), hashlib.sha256(data).hexdigest()


def _spoken_ms(sound: audio.Sound, frequency_hz: int) -> int:
    return sum(span.duration_ms for span in audio.tone_spans(sound, frequency_hz))


@pytest.mark.parametrize(
    ("engines", "caller_codec", "agent_codec", "host"),
    [
        (inside, Codec.PCMA, Codec.PCMA, "127.0.0.1"),
        (inside, Codec.PCMA, Codec.PCMU, "127.0.0.1"),
        (inside, Codec.PCMU, Codec.PCMU, "127.0.0.1"),
        (inside, Codec.PCMA, Codec.OPUS, "127.0.0.1"),
        (inside, Codec.G722, Codec.G729, "127.0.0.1"),
        (inside, Codec.OPUS, Codec.G722, "127.0.0.1"),
        (inside, Codec.G729, Codec.PCMU, "127.0.0.1"),
        (inside, Codec.G722, Codec.G722, "127.0.0.1"),
        (inside, Codec.G729, Codec.G729, "127.0.0.1"),
        (inside, Codec.OPUS, Codec.OPUS, "127.0.0.1"),
        # A codec is but a name on the way to a media process.
        (remote, Codec.OPUS, Codec.PCMA, "127.0.0.1"),
        *(
            pytest.param(
                engines,
                Codec.PCMU,
                Codec.PCMA,
                "::1",
                marks=pytest.mark.skipif(not _has_ipv6(), reason="no IPv6 here"),
            )
            for engines in (inside, remote)
        ),
    ],
    indirect=["engines"],
)
async def test_both_sides_hear_each_other_and_the_recording_hears_both(
    engine: RtpEngine,
    events: Events,
    tmp_path: Path,
    caller_codec: Codec,
    agent_codec: Codec,
    host: str,
) -> None:
    caller, agent = _party(engine, caller_codec, host), _party(engine, agent_codec, host)
    bridge(engine, caller.port, agent.port)
    said = engine.start_recording(str(tmp_path / "new" / "said.wav"), [caller.port], [agent.port])
    heard = engine.start_recording(str(tmp_path / "heard.wav"), [caller.phone], [agent.phone])
    await _talk(engine, events, [caller, agent], tmp_path)
    for recording, (left_hz, right_hz) in (
        (said, (CALLER_HZ, AGENT_HZ)),
        (heard, (AGENT_HZ, CALLER_HZ)),
    ):
        engine.stop_recording(recording)
        ended = await events.wait(RecordingEnded, recording=recording)
        assert (ended.error, ended.dropped_frames, ended.channels) == ("", 0, 2)
        left, right = audio.read_wav(Path(ended.path))
        assert left.duration_ms == right.duration_ms == ended.duration_ms
        assert _spoken_ms(left, left_hz) >= 800
        assert _spoken_ms(right, right_hz) >= 800
        assert _spoken_ms(left, right_hz) == _spoken_ms(right, left_hz) == 0
        assert _size_and_hash(ended.path) == (ended.size_bytes, ended.sha256)


async def test_an_ended_bridge_is_silent_and_a_new_one_replaces_it(
    engine: RtpEngine, events: Events, tmp_path: Path
) -> None:
    caller, agent, third = _party(engine), _party(engine), _party(engine)
    bridge(engine, caller.port, agent.port)
    engine.set_routes({caller.port: [third.port], third.port: [caller.port], agent.port: []})
    recording = engine.start_recording(str(tmp_path / "heard.wav"), [agent.phone], [third.phone])
    await _talk(engine, events, [caller], tmp_path)
    engine.set_routes({caller.port: [], third.port: []})
    await _talk(engine, events, [caller], tmp_path)
    engine.stop_recording(recording)
    ended = await events.wait(RecordingEnded, recording=recording)
    agent_heard, third_heard = audio.read_wav(Path(ended.path))
    assert _spoken_ms(agent_heard, CALLER_HZ) == 0
    assert 800 <= _spoken_ms(third_heard, CALLER_HZ) <= 1100


async def test_what_plays_is_heard_in_place_of_the_routes_and_a_closed_source_is_silence(
    engine: RtpEngine, events: Events, tmp_path: Path
) -> None:
    caller, agent = _party(engine), _party(engine)
    music = audio.write_tone(tmp_path / "music.wav", 600, 300)
    play = engine.play(caller.port, [str(music)], loop=True)
    bridge(engine, caller.port, agent.port)
    heard = engine.start_recording(str(tmp_path / "heard.wav"), [caller.phone], None)
    await _talk(engine, events, [agent], tmp_path)
    engine.stop_play(caller.port)
    assert not (await events.wait(PlayEnded, play=play)).completed
    await _talk(engine, events, [agent], tmp_path)
    engine.stop_recording(heard)
    (sound,) = audio.read_wav(Path((await events.wait(RecordingEnded)).path))
    assert _spoken_ms(sound, 600) >= 900
    assert 800 <= _spoken_ms(sound, CALLER_HZ) <= 1100
    engine.close_port(agent.port)
    await events.wait(PortClosed, port=agent.port)
    again = engine.play(caller.port, [str(music)])
    assert (await events.wait(PlayEnded, play=again)).completed


async def test_channels_are_aligned(
    inside_engine: RtpEngine, events: Events, tmp_path: Path
) -> None:
    """Two far ends begin their tones at the same instant."""
    engine = inside_engine
    peers = [await Peer.open() for _ in range(2)]
    ports = [engine.open_port("127.0.0.1") for _ in range(2)]
    for peer, (port, _) in zip(peers, ports, strict=True):
        connect(engine, port, peer.port)
    bridge(engine, ports[0][0], ports[1][0])
    path = tmp_path / "aligned.wav"
    recording = engine.start_recording(str(path), [ports[0][0]], [ports[1][0]])
    # Silence, then a square wave of 1000 Hz, in A-law octets.
    square = (b"\x2a" * 4 + b"\xaa" * 4) * (FRAME // 8)
    start_s = asyncio.get_running_loop().time() + 0.05
    streams = []
    for peer, (_, number) in zip(peers, ports, strict=True):
        frames = [PCMA_SILENCE] * 20 + [square] * 30
        packets = [rtp(8, index, index * FRAME, frame) for index, frame in enumerate(frames)]
        streams.append(peer.stream(number, packets, start_s))
    await asyncio.gather(*streams)
    engine.stop_recording(recording)
    await events.wait(RecordingEnded, recording=recording)
    left, right = (audio.tone_onset_ms(sound, 1000) for sound in audio.read_wav(path))
    assert left is not None
    assert right is not None
    assert abs(left - right) <= 20


async def test_a_recording_goes_on_in_silence_when_a_port_closes(
    engine: RtpEngine, events: Events, tmp_path: Path
) -> None:
    caller, agent = _party(engine), _party(engine)
    bridge(engine, caller.port, agent.port)
    recording = engine.start_recording(str(tmp_path / "one.wav"), [caller.port], [agent.port])
    mono = engine.start_recording(str(tmp_path / "mono.wav"), [agent.port], None)
    engine.close_port(caller.port)
    await _talk(engine, events, [caller, agent], tmp_path)
    assert events.of(RecordingEnded) == []
    engine.stop_recording(recording)
    ended = await events.wait(RecordingEnded, recording=recording)
    left, right = audio.read_wav(Path(ended.path))
    assert _spoken_ms(left, CALLER_HZ) == 0
    assert _spoken_ms(right, AGENT_HZ) >= 800
    await engine.aclose()
    ended = await events.wait(RecordingEnded, recording=mono)
    assert (ended.channels, ended.error) == (1, "")
    assert _spoken_ms(audio.read_wav(Path(ended.path))[0], AGENT_HZ) >= 800


async def test_a_file_that_cannot_be_written_is_reported_at_once(
    engine: RtpEngine, events: Events, tmp_path: Path
) -> None:
    party = _party(engine)
    (tmp_path / "file").write_text("in the way")
    recording = engine.start_recording(str(tmp_path / "file" / "x.wav"), [party.port], None)
    if isinstance(engine, RemoteEngine):
        engine.stop_recording(recording)  # it comes here only after its end
    ended = await events.wait(RecordingEnded, recording=recording)
    assert "file" in ended.error
    engine.stop_recording(recording)
    engine.close_port(party.port)
    await events.wait(PortClosed, port=party.port)
    assert len(events.of(RecordingEnded)) == 1
