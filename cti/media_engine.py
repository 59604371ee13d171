"""The Rust media engine on an asyncio loop: its event queue is read when its eventfd says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import structlog

from cti._media import Engine, PortsExhaustedError
from cti.media import (
    Answer,
    AnswerJudged,
    Connection,
    DigitReceived,
    DigitSource,
    DigitsSent,
    MediaEvent,
    MediaTimedOut,
    PlayEnded,
    PlayId,
    PortClosed,
    PortFigures,
    PortId,
    RecognitionFailed,
    RecognitionId,
    RecordingEnded,
    RecordingForm,
    RecordingId,
    RelayEnd,
    SecureMediaFailed,
    SecureMediaReady,
    Signal,
    SoundRecognised,
    SrtpSuite,
    TapAudio,
    TapEnded,
    TapId,
    Tone,
    ToneDetected,
)
from domain.failures import Code, PlatformError

_log = structlog.get_logger(__name__)

_NO_FIGURES = PortFigures(0, 0, 0, 0, 0.0)


def _nobody_asks() -> None:
    """Nobody has asked."""


def _port_closed(
    port: PortId, counted: Sequence[int], judged: Sequence[int | float | None]
) -> PortClosed:
    # In the order of the class.
    return PortClosed(port, PortFigures(*counted, *judged))  # type: ignore[arg-type]


def _secure_media_ready(port: PortId, suite: str) -> SecureMediaReady:
    return SecureMediaReady(port, SrtpSuite(suite))


def _digit(port: PortId, digit: str, duration_ms: int, source: str) -> DigitReceived:
    return DigitReceived(port, digit, duration_ms, DigitSource(source))


def _tone(port: PortId, signal: str, at_ms: int) -> ToneDetected:
    return ToneDetected(port, Signal(signal), at_ms)


def _answer(port: PortId, answer: str, at_ms: int) -> AnswerJudged:
    return AnswerJudged(port, Answer(answer), at_ms)


# The engine names the kind and gives the fields in the order of the class.
_MAKERS: dict[object, Callable[..., MediaEvent]] = {
    "digit": _digit,
    "tone": _tone,
    "answer": _answer,
    "recognised": SoundRecognised,
    "recognition_failed": RecognitionFailed,
    "play_ended": PlayEnded,
    "digits_sent": DigitsSent,
    "media_timed_out": MediaTimedOut,
    "secure_media_ready": _secure_media_ready,
    "secure_media_failed": SecureMediaFailed,
    "recording_ended": RecordingEnded,
    "tap_audio": TapAudio,
    "tap_ended": TapEnded,
    "port_closed": _port_closed,
}


class RtpEngine:
    """Implements `cti.media.MediaEngine`; to be made where the loop runs, ended by `aclose`.

    Every event is given to `on_event` on the loop, in the order in which it happened.
    """

    def __init__(
        self,
        *,
        port_min: int = 20_000,
        port_max: int = 29_999,
        quarantine_ms: int = 2000,
        on_event: Callable[[MediaEvent], None] | None = None,
    ) -> None:
        """Start the engine's threads; RTP takes the even ports of the range."""
        self.on_event = on_event
        self._range = f"{port_min}-{port_max}"
        self._engine = Engine(port_min, port_max, quarantine_ms=quarantine_ms)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._engine.event_fd(), self._deliver)
        self._closed = False
        self._ports: set[PortId] = set()
        self._taps: set[TapId] = set()
        self.has_failed = False
        """Whether the thread that moves packets has ended by a defect; only a new process helps."""
        self.on_failed: Callable[[], None] = _nobody_asks
        """Called when that happens, after all ports were told to be closed."""
        self._surveyed: asyncio.Future[dict[PortId, int]] | None = None

    async def aclose(self) -> None:
        """Close ports and finish recordings; their last events are delivered before it returns."""
        if self._closed:
            return
        self._closed = True
        await asyncio.to_thread(self._engine.shutdown)
        self._loop.remove_reader(self._engine.event_fd())
        self._deliver()

    def figures(self) -> dict[str, int]:
        """Counts of the whole engine, by name."""
        return self._engine.figures()

    async def survey(self) -> dict[PortId, int]:
        """Return the packets that each open port has received so far."""
        if self.has_failed:
            return {}
        if self._surveyed is None:
            self._surveyed = self._loop.create_future()
            self._engine.survey()
        return await asyncio.shield(self._surveyed)

    def open_port(self, local_ip: str) -> tuple[PortId, int]:
        """Bind an RTP port; see `MediaEngine`, as for all commands below."""
        if self.has_failed:
            raise PlatformError(Code.MEDIA_UNAVAILABLE, "the media engine has failed")
        try:
            port, number = self._engine.open_port(local_ip)
        except PortsExhaustedError as error:
            raise PlatformError(Code.MEDIA_PORTS_EXHAUSTED, f"RTP ports {self._range}") from error
        except (OSError, ValueError) as error:
            detail = f"media address {local_ip}: {error}"
            raise PlatformError(Code.CONFIG_INVALID, detail) from error
        self._ports.add(PortId(port))
        return PortId(port), number

    def fingerprint(self) -> str:
        """SHA-256 of the certificate that browsers are shown."""
        return self._engine.fingerprint()

    def connect(self, port: PortId, connection: Connection) -> None:
        """Set what was negotiated; PlatformError SDP_MALFORMED when it is no RTP address."""
        try:
            self._engine.connect(port, connection)
        except ValueError as error:
            raise PlatformError(Code.SDP_MALFORMED, str(error)) from error

    def relay(self, one: RelayEnd, other: RelayEnd, *, media_timeout_ms: int = 0) -> None:
        """Hand datagrams on; PlatformError SDP_MALFORMED for what is no address."""
        ends = [(each.port, each.remote_ip, each.remote_port) for each in (one, other)]
        try:
            self._engine.relay(ends[0], ends[1], media_timeout_ms)
        except (OverflowError, ValueError) as error:
            raise PlatformError(Code.SDP_MALFORMED, str(error)) from error

    def close_port(self, port: PortId) -> None:
        """Stop everything on the port."""
        self._engine.close_port(port)

    def play(self, port: PortId, paths: list[str], *, loop: bool = False) -> PlayId:
        """Play WAV files in order."""
        return PlayId(self._engine.play(port, paths, loop=loop))

    def play_tone(self, port: PortId, tone: Tone, *, loop: bool = True) -> PlayId:
        """Play a tone."""
        return PlayId(self._engine.play_tone(port, tone, loop=loop))

    def recognise(self, port: PortId, paths: list[str]) -> RecognitionId:
        """Listen for known sounds."""
        return RecognitionId(self._engine.recognise(port, paths))

    def stop_play(self, port: PortId) -> None:
        """Stop what plays."""
        self._engine.stop_play(port)

    def send_digits(self, port: PortId, digits: str, *, tone_ms: int, gap_ms: int) -> None:
        """Send keys."""
        self._engine.send_digits(port, digits, tone_ms=tone_ms, gap_ms=gap_ms)

    def set_key_routes(self, routes: Mapping[PortId, Sequence[PortId]]) -> None:
        """Change who gets whose keys."""
        self._engine.set_key_routes({sink: list(sources) for sink, sources in routes.items()})

    def set_routes(self, routes: Mapping[PortId, Sequence[PortId]]) -> None:
        """Change who hears whom."""
        self._engine.set_routes({sink: list(sources) for sink, sources in routes.items()})

    def start_recording(
        self,
        path: str,
        left: Sequence[PortId],
        right: Sequence[PortId] | None,
        *,
        form: RecordingForm = RecordingForm.PCM16,
    ) -> RecordingId:
        """Record what is received."""
        sides = list(left), None if right is None else list(right)
        a_law = form is RecordingForm.A_LAW
        return RecordingId(self._engine.start_recording(path, *sides, a_law))

    def set_recording_sides(
        self, recording: RecordingId, left: Sequence[PortId], right: Sequence[PortId]
    ) -> None:
        """Change who is recorded on which side."""
        self._engine.set_recording_sides(recording, list(left), list(right))

    def pause_recording(self, recording: RecordingId) -> None:
        """Record silence for a while."""
        self._engine.pause_recording(recording, True)

    def resume_recording(self, recording: RecordingId) -> None:
        """Record again what is said."""
        self._engine.pause_recording(recording, False)

    def start_tap(self, left: Sequence[PortId], right: Sequence[PortId]) -> TapId:
        """Emit what two sides are heard saying."""
        tap = TapId(self._engine.start_tap(list(left), list(right)))
        self._taps.add(tap)
        return tap

    def set_tap_sides(self, tap: TapId, left: Sequence[PortId], right: Sequence[PortId]) -> None:
        """Change who is heard on which side."""
        self._engine.set_tap_sides(tap, list(left), list(right))

    def stop_tap(self, tap: TapId) -> None:
        """End a tap."""
        self._engine.stop_tap(tap)

    def stop_recording(self, recording: RecordingId) -> None:
        """Finish the file."""
        self._engine.stop_recording(recording)

    def _deliver(self) -> None:
        for kind, *fields in self._engine.drain_events():
            if kind == "surveyed":
                self._tell_surveyed(fields[0])
            elif kind == "failed":
                self._fail()
            else:
                self._emit(_MAKERS[kind](*fields))

    def _emit(self, event: MediaEvent) -> None:
        if isinstance(event, PortClosed):
            self._ports.discard(event.port)
        elif isinstance(event, TapEnded):
            self._taps.discard(event.tap)
        if self.on_event is None:
            return
        try:
            self.on_event(event)
        except Exception:  # noqa: BLE001 - one listener's fault must not cost others theirs
            _log.exception("media_event_failed", kind=type(event).__name__)

    def _fail(self) -> None:
        """Let no call go on in silence: all that was open is told to be closed."""
        self.has_failed = True
        _log.critical("media_engine_failed", ports=len(self._ports))
        self._tell_surveyed(())
        while self._taps:
            self._emit(TapEnded(self._taps.pop(), 0, 0))
        while self._ports:
            self._emit(PortClosed(self._ports.pop(), _NO_FIGURES))
        self.on_failed()

    def _tell_surveyed(self, counts: object) -> None:
        surveyed, self._surveyed = self._surveyed, None
        if surveyed is not None and not surveyed.done():
            surveyed.set_result(dict(cast("list[tuple[PortId, int]]", counts)))
