"""Every change of who hears whom, shown by tones, and that nobody who stays misses a frame.

Each party's phone, in an engine of its own, says one tone for ever and records what it hears. All
tones are odd multiples of 25 Hz: over 20 ms none of them leaks into another one, and a frame that
is lost or doubled turns the phase of each of them by half a turn.
"""

from __future__ import annotations

import asyncio
import cmath
import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from cti import audio
from cti.calls.parties import Part, Parties
from cti.media import Codec, PlayEnded, PortClosed, PortFigures, PortId, RecordingEnded, RecordingId
from cti.media_engine import RtpEngine
from tests.media.peer import Events, connect

CUSTOMER, AGENT, EXPERT, BOSS = "customer", "agent", "expert", "boss"
TONES_HZ = {CUSTOMER: 425, AGENT: 725, EXPERT: 1075, BOSS: 1525}
MUSIC_HZ = 1825
FRAME_MS = 20
STEP_MS = 500
MOST_PIECES = 4
# From a change to where it must be heard: jitter buffers on both ways.
SETTLED_MS = 240
HEARD_DBFS, QUIET_DBFS = -25.0, -45.0

Step = Callable[[Parties, dict[str, PortId]], Parties]


@dataclass
class Phone:
    far: PortId
    port: PortId
    recording: RecordingId


@dataclass
class Heard:
    """What each party heard, cut into the steps, and what it should have heard."""

    sounds: dict[str, audio.Sound]
    spans: list[tuple[float, float]]
    states: list[dict[str, set[str]]]
    was_late: bool


async def _pass(engine: RtpEngine, events: Events, silence: str, port: PortId) -> None:
    """Let the length of a clip pass, by the engine's clock."""
    await events.wait(PlayEnded, play=engine.play(port, [silence]))


def _late_rounds(*engines: RtpEngine) -> int:
    names = ("sent_later", "skipped_rounds")
    return sum(engine.figures()[name] for engine in engines for name in names)


async def _scene(
    engine: RtpEngine,
    events: Events,
    far_ends: RtpEngine,
    far_events: Events,
    directory: Path,
    steps: list[Step],
    codecs: dict[str, Codec],
) -> Heard:
    loop = asyncio.get_running_loop()
    phones: dict[str, Phone] = {}
    for name, hz in TONES_HZ.items():
        far, far_number = far_ends.open_port("127.0.0.1")
        port, number = engine.open_port("127.0.0.1")
        codec = codecs.get(name, Codec.PCMA)
        connect(far_ends, far, number, codec=codec)
        connect(engine, port, far_number, codec=codec)
        # 40 ms hold a whole number of periods, so the loop has no seam.
        voice = audio.write_wav(directory / f"{hz}.wav", audio.tone(hz, 40, level_dbfs=-15))
        far_ends.play(far, [str(voice)], loop=True)
        recording = far_ends.start_recording(str(directory / f"{name}.wav"), [far], None)
        phones[name] = Phone(far, port, recording)
    begun_s = loop.time()
    ports = {name: phone.port for name, phone in phones.items()}
    names = {port: name for name, port in ports.items()}
    music = str(audio.write_wav(directory / "m.wav", audio.tone(MUSIC_HZ, 40, level_dbfs=-15)))
    silence = str(audio.write_wav(directory / "s.wav", audio.silence(STEP_MS)))
    timer, _ = engine.open_port("127.0.0.1")
    connect(engine, timer, 9)
    parties = Parties()
    spans, states = [], []
    for step in steps:
        former, parties = parties, step(parties, ports)
        changes = parties.changes(former)
        engine.set_routes(changes.routes)
        for port in changes.music_starts:
            engine.play(port, [music], loop=True)
        for port in changes.music_ends:
            engine.stop_play(port)
        # What was heard while an engine ran too late says nothing of the routes.
        for _ in range(MOST_PIECES):
            late = _late_rounds(engine, far_ends)
            start_ms = (loop.time() - begun_s) * 1000
            await _pass(engine, events, silence, timer)
            if _late_rounds(engine, far_ends) == late:
                break
        spans.append((start_ms + SETTLED_MS, (loop.time() - begun_s) * 1000 - FRAME_MS))
        states.append(
            {
                name: {names[each] for each in parties.heard_by(port)}
                | ({"music"} if port in parties.hear_music() else set())
                for name, port in ports.items()
            }
        )
    sounds = {}
    for name, phone in phones.items():
        far_ends.stop_recording(phone.recording)
        ended = await far_events.wait(RecordingEnded, recording=phone.recording)
        (sounds[name],) = audio.read_wav(Path(ended.path))
    lost = 0
    for phone in phones.values():
        for side, port, heard in ((engine, phone.port, events), (far_ends, phone.far, far_events)):
            side.close_port(port)
            figures: PortFigures = (await heard.wait(PortClosed, port=port)).figures
            lost += figures.packets_lost
    assert lost == 0
    engine.close_port(timer)
    return Heard(sounds, spans, states, _late_rounds(engine, far_ends) > 0)


def _missteps(sound: audio.Sound, hz: int, start_ms: float, end_ms: float) -> list[float]:
    """Where the tone's phase jumps from one 20 ms to the next, in radians."""
    turn = 2 * math.pi * hz / sound.rate_hz
    phases = []
    for window in sound.between(start_ms, end_ms).windows(FRAME_MS):
        place = sum(
            sample * cmath.exp(-1j * turn * index) for index, sample in enumerate(window.samples)
        )
        phases.append(cmath.phase(place) if abs(place) > 1e4 else None)
    expected = turn * sound.rate_hz * FRAME_MS / 1000
    return [
        abs(math.remainder(after - before - expected, 2 * math.pi))
        for before, after in pairwise(phases)
        if before is not None and after is not None
    ]


def _level_dbfs(sound: audio.Sound, hz: int) -> float:
    """The usual level of a tone over 20 ms, whatever a frame that came too late costs it."""
    return statistics.median(audio.tone_dbfs(part, hz) for part in sound.windows(FRAME_MS))


async def _check(
    engine: RtpEngine,
    events: Events,
    far_ends: RtpEngine,
    far_events: Events,
    tmp_path: Path,
    steps: list[Step],
    codecs: dict[str, Codec] | None = None,
) -> Heard:
    for attempt in range(2):
        heard = await _scene(
            engine, events, far_ends, far_events, tmp_path / str(attempt), steps, codecs or {}
        )
        if not heard.was_late:
            break  # else the machine, not the routing, may have cost a frame
    frequencies = TONES_HZ | {"music": MUSIC_HZ}
    for (start_ms, end_ms), state in zip(heard.spans, heard.states, strict=True):
        for name, sound in heard.sounds.items():
            for other, hz in frequencies.items():
                level = _level_dbfs(sound.between(start_ms, end_ms), hz)
                where = f"{name} hears {other} at {start_ms:.0f}-{end_ms:.0f} ms: {level:.0f} dBFS"
                assert level > HEARD_DBFS if other in state[name] else level < QUIET_DBFS, where
    return heard


def _continuous(heard: Heard, listener: str, speaker: str, steps: Iterable[int]) -> None:
    """Assert that over these steps every frame of the speaker was heard once, in order.

    On a machine that runs the engines too late frames come too late as well; that is no fault of
    the routes, and then nothing can be said of them here.
    """
    if heard.was_late:
        return
    steps = list(steps)
    start_ms, end_ms = heard.spans[steps[0]][0], heard.spans[steps[-1]][1]
    jumps = _missteps(heard.sounds[listener], TONES_HZ[speaker], start_ms, end_ms)
    assert len(jumps) >= (end_ms - start_ms) / FRAME_MS - 3
    assert max(jumps) < 0.5, f"{listener} hears {speaker} jump by {max(jumps):.1f}"


def _both(parties: Parties, ports: dict[str, PortId]) -> Parties:
    return parties.put(ports[CUSTOMER], Part.CUSTOMER).put(ports[AGENT], Part.AGENT)


async def test_a_supervisor_listens_whispers_barges_and_intercepts(
    engine: RtpEngine, events: Events, far_ends: RtpEngine, far_events: Events, tmp_path: Path
) -> None:
    heard = await _check(
        engine,
        events,
        far_ends,
        far_events,
        tmp_path,
        [
            _both,
            lambda parties, ports: parties.put(ports[BOSS], Part.LISTENER),
            lambda parties, ports: parties.put(ports[BOSS], Part.WHISPERER),
            lambda parties, ports: parties.put(ports[BOSS], Part.SPEAKER),
            lambda parties, ports: parties.put(ports[BOSS], Part.LISTENER),
            lambda parties, ports: parties.remove(ports[AGENT]).put(ports[BOSS], Part.AGENT),
        ],
    )
    for listener, speaker in ((CUSTOMER, AGENT), (AGENT, CUSTOMER)):
        _continuous(heard, listener, speaker, range(5))
    _continuous(heard, BOSS, CUSTOMER, range(1, 6))


async def test_consulting_three_party_and_a_way_back(
    inside_engine: RtpEngine,
    events: Events,
    far_ends: RtpEngine,
    far_events: Events,
    tmp_path: Path,
) -> None:
    heard = await _check(
        inside_engine,
        events,
        far_ends,
        far_events,
        tmp_path,
        [
            _both,
            lambda parties, ports: parties.hold(ports[CUSTOMER], waits=True),
            lambda parties, ports: parties.put(ports[EXPERT], Part.CONSULTANT),
            lambda parties, ports: parties.hold(ports[CUSTOMER], waits=False),
            lambda parties, ports: parties.put(ports[BOSS], Part.SPEAKER),
            lambda parties, ports: parties.remove(ports[EXPERT]).remove(ports[BOSS]),
            lambda parties, ports: parties.away(ports[AGENT], is_away=True),
        ],
    )
    _continuous(heard, AGENT, EXPERT, range(2, 5))
    _continuous(heard, AGENT, CUSTOMER, range(3, 6))
    _continuous(heard, CUSTOMER, AGENT, range(3, 6))


async def test_unlike_codecs_hear_each_other_all_the_same(
    inside_engine: RtpEngine,
    events: Events,
    far_ends: RtpEngine,
    far_events: Events,
    tmp_path: Path,
) -> None:
    await _check(
        inside_engine,
        events,
        far_ends,
        far_events,
        tmp_path,
        [
            _both,
            lambda parties, ports: parties.put(ports[EXPERT], Part.CONSULTANT),
            lambda parties, ports: parties.remove(ports[AGENT]),
        ],
        {AGENT: Codec.PCMU},
    )
