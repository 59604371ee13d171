"""Commands in any order: nothing is lost, nothing is left behind."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from cti import audio
from cti.media import Codec, PlayEnded, PortClosed, PortId, RecordingEnded, RecordingId
from cti.media_engine import RtpEngine
from tests.media.conftest import inside, remote
from tests.media.peer import Events, bridge, connect


class _Churn:
    """Gives random commands to an engine and remembers what must end."""

    def __init__(self, engine: RtpEngine, seed: int, directory: Path) -> None:
        self.engine = engine
        self.random = random.Random(seed)
        self.directory = directory
        self.clip = str(audio.write_tone(directory / "clip.wav", 440, 60))
        self.ports: list[tuple[PortId, int]] = []
        self.opened: list[PortId] = []
        self.recordings: list[RecordingId] = []

    def pick(self) -> PortId:
        return self.random.choice(self.opened)

    def some(self) -> list[PortId]:
        return [self.pick() for _ in range(self.random.randrange(4))]

    def open(self) -> None:
        port, number = self.engine.open_port("127.0.0.1")
        self.opened.append(port)
        remote = self.random.choice(self.ports)[1] if self.ports else number
        connect(self.engine, port, remote, codec=self.random.choice((Codec.PCMU, Codec.PCMA)))
        self.ports.append((port, number))

    def step(self) -> None:
        engine, chance = self.engine, self.random
        match chance.randrange(10):
            case 0:
                self.open()
            case 1:
                engine.close_port(self.pick())
            case 2:
                engine.play(self.pick(), [self.clip], loop=chance.random() < 0.5)
            case 3:
                engine.stop_play(self.pick())
            case 4:
                bridge(engine, self.pick(), self.pick())
            case 5:
                engine.set_routes({self.pick(): self.some(), self.pick(): self.some()})
            case 6:
                path = self.directory / f"{len(self.recordings)}.wav"
                right = self.some() if chance.random() < 0.7 else None
                self.recordings.append(engine.start_recording(str(path), self.some(), right))
            case 7 if self.recordings:
                engine.stop_recording(chance.choice(self.recordings))
            case 8 if self.recordings:
                recording = chance.choice(self.recordings)
                engine.set_recording_sides(recording, self.some(), self.some())
            case _:
                engine.send_digits(self.pick(), "12", tone_ms=40, gap_ms=40)


@pytest.mark.parametrize(
    ("engines", "seed"), [*((inside, seed) for seed in range(4)), (remote, 4)], indirect=["engines"]
)
async def test_whatever_is_told_all_ends_once(
    engine: RtpEngine, events: Events, tmp_path: Path, seed: int
) -> None:
    churn = _Churn(engine, seed, tmp_path)
    churn.open()
    for _ in range(4):
        for _ in range(150):
            churn.step()
        # Lets the reactor move packets between the bursts.
        churn.open()
        play = engine.play(churn.opened[-1], [churn.clip])
        await events.wait(PlayEnded, play=play)
    await engine.aclose()
    assert sorted(event.port for event in events.of(PortClosed)) == churn.opened
    ended = events.of(RecordingEnded)
    assert sorted(event.recording for event in ended) == churn.recordings
    assert {event.error for event in ended} <= {""}
    figures = engine.figures()
    assert (figures["ports"], figures["recordings"], figures["dropped_frames"]) == (0, 0, 0)
    for event in ended:
        for sound in audio.read_wav(Path(event.path)):
            assert sound.duration_ms == event.duration_ms
