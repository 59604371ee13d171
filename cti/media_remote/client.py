"""The engine of a media process as a node sees it: `MediaEngine`, and what can become of it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path

import structlog

from cti.media import (
    Codec,
    Connection,
    MediaEvent,
    PlayId,
    PortClosed,
    PortFigures,
    PortId,
    RecognitionId,
    RecordingEnded,
    RecordingForm,
    RecordingId,
    RelayEnd,
    TapEnded,
    TapId,
    Tone,
)
from cti.media_remote.link import MediaAddress, MediaLink
from cti.media_remote.prompt_shipping import PromptShipping
from cti.media_remote.recording_delivery import RecordingDelivery
from cti.media_remote.wire import command_message, event_of
from cti95598.media.v1 import media_pb2 as pb
from domain.failures import Code, PlatformError

_log = structlog.get_logger(__name__)

_PORT_MAX = 65_535
_NO_FIGURES = PortFigures(0, 0, 0, 0, 0.0)


@dataclass(frozen=True, slots=True)
class Orphan:
    """A port that an earlier process of this node has left at the engine."""

    port: int
    number: int
    since_unix_ms: int
    silent_s: int


@dataclass(slots=True)
class RemoteEngineStatus:
    """What a node knows of its media process."""

    target: str
    is_up: bool
    reason: str
    """Why it is not up, as far as it is known."""
    orphans: Sequence[Orphan]
    recordings_waiting: int


def _ignore(_: object) -> None:
    """Nobody has asked."""


class RemoteEngine:
    """Implements `cti.media.MediaEngine`; to be made where the loop runs, ended by `aclose`.

    Ports are opened ahead at the engine, so that one can be had at once. While the engine is away,
    none can be had (MEDIA_UNAVAILABLE), and commands wait. When it was away for too long, or comes
    back without memory, every open port is told to be closed.
    """

    def __init__(
        self,
        address: MediaAddress,
        *,
        node: str,
        local_ips: Sequence[str],
        recordings: Path,
        stock: int = 64,
        lost_after_s: float = 5.0,
        on_event: Callable[[MediaEvent], None] | None = None,
    ) -> None:
        """`local_ips`: addresses of the engine's machine that ports may be asked for at.

        Recordings that an earlier process of this node began are taken only below `recordings`.
        """
        self.on_event = on_event
        self.on_up: Callable[[bool], None] = _ignore
        """Called with True when the engine is there, and with False when it is not."""
        self.on_recovered: Callable[[RecordingEnded], None] = _ignore
        """Called for a recording that an earlier process of this node began."""
        self._address = address
        self._free: dict[str, deque[tuple[PortId, int]]] = {ip: deque() for ip in local_ips}
        self._wrong: dict[str, str] = {}
        self._ports: set[PortId] = set()
        self._taps: set[TapId] = set()
        self._last_id = 0
        self._figures: dict[str, int] = {}
        self._orphans: list[Orphan] = []
        self._recordings: dict[RecordingId, str] = {}
        self._ready = asyncio.Event()
        self._left: asyncio.Event | None = None
        self._link = MediaLink(
            address,
            self,
            node=node,
            stock=dict.fromkeys(local_ips, stock),
            lost_after_s=lost_after_s,
        )
        self._prompts = PromptShipping(self._link, address, node)
        self._delivery = RecordingDelivery(
            self._link, address, node, below=recordings, deliver=self._recorded
        )

    async def start(self, wait_s: float = 5.0) -> bool:
        """Connect, and wait until there are ports; False: it is away, and is tried again."""
        self._link.start()
        try:
            async with asyncio.timeout(wait_s):
                await self._ready.wait()
        except TimeoutError:
            return False
        return True

    async def aclose(self, wait_s: float = 10.0) -> None:
        """Close ports, finish recordings and fetch them; what does not come in time waits there."""
        if self._left is None:
            self._left = asyncio.Event()
            if self._link.is_up:
                self._link.send(pb.Command(leave=pb.Leave()))
                try:
                    async with asyncio.timeout(wait_s):
                        await self._left.wait()
                        await self._delivery.done()
                except TimeoutError:
                    _log.warning("media_engine_left_early", recordings=self._delivery.waiting)
            await self._prompts.aclose()
            await self._delivery.aclose()
            await self._link.aclose()
            self._close_all()

    def figures(self) -> dict[str, int]:
        """Counts of the whole engine, by name, not older than a second or so."""
        return dict(self._figures)

    @property
    def status(self) -> RemoteEngineStatus:
        """What is known of the engine."""
        return RemoteEngineStatus(
            self._address.target,
            self._link.is_up,
            self._link.reason,
            self._orphans,
            self._delivery.waiting,
        )

    # cti.media.MediaEngine

    def open_port(self, local_ip: str) -> tuple[PortId, int]:
        """Take a port of the stock; see `MediaEngine`, as for all commands below."""
        stock = self._free.get(local_ip)
        if stock is None or local_ip in self._wrong:
            why = self._wrong.get(local_ip, "the media process was not asked to listen there")
            raise PlatformError(Code.CONFIG_INVALID, f"media address {local_ip}: {why}")
        if not self._link.is_up:
            raise PlatformError(Code.MEDIA_UNAVAILABLE, self._address.target)
        if not stock:
            raise PlatformError(Code.MEDIA_PORTS_EXHAUSTED, f"at {self._address.target}")
        port, number = stock.popleft()
        self._ports.add(port)
        self._link.send(pb.Command(take_port=pb.TakePort(port=port)))
        return port, number

    def fingerprint(self) -> str:
        """SHA-256 of the certificate that browsers are shown; empty before the first connection."""
        return self._link.fingerprint

    def connect(self, port: PortId, connection: Connection) -> None:
        """Set what was negotiated; PlatformError SDP_MALFORMED when it is no RTP address."""
        try:
            _check_address(connection.remote_ip, connection.remote_port)
            Codec(connection.codec)
        except ValueError as error:
            raise PlatformError(Code.SDP_MALFORMED, str(error)) from error
        self._tell("connect", port=port, connection=connection)

    def close_port(self, port: PortId) -> None:
        """Stop everything on the port."""
        self._tell("close_port", port=port)

    def play(self, port: PortId, paths: list[str], *, loop: bool = False) -> PlayId:
        """Play WAV files of this machine in order."""
        play = PlayId(self._new_id())
        files = [self._prompts.file(path) for path in paths]
        self._tell("play", port=port, paths=files, loop=loop, play=play)
        return play

    def play_tone(self, port: PortId, tone: Tone, *, loop: bool = True) -> PlayId:
        """Play a tone's cadence."""
        play = PlayId(self._new_id())
        self._tell("play_tone", port=port, tone=tone, loop=loop, play=play)
        return play

    def recognise(self, port: PortId, paths: list[str]) -> RecognitionId:
        """Listen for WAV files of this machine."""
        recognition = RecognitionId(self._new_id())
        files = [self._prompts.file(path) for path in paths]
        self._tell("recognise", port=port, paths=files, recognition=recognition)
        return recognition

    def stop_play(self, port: PortId) -> None:
        """Stop what plays."""
        self._tell("stop_play", port=port)

    def send_digits(self, port: PortId, digits: str, *, tone_ms: int, gap_ms: int) -> None:
        """Send keys."""
        self._tell("send_digits", port=port, digits=digits, tone_ms=tone_ms, gap_ms=gap_ms)

    def relay(self, one: RelayEnd, other: RelayEnd, *, media_timeout_ms: int = 0) -> None:
        """Hand on datagrams as they are."""
        try:
            for end in (one, other):
                _check_address(end.remote_ip, end.remote_port)
        except ValueError as error:
            raise PlatformError(Code.SDP_MALFORMED, str(error)) from error
        self._tell("relay", one=one, other=other, media_timeout_ms=media_timeout_ms)

    def set_key_routes(self, routes: Mapping[PortId, Sequence[PortId]]) -> None:
        """Change who sends on whose keys."""
        self._tell("set_key_routes", routes=routes)

    def set_routes(self, routes: Mapping[PortId, Sequence[PortId]]) -> None:
        """Change who hears whom."""
        self._tell("set_routes", routes=routes)

    def start_recording(
        self,
        path: str,
        left: Sequence[PortId],
        right: Sequence[PortId] | None,
        *,
        form: RecordingForm = RecordingForm.PCM16,
    ) -> RecordingId:
        """Record what is received; the file comes to `path` after its end."""
        recording = RecordingId(self._new_id())
        self._recordings[recording] = path
        self._tell(
            "start_recording", path=path, left=left, right=right, form=form, recording=recording
        )
        return recording

    def set_recording_sides(
        self, recording: RecordingId, left: Sequence[PortId], right: Sequence[PortId]
    ) -> None:
        """Change who is recorded on which side."""
        self._tell("set_recording_sides", recording=recording, left=left, right=right)

    def stop_recording(self, recording: RecordingId) -> None:
        """Finish the file."""
        self._tell("stop_recording", recording=recording)

    def pause_recording(self, recording: RecordingId) -> None:
        """Record silence for a while."""
        self._tell("pause_recording", recording=recording)

    def resume_recording(self, recording: RecordingId) -> None:
        """Record again what is said."""
        self._tell("resume_recording", recording=recording)

    def start_tap(self, left: Sequence[PortId], right: Sequence[PortId]) -> TapId:
        """Emit what two sides are heard saying."""
        tap = TapId(self._new_id())
        self._taps.add(tap)
        self._tell("start_tap", left=left, right=right, tap=tap)
        return tap

    def set_tap_sides(self, tap: TapId, left: Sequence[PortId], right: Sequence[PortId]) -> None:
        """Change who is heard on which side."""
        self._tell("set_tap_sides", tap=tap, left=left, right=right)

    def stop_tap(self, tap: TapId) -> None:
        """End a tap."""
        self._tell("stop_tap", tap=tap)

    def _tell(self, name: str, **arguments: object) -> None:
        self._link.send(command_message(name, arguments))

    def _new_id(self) -> int:
        self._last_id += 1
        return self._last_id

    # cti.media_remote.link.LinkUser

    def take_event(self, event: pb.Event) -> None:
        """See LinkUser."""
        match event.WhichOneof("body"):
            case None:
                return  # a newer engine's
            case "port_stocked":
                stocked = event.port_stocked
                self._free[stocked.local_ip].append((PortId(stocked.port), stocked.number))
                self._ready.set()
            case "stock_failed":
                self._wrong[event.stock_failed.local_ip] = event.stock_failed.error
                self._ready.set()
            case "prompt_wanted":
                self._prompts.ship(event.prompt_wanted.file)
            case "recording_spooled":
                self._spooled(event.recording_spooled)
            case "left":
                if self._left is not None:
                    self._left.set()
            case "port_closed" if PortId(event.port_closed.port) not in self._ports:
                self._forget_stocked(PortId(event.port_closed.port))
            case body:
                told = event_of(getattr(event, body))
                if isinstance(told, PortClosed):
                    self._ports.discard(told.port)
                elif isinstance(told, TapEnded):
                    self._taps.discard(told.tap)
                self._emit(told)

    def take_status(self, status: pb.Status) -> None:
        """See LinkUser."""
        self._figures = dict(status.figures)
        self._orphans = [
            Orphan(each.port, each.number, each.since_unix_ms, each.silent_s)
            for each in status.orphans
        ]

    def attended(self) -> None:
        """See LinkUser."""
        self.on_up(True)

    def away(self) -> None:
        """See LinkUser."""
        self.on_up(False)

    def lost(self) -> None:
        """See LinkUser."""
        _log.error("media_engine_lost", target=self._address.target, ports=len(self._ports))
        for stock in self._free.values():
            stock.clear()
        self._wrong.clear()
        if self._left is not None:
            self._left.set()
        self._close_all()

    # Inside

    def _close_all(self) -> None:
        while self._taps:
            self._emit(TapEnded(self._taps.pop(), 0, 0))
        while self._ports:
            self._emit(PortClosed(self._ports.pop(), _NO_FIGURES))

    def _forget_stocked(self, port: PortId) -> None:
        for stock in self._free.values():
            for entry in stock:
                if entry[0] == port:
                    stock.remove(entry)
                    return

    def _spooled(self, spooled: pb.RecordingSpooled) -> None:
        ended = event_of(spooled.ended)
        if not isinstance(ended, RecordingEnded):
            return
        own = self._recordings.get(ended.recording) if self._is_own(spooled.session) else None
        self._delivery.fetch(spooled.name, ended if own is None else replace(ended, path=own), own)

    def _is_own(self, session: str) -> bool:
        return session in self._link.sessions

    def _recorded(self, ended: RecordingEnded, *, is_own: bool) -> None:
        if is_own:
            self._recordings.pop(ended.recording, None)
            self._emit(ended)
        else:
            self.on_recovered(ended)

    def _emit(self, event: MediaEvent) -> None:
        if self.on_event is None:
            return
        try:
            self.on_event(event)
        except Exception:  # noqa: BLE001 - one listener's fault must not cost others theirs
            _log.exception("media_event_failed", kind=type(event).__name__)


def _check_address(ip: str, port: int) -> None:
    """Refuse at once what the engine would refuse when nobody waits for its answer any more."""
    ip_address(ip)
    if not 0 <= port <= _PORT_MAX:
        raise ValueError(f"port {port}")
