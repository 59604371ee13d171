"""What recordings hold: sides that change, pauses, A-law, and files that a crash leaves behind."""

from __future__ import annotations

import asyncio
import struct
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

import pytest

from cti import audio
from cti.media import PlayEnded, PortId, RecordingEnded, RecordingForm
from cti.media_engine import RtpEngine
from tests.media.peer import Events, connect

Change: TypeAlias = tuple[int, Callable[[], None]]

BURST_MS = 120
LOUD_HZ = 1000


class Speakers:
    """Far ends that say the same at the same instants: what one port of theirs hears."""

    def __init__(
        self, engine: RtpEngine, far_ends: RtpEngine, far_events: Events, directory: Path
    ) -> None:
        self.engine, self.far_ends, self.far_events = engine, far_ends, far_events
        self.directory = directory
        self.ports: list[PortId] = []

    async def speak(self, count: int, bursts_ms: list[int], *changes: Change) -> None:
        """Say bursts at these times; `changes` are made in between."""
        mouth, mouth_number = self.far_ends.open_port("127.0.0.1")
        ear, ear_number = self.far_ends.open_port("127.0.0.1")
        connect(self.far_ends, mouth, ear_number)
        connect(self.far_ends, ear, mouth_number)
        routes = {}
        for _ in range(count):
            far, far_number = self.far_ends.open_port("127.0.0.1")
            port, number = self.engine.open_port("127.0.0.1")
            connect(self.far_ends, far, number)
            connect(self.engine, port, far_number)
            self.ports.append(port)
            routes[far] = [ear]
        self.far_ends.set_routes(routes)
        clip = audio.write_wav(self.directory / "bursts.wav", *_bursts(bursts_ms))
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        play = self.far_ends.play(mouth, [str(clip)])
        for at_ms, change in changes:
            loop.call_at(start_s + at_ms / 1000, change)
        await self.far_events.wait(PlayEnded, play=play)

    @property
    def was_late(self) -> bool:
        """Whether the machine ran an engine too late, so that time itself had gaps."""
        engines = self.engine, self.far_ends
        late = ("sent_later", "skipped_rounds")
        return any(each.figures()[name] for each in engines for name in late)


@pytest.fixture
def speakers(
    engine: RtpEngine, far_ends: RtpEngine, far_events: Events, tmp_path: Path
) -> Speakers:
    return Speakers(engine, far_ends, far_events, tmp_path)


def _bursts(starts_ms: list[int]) -> list[audio.Sound]:
    parts, reached_ms = [], 0
    for start_ms in starts_ms:
        parts += [audio.silence(start_ms - reached_ms), audio.tone(LOUD_HZ, BURST_MS)]
        reached_ms = start_ms + BURST_MS
    return [*parts, audio.silence(300)]


def _onsets(sound: audio.Sound) -> list[int]:
    """Where each burst sets in, to the sample of a millisecond."""
    return [
        span.start_ms
        for span in audio.sound_spans(sound, threshold_dbfs=-30, max_gap_ms=60, min_ms=40)
    ]


async def test_sides_stay_aligned_through_hold_transfer_and_conference(
    engine: RtpEngine, events: Events, speakers: Speakers, tmp_path: Path
) -> None:
    path = tmp_path / "aligned.wav"
    recording = engine.start_recording(str(path), [], [])

    def sides(*right: int) -> Callable[[], None]:
        def change() -> None:
            customer, *others = speakers.ports
            heard = [others[each] for each in right]
            routes: dict[PortId, list[PortId]] = {port: [] for port in speakers.ports}
            routes |= {port: [customer] for port in heard}
            routes[customer] = heard
            engine.set_routes(routes)
            engine.set_recording_sides(recording, [customer], heard)

        return change

    await speakers.speak(
        3,
        [500, 1000, 1500, 2000, 2500],
        (0, sides(0)),
        (850, sides()),
        (1350, sides(0)),
        (1850, sides(1)),
        (2350, sides(0, 1)),
    )
    engine.stop_recording(recording)
    ended = await events.wait(RecordingEnded, recording=recording)
    assert ended.error == ""
    left, right = audio.read_wav(path)
    said, heard = _onsets(left), _onsets(right)
    assert len(said) == 5
    assert len(heard) == 4, "on hold the customer hears nobody"
    for at_left, at_right in zip([said[0], *said[2:]], heard, strict=True):
        assert abs(at_left - at_right) <= 20
    if not speakers.was_late:
        assert all(abs(after - before - 500) <= 20 for before, after in pairwise(said))


async def test_a_pause_is_silence_and_is_listed(
    engine: RtpEngine, events: Events, speakers: Speakers, tmp_path: Path
) -> None:
    path = tmp_path / "paused.wav"
    recording = engine.start_recording(str(path), [], None)
    await speakers.speak(
        1,
        [500, 1000, 1500],
        (0, lambda: engine.set_recording_sides(recording, speakers.ports, [])),
        (850, lambda: engine.pause_recording(recording)),
        (1350, lambda: engine.resume_recording(recording)),
    )
    engine.stop_recording(recording)
    ended = await events.wait(RecordingEnded, recording=recording)
    (sound,) = audio.read_wav(path)
    first, third = _onsets(sound)
    ((start_ms, end_ms),) = ended.pauses_ms
    assert first < start_ms < end_ms < third
    assert audio.level_dbfs(sound.between(start_ms, end_ms)) < -90
    if not speakers.was_late:
        assert abs(third - first - 1000) <= 20


async def test_a_law_files_are_what_they_say(
    engine: RtpEngine, events: Events, speakers: Speakers, tmp_path: Path
) -> None:
    path = tmp_path / "a-law.wav"
    recording = engine.start_recording(str(path), [], [], form=RecordingForm.A_LAW)
    await speakers.speak(
        1, [200], (0, lambda: engine.set_recording_sides(recording, speakers.ports, []))
    )
    engine.stop_recording(recording)
    ended = await events.wait(RecordingEnded, recording=recording)
    data = path.read_bytes()
    tag, channels, rate_hz, _, block, bits = struct.unpack_from("<HHIIHH", data, 20)
    assert (tag, channels, rate_hz, block, bits) == (6, 2, 8000, 2, 8)
    assert struct.unpack_from("<I", data, 54)[0] == len(data) - 58 == ended.duration_ms * 16
    left, right = data[58::2], data[59::2]
    assert len(set(left)) > 4
    assert set(right) == {0xD5}


_RECORD = """
import asyncio, sys
from cti.media import Codec, Connection
from cti.media_engine import RtpEngine

async def main(path):
    engine = RtpEngine(port_min=48_000, port_max=48_099)
    (one, number), (other, other_number) = (engine.open_port("127.0.0.1") for _ in range(2))
    engine.connect(one, Connection("127.0.0.1", other_number, Codec.PCMA, 8))
    engine.connect(other, Connection("127.0.0.1", number, Codec.PCMA, 8))
    engine.start_recording(path, [one], [other])
    print("recording", flush=True)
    await asyncio.Event().wait()

asyncio.run(main(sys.argv[1]))
"""


async def test_a_crash_leaves_a_playable_file(tmp_path: Path) -> None:
    path = tmp_path / "crashed.wav"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _RECORD, str(path), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"recording\n"
    loop = asyncio.get_running_loop()
    grown: asyncio.Future[None] = loop.create_future()

    def look() -> None:
        # Two seconds of two channels: at least one update of the header.
        if path.exists() and path.stat().st_size > 64_000:
            grown.set_result(None)
        else:
            loop.call_later(0.05, look)

    look()
    await asyncio.wait_for(grown, 30)
    process.kill()
    await process.wait()
    data = path.read_bytes()
    (announced,) = struct.unpack_from("<I", data, 40)
    assert 32_000 <= announced <= len(data) - 44
    assert len(data) - 44 - announced <= 2 * 32_000, "a crash costs the header a second"
    left, right = audio.read_wav(path)
    assert left.duration_ms == right.duration_ms >= 1900
