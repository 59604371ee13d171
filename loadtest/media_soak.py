"""Calls that come and go for a long time: nothing may grow, be lost or be late.

The engine under test and a second one that plays the far ends run in this process, without SIP:
what could leak here is memory, descriptors, threads and ports of the engine. Calls are of three
kinds: one hears a menu and presses keys, two talk and are recorded, with a hold in between, and two
talk while a third listens and then joins them.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import random
import statistics
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cti import audio
from cti.media import (
    Codec,
    Connection,
    DigitReceived,
    MediaEvent,
    PlayEnded,
    PortClosed,
    PortId,
    RecordingEnded,
    RecordingId,
)
from cti.media_engine import RtpEngine
from loadtest.cpu import machine_time

_LOCALHOST = "127.0.0.1"
_NEAR_PORTS, _FAR_PORTS = (10_000, 29_999), (30_000, 49_999)
_QUARANTINE_MS = 2000
_STEP_S = 0.02
_LEGS_PER_S = 100
"""How fast calls are begun at first; later they begin as others end."""
_LIFE_S = (20.0, 60.0)
_SETTLE_S = 1.5
"""From the start of a call to its first key, and from its last one to its end."""
_KEYS = "0123456789*#"
_KEY_MS, _GAP_MS, _KEY_EVERY_S = 100, 100, (2.0, 10.0)
_DIGIT_PAYLOAD_TYPE = 101
_CODECS = ((Codec.PCMA, 8), (Codec.PCMU, 0), (Codec.G722, 9))
_CODEC_SHARES = (80, 17, 3)
_WARM_UP_SHARE = 0.25
_SAMPLES = 120
_GROWTH_LIMIT = 0.05
_PACED_SHARE = 0.99
_DURATION_TOLERANCE_MS = 500
_CLOSING_S = 30.0


@dataclass(frozen=True, slots=True)
class Sample:
    """What the process held at one time."""

    at_s: float
    resident_kib: int
    descriptors: int
    threads: int
    ports: int


@dataclass(slots=True)
class SoakResult:
    """What was done, what was counted, and what was held."""

    seconds: float
    counts: Counter[str]
    before: Sample
    samples: list[Sample]
    after: Sample
    pacing: dict[str, int]
    stolen_s: float = 0.0
    """Processor time that a hypervisor gave to other machines."""
    errors: list[str] = field(default_factory=list)

    @property
    def within_5_ms(self) -> float:
        """Share of our packets that left in time."""
        sent = self.pacing["packets_sent"]
        return (self.pacing["sent_within_1_ms"] + self.pacing["sent_within_5_ms"]) / max(1, sent)

    @property
    def steady(self) -> list[Sample]:
        """Samples after the warm-up, when as many calls end as begin."""
        return self.samples[int(len(self.samples) * _WARM_UP_SHARE) :]

    @property
    def kib_per_minute(self) -> float:
        """Slope of the resident memory."""
        steady = self.steady
        line = statistics.linear_regression(
            [one.at_s for one in steady], [one.resident_kib for one in steady]
        )
        return 60 * line.slope

    @property
    def growth(self) -> float:
        """Resident memory of the last quarter over that of the first one after the warm-up."""
        quarter = max(1, len(self.steady) // 4)
        first = statistics.median(one.resident_kib for one in self.steady[:quarter])
        last = statistics.median(one.resident_kib for one in self.steady[-quarter:])
        return last / first - 1

    def faults(self) -> list[str]:
        """Everything that leaked, was lost or went wrong; lateness is the machine's as well."""
        counts = self.counts
        found = {
            "keys lost or doubled": counts["keys pressed"] - counts["keys heard"],
            "packets lost on the way to us": counts["packets lost, ours"],
            "packets lost on the way to far ends": counts["packets lost, far ends"],
            "recorded frames dropped": counts["recorded frames dropped"],
            "recordings not ended": counts["recordings"] - counts["recordings ended"],
            "recordings of a wrong length": counts["recordings of a wrong length"],
            "ports left open": self.after.ports,
            "descriptors leaked": max(0, self.after.descriptors - self.before.descriptors),
            "threads leaked": max(0, self.after.threads - self.before.threads),
        }
        faults = [f"{name}: {count}" for name, count in found.items() if count]
        return faults + self.errors

    def is_flat(self) -> bool:
        """Whether memory stayed within a few percent."""
        return self.growth <= _GROWTH_LIMIT

    def is_paced(self) -> bool:
        """Whether packets left in time."""
        return self.within_5_ms >= _PACED_SHARE


@dataclass(frozen=True, slots=True)
class _Leg:
    near: PortId
    far: PortId


async def soak_run(data: Path, *, calls: int, seconds: float, seed: int) -> SoakResult:
    """Keep about `calls` legs up for `seconds`, then end them and look at what is left."""
    menu = audio.write_wav(data / "menu.wav", audio.tone(440, 1500), audio.silence(500))
    voice = audio.write_wav(data / "voice.wav", audio.tone(300, 1000))
    near = RtpEngine(port_min=_NEAR_PORTS[0], port_max=_NEAR_PORTS[1], quarantine_ms=_QUARANTINE_MS)
    far = RtpEngine(port_min=_FAR_PORTS[0], port_max=_FAR_PORTS[1], quarantine_ms=_QUARANTINE_MS)
    try:
        soak = _Soak(near, far, data, menu, voice, seed)
        return await soak.run(calls, seconds)
    finally:
        await near.aclose()
        await far.aclose()


class _Soak:
    def __init__(
        self, near: RtpEngine, far: RtpEngine, data: Path, menu: Path, voice: Path, seed: int
    ) -> None:
        self._near, self._far = near, far
        self._data, self._menu, self._voice = data, str(menu), str(voice)
        self._random = random.Random(seed)  # noqa: S311 - a repeatable run, no secret
        self._clock = asyncio.get_running_loop().time
        self._numbers = itertools.count()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._recorded: dict[RecordingId, float] = {}
        """When a recording began; when it is stopped, how long it should be."""
        self._legs = 0
        self._open = 0
        self._ending = False
        self._all_ended = asyncio.Event()
        self._counts: Counter[str] = Counter()
        self._errors: list[str] = []
        near.on_event = self._on_near
        far.on_event = self._on_far

    async def run(self, calls: int, seconds: float) -> SoakResult:
        began = self._clock()
        before = self._sample(began)
        samples: list[Sample] = []
        stolen_s = -machine_time().stolen_s
        while (now := self._clock()) < began + seconds:
            self._act(now)
            self._fill(min(calls, round((now - began) * _LEGS_PER_S) + 1))
            if now - began >= (len(samples) + 1) * seconds / _SAMPLES:
                samples.append(self._sample(began))
            await asyncio.sleep(_STEP_S)
        pacing = self._near.figures()
        stolen_s += machine_time().stolen_s
        await self._end_all()
        return SoakResult(
            seconds=now - began,
            counts=self._counts,
            before=before,
            samples=samples,
            after=self._sample(began),
            pacing=pacing,
            stolen_s=stolen_s,
            errors=self._errors,
        )

    def _fill(self, wanted: int) -> None:
        kinds = (self._menu_call, self._conversation, self._conference)
        while self._legs < wanted:
            (kind,) = self._random.choices(kinds, (4, 5, 1))
            life_s = self._random.uniform(*_LIFE_S)
            kind(life_s)
            self._counts["calls"] += 1

    def _act(self, now: float) -> None:
        while self._due and self._due[0][0] <= now:
            heapq.heappop(self._due)[2]()

    def _later(self, delay_s: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._due, (self._clock() + delay_s, next(self._numbers), act))

    async def _end_all(self) -> None:
        self._ending = True
        # Nobody presses a key any more, but keys that are held now are to be heard.
        held_until = self._clock() + _SETTLE_S
        while (now := self._clock()) < held_until:
            self._act(now)
            await asyncio.sleep(_STEP_S)
        # What is still to happen to a call happens now, in order; its end is the last of it.
        while self._due:
            heapq.heappop(self._due)[2]()
            await asyncio.sleep(0)
        self._note_end()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._all_ended.wait(), _CLOSING_S)

    def _note_end(self) -> None:
        if self._ending and not self._open and not self._recorded:
            self._all_ended.set()

    # Kinds of calls

    def _menu_call(self, life_s: float) -> None:
        leg = self._begin()
        self._near.play(leg.near, [self._menu], loop=True)
        self._press_keys(leg, life_s)
        self._later(life_s, lambda: self._end([leg]))

    def _conversation(self, life_s: float) -> None:
        caller, agent = self._begin(), self._begin()
        a, b = caller.near, agent.near
        self._bridge(a, b)
        path = self._data / f"{next(self._numbers)}.wav"
        recording = self._near.start_recording(str(path), [a], [b])
        self._counts["recordings"] += 1
        self._press_keys(caller, life_s)

        def hold() -> None:
            self._near.set_routes({a: [], b: []})
            self._near.play(a, [self._menu], loop=True)

        def resume() -> None:
            self._near.stop_play(a)
            self._bridge(a, b)

        def end() -> None:
            self._near.stop_recording(recording)
            self._recorded[recording] = self._clock() - self._recorded[recording]
            self._end([caller, agent])

        self._recorded[recording] = self._clock()
        self._later(life_s * 0.4, hold)
        self._later(life_s * 0.6, resume)
        self._later(life_s, end)

    def _conference(self, life_s: float) -> None:
        legs = [self._begin() for _ in range(3)]
        a, b, supervisor = (leg.near for leg in legs)
        self._bridge(a, b)
        everyone = {
            port: [other for other in (a, b, supervisor) if other != port]
            for port in (a, b, supervisor)
        }
        self._later(life_s * 0.2, lambda: self._near.set_routes({supervisor: [a, b]}))
        self._later(life_s * 0.4, lambda: self._near.set_routes(everyone))
        self._later(life_s * 0.8, lambda: self._near.set_routes({a: [b], b: [a], supervisor: []}))
        self._press_keys(legs[0], life_s)
        self._later(life_s, lambda: self._end(legs))

    def _bridge(self, a: PortId, b: PortId) -> None:
        self._near.set_routes({a: [b], b: [a]})

    def _press_keys(self, leg: _Leg, life_s: float) -> None:
        at = _SETTLE_S + self._random.uniform(*_KEY_EVERY_S)
        while at < life_s - _SETTLE_S:
            key = self._random.choice(_KEYS)
            self._later(at, lambda key=key: self._press(leg, key))  # type: ignore[misc]
            at += self._random.uniform(*_KEY_EVERY_S)

    def _press(self, leg: _Leg, key: str) -> None:
        if self._ending:
            return
        self._counts["keys pressed"] += 1
        self._far.send_digits(leg.far, key, tone_ms=_KEY_MS, gap_ms=_GAP_MS)

    # Legs

    def _begin(self) -> _Leg:
        near, near_number = self._near.open_port(_LOCALHOST)
        far, far_number = self._far.open_port(_LOCALHOST)
        ((codec, payload_type),) = self._random.choices(_CODECS, _CODEC_SHARES)
        for engine, port, remote in (
            (self._near, near, far_number),
            (self._far, far, near_number),
        ):
            connection = Connection(
                remote_ip=_LOCALHOST,
                remote_port=remote,
                codec=codec,
                payload_type=payload_type,
                digit_payload_type=_DIGIT_PAYLOAD_TYPE,
            )
            engine.connect(port, connection)
        self._far.play(far, [self._voice], loop=True)
        self._legs += 1
        self._open += 2
        return _Leg(near, far)

    def _end(self, legs: list[_Leg]) -> None:
        for leg in legs:
            self._legs -= 1
            self._far.close_port(leg.far)
            self._near.close_port(leg.near)

    # Events

    def _on_near(self, event: MediaEvent) -> None:
        match event:
            case DigitReceived():
                self._counts["keys heard"] += 1
            case PlayEnded(error=error) if error:
                self._errors.append(error)
            case RecordingEnded():
                self._on_recorded(event)
            case PortClosed(figures=figures):
                self._open -= 1
                self._counts["packets received, ours"] += figures.packets_received
                self._counts["packets lost, ours"] += figures.packets_lost
                self._note_end()
            case _:
                pass

    def _on_far(self, event: MediaEvent) -> None:
        if isinstance(event, PortClosed):
            self._open -= 1
            self._counts["packets received, far ends"] += event.figures.packets_received
            self._counts["packets lost, far ends"] += event.figures.packets_lost
            self._note_end()

    def _on_recorded(self, event: RecordingEnded) -> None:
        expected_ms = 1000 * self._recorded.pop(event.recording)
        Path(event.path).unlink(missing_ok=True)
        self._counts["recordings ended"] += 1
        self._counts["recorded frames dropped"] += event.dropped_frames
        if event.error:
            self._errors.append(event.error)
        if abs(event.duration_ms - expected_ms) > _DURATION_TOLERANCE_MS:
            self._counts["recordings of a wrong length"] += 1
        self._note_end()

    def _sample(self, began: float) -> Sample:
        status = Path("/proc/self/status").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in status)
        return Sample(
            at_s=self._clock() - began,
            resident_kib=int(fields["VmRSS"].split()[0]),
            descriptors=len(list(Path("/proc/self/fd").iterdir())),
            threads=int(fields["Threads"]),
            ports=self._near.figures()["ports"] + self._far.figures()["ports"],
        )
