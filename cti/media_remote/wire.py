"""Commands and events of `cti.media` as messages of `media.proto`, by the names of their fields.

A field that is added to a class or a parameter to a method needs the same name in `media.proto`,
and nothing here; a class or a method needs one line in the tables below. `tests/media` checks that
nothing is missing.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any, NewType, TypeAlias, Union, get_args, get_origin, get_type_hints

from google.protobuf.message import Message

from cti import media
from cti.media import MediaEngine, MediaEvent, PortId
from cti95598.media.v1 import media_pb2 as pb

EVENTS: Mapping[type[Any], type[Message]] = {
    media.DigitReceived: pb.DigitReceived,
    media.PlayEnded: pb.PlayEnded,
    media.DigitsSent: pb.DigitsSent,
    media.MediaTimedOut: pb.MediaTimedOut,
    media.ToneDetected: pb.ToneDetected,
    media.AnswerJudged: pb.AnswerJudged,
    media.SoundRecognised: pb.SoundRecognised,
    media.RecognitionFailed: pb.RecognitionFailed,
    media.SecureMediaReady: pb.SecureMediaReady,
    media.SecureMediaFailed: pb.SecureMediaFailed,
    media.RecordingEnded: pb.RecordingEnded,
    media.TapAudio: pb.TapAudio,
    media.TapEnded: pb.TapEnded,
    media.PortClosed: pb.PortClosed,
}
"""By the class of an event; `Event.body` has a field of the message's name in snake case."""

PARTS: Mapping[type[Any], type[Message]] = {
    media.RelayEnd: pb.RelayEnd,
    media.SrtpKeys: pb.SrtpKeys,
    media.DtlsPeer: pb.DtlsPeer,
    media.Connection: pb.Connection,
    media.PortFigures: pb.PortFigures,
}
"""Classes that events and commands are made of."""

COMMANDS: Mapping[str, type[Message]] = {
    "connect": pb.Connect,
    "close_port": pb.ClosePort,
    "play": pb.Play,
    "play_tone": pb.PlayTone,
    "recognise": pb.Recognise,
    "stop_play": pb.StopPlay,
    "send_digits": pb.SendDigits,
    "relay": pb.Relay,
    "set_key_routes": pb.SetKeyRoutes,
    "set_routes": pb.SetRoutes,
    "start_recording": pb.StartRecording,
    "set_recording_sides": pb.SetRecordingSides,
    "stop_recording": pb.StopRecording,
    "pause_recording": pb.PauseRecording,
    "resume_recording": pb.ResumeRecording,
    "start_tap": pb.StartTap,
    "set_tap_sides": pb.SetTapSides,
    "stop_tap": pb.StopTap,
}
"""By the name of the method, which is that of the field of `Command.body` too."""

NAMED_BY_CALLER: Mapping[str, str] = {
    "play": "play",
    "play_tone": "play",
    "recognise": "recognition",
    "start_recording": "recording",
    "start_tap": "tap",
}
"""Commands that return an id of the node's, and the message's field for it."""

# These name files; a message names them as they are now, for the engine to know its copies by.
_BY_HAND = {("play", "paths"), ("recognise", "paths")}

Ids = Mapping[object, Callable[[int], int]]
"""How ids of one side are translated into those of the other; missing kinds stay what they are."""

SAME_IDS: Ids = {}

_Value: TypeAlias = Any  # of a field
_Hint: TypeAlias = Any  # its type
_Convert = Callable[[_Value, Ids], _Value]


class UnknownIdError(LookupError):
    """An id that the other side does not know, or that is not its own."""


def event_message(event: MediaEvent, ids: Ids) -> pb.Event:
    """Return an event as a message; UnknownIdError."""
    kind = type(event)
    body: dict[str, Any] = {_EVENT_FIELDS[kind]: _filled(EVENTS[kind], kind, event, ids)}
    return pb.Event(**body)


def event_of(message: Message) -> MediaEvent:
    """Return the event that a message (the body of `Event`) holds."""
    kind = _EVENT_OF_MESSAGE[type(message)]
    event: MediaEvent = _object(kind, message, SAME_IDS)
    return event


def command_message(name: str, arguments: Mapping[str, Any]) -> pb.Command:
    """Return a command as a message, with its arguments by name."""
    message = COMMANDS[name]
    plan = _command_plan(name)
    fields = {}
    for argument, value in arguments.items():
        if value is not None:
            convert = plan[argument][0] if argument in plan else None
            fields[argument] = value if convert is None else convert(value, SAME_IDS)
    body: dict[str, Any] = {name: message(**fields)}
    return pb.Command(**body)


def command_arguments(name: str, message: Message, ids: Ids) -> dict[str, Any]:
    """Return a command's arguments by name; UnknownIdError for what is not the sender's."""
    return {
        argument: convert(message, ids)
        for argument, (_, convert) in _command_plan(name).items()
        if (name, argument) not in _BY_HAND
    }


# Plans, made once for each class and method from its type hints


def _filled(message: type[Message], kind: type[Any], value: _Value, ids: Ids) -> Message:
    fields = {}
    for name, convert in _PLANS[kind].to_wire:
        item = getattr(value, name)
        if item is not None:
            fields[name] = item if convert is None else convert(item, ids)
    return message(**fields)


def _object(kind: type[Any], message: Message, ids: Ids) -> _Value:
    return kind(**{name: read(message, ids) for name, read in _PLANS[kind].from_wire})


@cache
def _command_plan(name: str) -> dict[str, tuple[_Convert | None, _Convert]]:
    """By parameter: how a value becomes a field, and how it is read from the message."""
    method = getattr(MediaEngine, name)
    hints = get_type_hints(method)
    parameters = [each for each in inspect.signature(method).parameters if each != "self"]
    return {
        each: (
            None if (name, each) in _BY_HAND else _to_wire(hints[each]),
            _reader(each, hints[each]),
        )
        for each in parameters
    }


def _to_wire(hint: _Hint) -> _Convert | None:
    """How a value of a type becomes a field's; None: as it is."""
    inner, _ = _without_none(hint)
    convert: _Convert | None = None
    if inner == _ROUTES:
        convert = _routes_to_wire
    elif inner == _SIDE:
        convert = _side_to_wire
    elif inner == _SPANS:
        convert = _spans_to_wire
    elif get_origin(inner) in _LISTS:
        convert = _list_to_wire(inner)
    elif isinstance(inner, NewType):
        convert = _id_converter(inner)
    elif dataclasses.is_dataclass(inner):
        convert = _part_to_wire(inner)
    elif _is_enum(inner):
        convert = _enum_to_wire
    return convert


def _routes_to_wire(value: _Value, _: Ids) -> list[pb.Route]:
    return [pb.Route(sink=sink, sources=sources) for sink, sources in value.items()]


def _side_to_wire(value: _Value, _: Ids) -> pb.Side:
    return pb.Side(ports=value)


def _spans_to_wire(value: _Value, _: Ids) -> list[pb.Span]:
    return [pb.Span(start=start, end=end) for start, end in value]


def _part_to_wire(kind: _Hint) -> _Convert:
    return lambda value, ids: _filled(PARTS[kind], kind, value, ids)


def _enum_to_wire(value: _Value, _: Ids) -> str:
    return str(value)


def _list_to_wire(hint: _Hint) -> _Convert:
    item = _to_wire(get_args(hint)[0])
    origin: object = get_origin(hint)
    is_set = origin is frozenset

    def convert(value: _Value, ids: Ids) -> _Value:
        items = list(value) if item is None else [item(each, ids) for each in value]
        # A set has no order; its message has one, so that equal sets are equal messages.
        return sorted(items) if is_set else items

    return convert


def _reader(name: str, hint: _Hint) -> _Convert:
    """How a field of a message becomes a value of a type."""
    inner, is_optional = _without_none(hint)
    convert = _from_wire(inner)

    def read(message: _Value, ids: Ids) -> _Value:
        if is_optional and not message.HasField(name):
            return None
        value = getattr(message, name)
        return value if convert is None else convert(value, ids)

    return read


def _from_wire(inner: _Hint) -> _Convert | None:
    convert: _Convert | None = None
    if inner == _ROUTES:
        convert = _routes_from_wire
    elif inner == _SIDE:
        convert = _side_from_wire
    elif inner == _SPANS:
        convert = _spans_from_wire
    elif get_origin(inner) in _LISTS:
        convert = _list_from_wire(inner)
    elif isinstance(inner, NewType):
        convert = _id_converter(inner)
    elif dataclasses.is_dataclass(inner):
        convert = _part_from_wire(inner)
    elif _is_enum(inner):
        convert = _enum_from_wire(inner)
    return convert


def _side_from_wire(value: _Value, ids: Ids) -> list[int]:
    return _known_ports(value.ports, ids)


def _spans_from_wire(value: _Value, _: Ids) -> tuple[tuple[int, int], ...]:
    return tuple((span.start, span.end) for span in value)


def _part_from_wire(kind: _Hint) -> _Convert:
    return lambda value, ids: _object(kind, value, ids)


def _enum_from_wire(kind: _Hint) -> _Convert:
    return lambda value, _: kind(value)


def _id_converter(kind: object) -> _Convert:
    return lambda value, ids: _translated(kind, value, ids)


def _list_from_wire(hint: _Hint) -> _Convert:
    make: _Hint = get_origin(hint)
    item = _from_wire(get_args(hint)[0])
    return lambda value, ids: make(each if item is None else item(each, ids) for each in value)


def _routes_from_wire(value: _Value, ids: Ids) -> dict[int, list[int]]:
    return {
        sink: _known_ports(route.sources, ids)
        for route in value
        for sink in _known_ports([route.sink], ids)
    }


# A list of ports may be absent, which a repeated field cannot; and ports that are gone are left
# out of lists, where a command for one that is gone is ignored as a whole.
_SIDE = Sequence[PortId]
_ROUTES = Mapping[PortId, Sequence[PortId]]
_SPANS = tuple[tuple[int, int], ...]
_LISTS: tuple[object, ...] = (list, tuple, frozenset)


def _known_ports(ports: Iterable[int], ids: Ids) -> list[int]:
    """Translate ports; those that are not there are nobody, as with an engine inside."""
    known = []
    for port in ports:
        with suppress(UnknownIdError):
            known.append(_translated(PortId, port, ids))
    return known


def _translated(kind: object, value: int, ids: Ids) -> int:
    translate = ids.get(kind)
    return value if translate is None else translate(value)


def _is_enum(hint: _Hint) -> bool:
    return isinstance(hint, type) and issubclass(hint, StrEnum)


def _without_none(hint: _Hint) -> tuple[_Hint, bool]:
    if get_origin(hint) in {Union, types.UnionType}:
        rest = [each for each in get_args(hint) if each is not type(None)]
        if len(rest) == 1:
            return rest[0], True
    return hint, False


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


@dataclass(frozen=True, slots=True)
class _Plan:
    to_wire: list[tuple[str, _Convert | None]]
    from_wire: list[tuple[str, _Convert]]


def _plan(kind: type[Any]) -> _Plan:
    hints = get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]
    return _Plan(
        [(name, _to_wire(hints[name])) for name in names],
        [(name, _reader(name, hints[name])) for name in names],
    )


_PLANS = {kind: _plan(kind) for kind in [*PARTS, *EVENTS]}
_EVENT_FIELDS = {kind: _snake(message.__name__) for kind, message in EVENTS.items()}
_EVENT_OF_MESSAGE = {message: kind for kind, message in EVENTS.items()}
