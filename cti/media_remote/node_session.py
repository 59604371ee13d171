"""One node's session at the media process: its ports, plays and recordings, and what to tell it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import structlog

from cti.media import (
    MediaEngine,
    MediaEvent,
    PlayEnded,
    PlayId,
    PortClosed,
    PortId,
    RecognitionFailed,
    RecognitionId,
    RecordingEnded,
    RecordingId,
    SoundRecognised,
    TapAudio,
    TapEnded,
    TapId,
)
from cti.media_remote.file_uses import FileUse, FileUses
from cti.media_remote.numbered import Numbered, SeenCount
from cti.media_remote.orphans import SilenceWatch
from cti.media_remote.prompt_cache import FileVersion, PromptCache
from cti.media_remote.spool import RecordingSpool, Spooled
from cti.media_remote.wire import (
    NAMED_BY_CALLER,
    Ids,
    UnknownIdError,
    command_arguments,
    event_message,
)
from cti95598.media.v1 import media_pb2 as pb
from domain.failures import Code, PlatformError

_log = structlog.get_logger(__name__)

_MOST_EVENTS_WAITING = 65_536
_MOST_EVENTS_BEFORE_AUDIO = 4096  # of taps: nobody is harmed by a gap in it
_MOST_STOCK = 1024


class SessionHost(Protocol):
    """What sessions share."""

    engine: MediaEngine
    prompts: PromptCache
    spool: RecordingSpool
    port_base: int
    """Added to the engine's ports: no two processes give one number to two ports."""

    def now_s(self) -> float:
        """Return the time of the loop."""

    def owns_port(self, port: PortId, session: NodeSession) -> None:
        """Send the events of a port to a session."""

    def owns_recording(self, recording: RecordingId, session: NodeSession) -> None:
        """Send the end of a recording to a session."""

    def owns_tap(self, tap: TapId, session: NodeSession) -> None:
        """Send the audio of a tap to a session."""

    def tell_spooled(self, spooled: Spooled) -> None:
        """Tell a recording's node of it, whichever session it has now."""


@dataclass(slots=True)
class _Recording:
    number: int
    name: str
    path: str
    ports: set[PortId]


class NodeSession:
    """Applies the commands of a node, and keeps its events until the node has seen them."""

    def __init__(self, host: SessionHost, node: str, session_id: str) -> None:
        self.node = node
        self.session_id = session_id
        self.events: Numbered[pb.Event] = Numbered()
        self.commands = SeenCount()
        self.wake: Callable[[], None] = lambda: None
        """Called when there is something to tell."""
        self.watch: SilenceWatch | None = None
        """Set while the node is away."""
        self.ports: dict[PortId, int] = {}
        """Ports in use, as the engine names them, and their numbers."""
        self.sources: dict[int, list[int]] = {}
        self.is_leaving = False
        self.is_given_up = False
        """Whether no node will ever come back for it."""
        self._host = host
        self._stock: dict[str, dict[PortId, int]] = {}
        self._stock_wanted: dict[str, int] = {}
        self._stock_ip: dict[PortId, str] = {}
        self._plays: FileUses[PlayId] = FileUses()
        self._recognitions: FileUses[RecognitionId] = FileUses()
        self._recordings: dict[RecordingId, _Recording] = {}
        self._recording_of: dict[int, RecordingId] = {}
        self._taps: dict[TapId, int] = {}
        self._tap_of: dict[int, TapId] = {}
        base = host.port_base
        self._to_engine: Ids = {
            PortId: self._engine_port,
            RecordingId: lambda number: _known(self._recording_of, number),
            TapId: lambda number: _known(self._tap_of, number),
        }
        self._to_node: Ids = {
            PortId: lambda port: port + base,
            PlayId: lambda play: self._plays.number(PlayId(play)),
            RecognitionId: lambda number: self._recognitions.number(RecognitionId(number)),
            TapId: lambda tap: self._taps[TapId(tap)],
        }

    @property
    def is_empty(self) -> bool:
        """Whether nothing of it is left at the engine."""
        return not (self.ports or self._stock_ip or self._recordings)

    @property
    def has_left(self) -> bool:
        """Whether it has left and all is closed."""
        return self.is_leaving and self.is_empty

    # Commands

    def apply(self, first: int, commands: Sequence[pb.Command]) -> None:
        """Apply the commands that were not applied yet, in order."""
        for command in self.commands.new_of(first, commands):
            name = command.WhichOneof("body")
            try:
                self._apply(name or "", command)
            except UnknownIdError:
                continue  # a port that is gone, as with an engine inside
            except Exception:  # noqa: BLE001 - one command's fault must not cost others theirs
                _log.exception("media_command_failed", node=self.node, command=name)

    def _apply(self, name: str, command: pb.Command) -> None:
        match name:
            case "take_port":
                self._take_port(command.take_port)
            case "leave":
                self.leave()
            case "prompt_missing":
                self._prompt_missing(command.prompt_missing)
            case "play":
                self._play(command.play)
            case "play_tone":
                self._play_tone(command.play_tone)
            case "recognise":
                self._recognise(command.recognise)
            case "start_recording":
                self._start_recording(command.start_recording)
            case "start_tap":
                self._start_tap(command.start_tap)
            case "":
                return  # a newer node's
            case _:
                arguments = command_arguments(name, getattr(command, name), self._to_engine)
                self._note(name, arguments)
                getattr(self._host.engine, name)(**arguments)

    def _note(self, name: str, arguments: dict[str, Any]) -> None:
        """Keep what the session has to know of a command that the engine gets as it is."""
        match name:
            case "stop_play" | "close_port":
                waiting = self._plays.stop_waiting(arguments["port"])
                if waiting is not None:
                    self._tell_play_ended(arguments["port"], waiting.number, "")
            case "set_routes":
                self.sources |= arguments["routes"]
            case "relay":
                one, other = arguments["one"].port, arguments["other"].port
                self.sources |= {one: [other], other: [one]}
            case "set_recording_sides":
                recording = self._recordings[arguments["recording"]]
                recording.ports = {*arguments["left"], *arguments["right"]}

    def _take_port(self, command: pb.TakePort) -> None:
        port = PortId(command.port - self._host.port_base)
        local_ip = self._stock_ip.pop(port)
        self.ports[port] = self._stock[local_ip].pop(port)
        if len(self._stock[local_ip]) <= self._stock_wanted[local_ip] // 2:
            self.restock()

    # Ports opened ahead

    def want_stock(self, stock: Sequence[pb.Stock]) -> None:
        """Keep ports ready at these addresses."""
        for one in stock:
            self._stock_wanted[one.local_ip] = min(one.ports, _MOST_STOCK)
            self._stock.setdefault(one.local_ip, {})
        self.restock()

    def restock(self) -> None:
        """Open ports until the stock is full or the engine has no more."""
        if self.is_leaving or self.is_given_up:
            return
        for local_ip, wanted in self._stock_wanted.items():
            stock = self._stock[local_ip]
            while len(stock) < wanted:
                try:
                    port, number = self._host.engine.open_port(local_ip)
                except PlatformError as error:
                    if error.code is not Code.MEDIA_PORTS_EXHAUSTED:
                        self._stock_wanted[local_ip] = 0
                        failed = pb.StockFailed(local_ip=local_ip, error=error.detail or "")
                        self.tell(pb.Event(stock_failed=failed))
                    break
                stock[port] = number
                self._stock_ip[port] = local_ip
                self._host.owns_port(port, self)
                stocked = pb.PortStocked(
                    port=port + self._host.port_base, local_ip=local_ip, number=number
                )
                self.tell(pb.Event(port_stocked=stocked))

    # Plays, and sounds that are listened for

    def _play(self, command: pb.Play) -> None:
        arguments = command_arguments("play", command, self._to_engine)
        port: PortId = arguments["port"]
        self._plays.stop_waiting(port)
        play = FileUse(command.play, command.paths, arguments["loop"])
        if not self._start_play(port, play):
            self._plays.wait(port, play)

    def _start_play(self, port: PortId, play: FileUse) -> bool:
        paths = self._copies(play)
        if paths is None:
            return False
        self._plays.begin(port, self._host.engine.play(port, paths, loop=play.loop), play)
        return True

    def _play_tone(self, command: pb.PlayTone) -> None:
        arguments = command_arguments("play_tone", command, self._to_engine)
        port: PortId = arguments["port"]
        self._plays.stop_waiting(port)
        started = self._host.engine.play_tone(**arguments)
        self._plays.begin(port, started, FileUse(command.play, ()))

    def _recognise(self, command: pb.Recognise) -> None:
        port: PortId = command_arguments("recognise", command, self._to_engine)["port"]
        self._recognitions.forget(port)
        sounds = FileUse(command.recognition, command.paths)
        if not self._start_recognition(port, sounds):
            self._host.engine.recognise(port, [])
            self._recognitions.wait(port, sounds)

    def _start_recognition(self, port: PortId, sounds: FileUse) -> bool:
        paths = self._copies(sounds)
        if paths is None:
            return False
        self._recognitions.begin(port, self._host.engine.recognise(port, paths), sounds)
        return True

    def _copies(self, use: FileUse) -> list[str] | None:
        """Return where files are kept; None: one of them has to come first, and is asked for."""
        paths = []
        for file in use.files:
            copy = self._host.prompts.find(self._version(file), self._host.now_s())
            if copy is None:
                self.tell(pb.Event(prompt_wanted=pb.PromptWanted(file=file)))
                return None
            paths.append(str(copy))
        return paths

    def prompt_known(self, file: FileVersion) -> None:
        """Begin what waited for a file."""
        for port, play in self._plays.waiting_for(self._users_of(file)):
            if self._start_play(port, play):
                self._plays.stop_waiting(port)
        for port, sounds in self._recognitions.waiting_for(self._users_of(file)):
            if self._start_recognition(port, sounds):
                self._recognitions.stop_waiting(port)

    def _prompt_missing(self, command: pb.PromptMissing) -> None:
        users = self._users_of(self._version(command.file))
        for port, play in self._plays.waiting_for(users):
            self._plays.stop_waiting(port)
            self._tell_play_ended(port, play.number, command.error)
        for port, sounds in self._recognitions.waiting_for(users):
            self._recognitions.stop_waiting(port)
            number = port + self._host.port_base
            failed = pb.RecognitionFailed(
                port=number, recognition=sounds.number, error=command.error
            )
            self.tell(pb.Event(recognition_failed=failed))

    def _users_of(self, file: FileVersion) -> Callable[[FileUse], bool]:
        return lambda use: any(self._version(each) == file for each in use.files)

    def _version(self, file: pb.PromptFile) -> FileVersion:
        return FileVersion(self.node, file.path, file.modified_ns, file.size_bytes)

    def _tell_play_ended(self, port: PortId, number: int, error: str) -> None:
        ended = pb.PlayEnded(port=port + self._host.port_base, play=number, error=error)
        self.tell(pb.Event(play_ended=ended))

    # Recordings

    def _start_recording(self, command: pb.StartRecording) -> None:
        arguments = command_arguments("start_recording", command, self._to_engine)
        number = getattr(command, NAMED_BY_CALLER["start_recording"])
        try:
            name, wav = self._host.spool.begin(self.node, self.session_id, number, command.path)
        except OSError as error:
            self.tell(pb.Event(recording_ended=_failed(number, command.path, str(error))))
            return
        recording = self._host.engine.start_recording(**(arguments | {"path": str(wav)}))
        ports = {*arguments["left"], *(arguments["right"] or ())}
        self._recordings[recording] = _Recording(number, name, command.path, ports)
        self._recording_of[number] = recording
        self._host.owns_recording(recording, self)

    def _recording_ended(self, event: RecordingEnded) -> None:
        recording = self._recordings.pop(event.recording)
        del self._recording_of[recording.number]
        spooled = self._host.spool.finish(
            recording.name, self.node, self.session_id, recording.number, recording.path, event
        )
        self._host.tell_spooled(spooled)
        self._leave_if_empty()

    def _start_tap(self, command: pb.StartTap) -> None:
        arguments = command_arguments("start_tap", command, self._to_engine)
        tap = self._host.engine.start_tap(**arguments)
        self._taps[tap] = command.tap
        self._tap_of[command.tap] = tap
        self._host.owns_tap(tap, self)

    # Events

    def on_event(self, event: MediaEvent) -> None:
        """Take an event of the engine that is about something of this session."""
        if isinstance(event, RecordingEnded):
            self._recording_ended(event)
            return
        if isinstance(event, PlayEnded | SoundRecognised | RecognitionFailed):
            use = self._use_of(event)
            if use is None:
                return  # another one has taken its place
            if not isinstance(event, SoundRecognised):
                event = self._in_words_of_node(event, use)
        if isinstance(event, TapAudio) and (
            self.watch is not None or len(self.events) >= _MOST_EVENTS_BEFORE_AUDIO
        ):
            return  # the gap is seen by the times of the pieces
        self.tell(event_message(event, self._to_node))
        if isinstance(event, PlayEnded):
            self._plays.end_of(event.port, event.play)
        elif isinstance(event, SoundRecognised | RecognitionFailed):
            self._recognitions.end_of(event.port, event.recognition)
        elif isinstance(event, PortClosed):
            self._port_closed(event.port)
        elif isinstance(event, TapEnded):
            self._tap_of.pop(self._taps.pop(event.tap), None)

    def tell(self, event: pb.Event) -> None:
        """Queue an event for the node."""
        if self.is_given_up:
            return
        if len(self.events) >= _MOST_EVENTS_WAITING:
            # Rather no session than one that has lost something without a word.
            _log.error("media_session_overflows", node=self.node, session=self.session_id)
            self.give_up()
            return
        self.events.append(event)
        self.wake()

    def _use_of(self, event: PlayEnded | SoundRecognised | RecognitionFailed) -> FileUse | None:
        if isinstance(event, PlayEnded):
            return self._plays.get(event.play)
        return self._recognitions.get(event.recognition)

    def _in_words_of_node(
        self, event: PlayEnded | RecognitionFailed, use: FileUse
    ) -> PlayEnded | RecognitionFailed:
        error = event.error
        if not error:
            return event
        for file in use.files:
            copy = self._host.prompts.find(self._version(file), self._host.now_s())
            if copy is not None:
                error = error.replace(str(copy), file.path)
        return replace(event, error=error)

    def _port_closed(self, port: PortId) -> None:
        self.ports.pop(port, None)
        self._plays.forget(port)
        self._recognitions.forget(port)
        self.sources.pop(port, None)
        local_ip = self._stock_ip.pop(port, None)
        if local_ip is not None:
            self._stock[local_ip].pop(port, None)
        self._leave_if_empty()

    # The end

    def leave(self) -> None:
        """Close everything; Left is told when it is done."""
        self.is_leaving = True
        self._close_all()
        self._leave_if_empty()

    def give_up(self) -> None:
        """Close everything for a node that will not ask for it any more."""
        self.is_given_up = True
        self.events.clear()
        self._close_all()
        self.wake()

    def orphan(self) -> None:
        """Go on without a node: its ports carry audio until nobody is heard on them."""
        self.is_given_up = True
        self.events.clear()
        for tap in self._taps:
            self._host.engine.stop_tap(tap)
        for port in list(self._stock_ip):
            self._host.engine.close_port(port)
        self.wake()

    def close(self, ports: set[int]) -> None:
        """Close ports that nobody is heard on, and finish the recordings of nothing else."""
        for port in ports:
            self._host.engine.close_port(PortId(port))
        left = self.ports.keys() - ports
        for recording, facts in self._recordings.items():
            if not left & facts.ports:
                self._host.engine.stop_recording(recording)

    def _close_all(self) -> None:
        for recording in self._recordings:
            self._host.engine.stop_recording(recording)
        for tap in self._taps:
            self._host.engine.stop_tap(tap)
        for port in [*self.ports, *self._stock_ip]:
            self._host.engine.close_port(port)

    def _leave_if_empty(self) -> None:
        if self.has_left:
            self.tell(pb.Event(left=pb.Left()))

    # Ids

    def _engine_port(self, port: int) -> int:
        own = PortId(port - self._host.port_base)
        if own not in self.ports:
            raise UnknownIdError
        return own


def _known(known: Mapping[int, int], number: int) -> int:
    """Translate a number of the node's."""
    own = known.get(number)
    if own is None:
        raise UnknownIdError
    return own


def _failed(number: int, path: str, error: str) -> pb.RecordingEnded:
    return pb.RecordingEnded(recording=number, path=path, error=error)
