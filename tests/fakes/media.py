"""A media engine without sockets: keeps what it was told, tells what the test says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cti.media import (
    Connection,
    DigitReceived,
    MediaEvent,
    MediaTimedOut,
    PlayEnded,
    PlayId,
    PortClosed,
    PortFigures,
    PortId,
    RecognitionId,
    RecordingEnded,
    RecordingForm,
    RecordingId,
    RelayEnd,
    SecureMediaFailed,
    TapEnded,
    TapId,
    Tone,
)
from domain.failures import Code, PlatformError

FINGERPRINT = ":".join(["5A"] * 32)
FIGURES = PortFigures(100, 90, 1, 0, 2.5)


@dataclass
class FakePort:
    number: int
    connected: Connection | None = None
    play: PlayId | None = None
    paths: list[str] = field(default_factory=list)
    loop: bool = False
    hears: list[PortId] = field(default_factory=list)
    keys_of: list[PortId] = field(default_factory=list)


class FakeMedia:
    """Implements `cti.media.MediaEngine`. Events come with the next turn of the loop."""

    def __init__(self) -> None:
        self.on_event: Callable[[MediaEvent], None] = lambda event: None
        self.ports: dict[PortId, FakePort] = {}
        self.recordings: dict[
            RecordingId, tuple[str, Sequence[PortId], Sequence[PortId] | None]
        ] = {}
        self.taps: dict[TapId, tuple[Sequence[PortId], Sequence[PortId]]] = {}
        self.relays: list[tuple[RelayEnd, RelayEnd]] = []
        self.log: list[str] = []
        """Commands in order, such as "play 1 greeting.wav", "hear 1: 2"."""
        self.played: list[str] = []
        self.prompts_end_by_themselves = True
        self.max_ports = 1000
        self._last_id = 0

    def emit(self, event: MediaEvent) -> None:
        asyncio.get_running_loop().call_soon(self.on_event, event)

    def key(self, port: PortId, digit: str) -> None:
        self.emit(DigitReceived(port, digit, 100))

    def time_out(self, port: PortId) -> None:
        self.emit(MediaTimedOut(port))

    def fail_security(self, port: PortId, reason: str = "timeout") -> None:
        self.emit(SecureMediaFailed(port, reason))

    def end_play(self, port: PortId, *, error: str = "") -> None:
        state = self.ports[port]
        assert state.play is not None
        play, state.play = state.play, None
        self.emit(PlayEnded(port, play, not error, error))

    # MediaEngine

    def open_port(self, local_ip: str) -> tuple[PortId, int]:
        if len(self.ports) >= self.max_ports:
            raise PlatformError(Code.MEDIA_PORTS_EXHAUSTED)
        port = PortId(self._new_id())
        self.ports[port] = FakePort(20000 + 2 * port)
        return port, 20000 + 2 * port

    def fingerprint(self) -> str:
        return FINGERPRINT

    def connect(self, port: PortId, connection: Connection) -> None:
        self.log.append(f"connect {port}")
        if port in self.ports:
            self.ports[port].connected = connection

    def relay(self, one: RelayEnd, other: RelayEnd, *, media_timeout_ms: int = 0) -> None:
        self.log.append(f"relay {one.port} {other.port}")
        self.relays += [(one, other)]

    def close_port(self, port: PortId) -> None:
        if self.ports.pop(port, None) is not None:
            self.log.append(f"close {port}")
            self.emit(PortClosed(port, FIGURES))

    def play(self, port: PortId, paths: list[str], *, loop: bool = False) -> PlayId:
        play = PlayId(self._new_id())
        names = [Path(path).name for path in paths]
        self.log.append(" ".join(["loop" if loop else "play", str(port), *names]))
        self.played += names
        if port in self.ports:
            state = self.ports[port]
            state.play, state.paths, state.loop = play, paths, loop
            if self.prompts_end_by_themselves and not loop:
                self.end_play(port)
        return play

    def play_tone(self, port: PortId, tone: Tone, *, loop: bool = True) -> PlayId:
        play = PlayId(self._new_id())
        self.log.append(f"tone {port} {tone}")
        if port in self.ports:
            state = self.ports[port]
            state.play, state.paths, state.loop = play, [tone], loop
            if self.prompts_end_by_themselves and not loop:
                self.end_play(port)
        return play

    def recognise(self, port: PortId, paths: list[str]) -> RecognitionId:
        self.log.append(f"recognise {port} {[Path(path).stem for path in paths]}")
        return RecognitionId(self._new_id())

    def stop_play(self, port: PortId) -> None:
        self.log.append(f"stop {port}")
        state = self.ports.get(port)
        if state is not None and state.play is not None:
            play, state.play = state.play, None
            self.emit(PlayEnded(port, play, False, ""))

    def send_digits(self, port: PortId, digits: str, *, tone_ms: int, gap_ms: int) -> None:
        self.log.append(f"digits {port} {digits}")

    def set_key_routes(self, routes: Mapping[PortId, Sequence[PortId]]) -> None:
        for sink, sources in routes.items():
            if sink in self.ports:
                self.ports[sink].keys_of = list(sources)

    def set_routes(self, routes: Mapping[PortId, Sequence[PortId]]) -> None:
        for sink, sources in routes.items():
            names = " ".join(str(source) for source in sources)
            self.log.append(f"hear {sink}: {names}".rstrip())
            if sink in self.ports:
                self.ports[sink].hears = list(sources)

    def start_recording(
        self,
        path: str,
        left: Sequence[PortId],
        right: Sequence[PortId] | None,
        *,
        form: RecordingForm = RecordingForm.PCM16,
    ) -> RecordingId:
        recording = RecordingId(self._new_id())
        self.recordings[recording] = (path, left, right)
        self.log.append(f"record {_sides(left, right)}")
        return recording

    def set_recording_sides(
        self, recording: RecordingId, left: Sequence[PortId], right: Sequence[PortId]
    ) -> None:
        path, _, _ = self.recordings[recording]
        self.recordings[recording] = (path, left, right)
        self.log.append(f"record sides {_sides(left, right)}")

    def pause_recording(self, recording: RecordingId) -> None:
        self.log.append("record pause")

    def resume_recording(self, recording: RecordingId) -> None:
        self.log.append("record resume")

    def start_tap(self, left: Sequence[PortId], right: Sequence[PortId]) -> TapId:
        tap = TapId(self._new_id())
        self.taps[tap] = (left, right)
        self.log.append(f"tap {_sides(left, right)}")
        return tap

    def set_tap_sides(self, tap: TapId, left: Sequence[PortId], right: Sequence[PortId]) -> None:
        if tap in self.taps:
            self.taps[tap] = (left, right)
        self.log.append(f"tap sides {_sides(left, right)}")

    def stop_tap(self, tap: TapId) -> None:
        self.log.append("tap end")
        if self.taps.pop(tap, None) is not None:
            self.emit(TapEnded(tap, 0, 0))

    def stop_recording(self, recording: RecordingId) -> None:
        self.log.append("record end")
        path, _, right = self.recordings.pop(recording)
        channels = 1 if right is None else 2
        self.emit(RecordingEnded(recording, path, "ab" * 32, 1044, 20, channels, 0, (), ""))

    def _new_id(self) -> int:
        self._last_id += 1
        return self._last_id


def _sides(left: Sequence[PortId], right: Sequence[PortId] | None) -> str:
    return " | ".join(" ".join(map(str, side)) for side in (left, right or ()))
