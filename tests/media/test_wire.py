"""Every command and event of the engine has its message, with every field."""

from __future__ import annotations

import dataclasses
import inspect
from enum import StrEnum
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from cti import media
from cti.media import Codec, Connection, MediaEngine, MediaEvent, PortId, RecordingForm
from cti.media_remote.wire import (
    COMMANDS,
    EVENTS,
    NAMED_BY_CALLER,
    PARTS,
    SAME_IDS,
    Ids,
    UnknownIdError,
    command_arguments,
    command_message,
    event_message,
    event_of,
)
from cti95598.media.v1 import media_pb2 as pb

A_LAW = RecordingForm.A_LAW
_SAMPLES: dict[Any, Any] = {int: 7, str: "seven", bool: True, float: 7.5, bytes: b"7"}


def _sample(kind: Any) -> Any:
    """An object of a class with something in every field."""
    hints = get_type_hints(kind)
    return kind(**{field.name: _value(hints[field.name]) for field in dataclasses.fields(kind)})


def _value(hint: Any) -> Any:
    if dataclasses.is_dataclass(hint):
        return _sample(hint)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return next(iter(hint))
    if get_origin(hint) is tuple:
        return ((1, 2), (3, 4))
    inner = [each for each in get_args(hint) if each is not type(None)]
    if inner:
        return frozenset({_value(inner[0])}) if "frozenset" in str(hint) else _value(inner[0])
    return _SAMPLES[getattr(hint, "__supertype__", hint)]


def _methods() -> list[str]:
    return [
        name
        for name, _ in inspect.getmembers(MediaEngine, inspect.isfunction)
        if not name.startswith("_") and name not in {"open_port", "fingerprint"}
    ]


def test_all_events_have_messages() -> None:
    assert set(EVENTS) == set(get_args(MediaEvent))


@pytest.mark.parametrize("kind", [*EVENTS, *PARTS])
def test_a_class_has_the_fields_of_its_message(kind: Any) -> None:
    message = {**EVENTS, **PARTS}[kind]
    names = {field.name for field in dataclasses.fields(kind)}
    assert names == set(message.DESCRIPTOR.fields_by_name), "add the field to media.proto"


@pytest.mark.parametrize("kind", EVENTS)
def test_an_event_comes_as_it_went(kind: Any) -> None:
    event = _sample(kind)
    message = event_message(event, SAME_IDS)
    body = message.WhichOneof("body")
    assert body is not None
    assert event_of(getattr(pb.Event.FromString(message.SerializeToString()), body)) == event


def test_all_commands_have_messages() -> None:
    assert set(COMMANDS) == set(_methods())
    assert set(COMMANDS) <= set(pb.Command.DESCRIPTOR.fields_by_name)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_the_parameters_of_its_message(name: str) -> None:
    parameters = {*inspect.signature(getattr(MediaEngine, name)).parameters} - {"self"}
    if name in NAMED_BY_CALLER:
        parameters.add(NAMED_BY_CALLER[name])
    assert parameters == set(COMMANDS[name].DESCRIPTOR.fields_by_name)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("connect", {"port": 3, "connection": Connection("::1", 9, Codec.G722, 9)}),
        (
            "connect",
            {"port": 3, "connection": Connection("::1", 9, Codec.OPUS, 96, 101, send=False)},
        ),
        ("connect", {"port": 3, "connection": _sample(media.Connection)}),
        ("set_routes", {"routes": {PortId(1): [PortId(2), PortId(3)], PortId(2): []}}),
        ("set_recording_sides", {"recording": 4, "left": [1], "right": []}),
        ("set_tap_sides", {"tap": 4, "left": [1], "right": []}),
        ("start_recording", {"path": "/a", "left": [1], "right": None, "form": A_LAW}),
        ("start_recording", {"path": "/a", "left": [], "right": [1, 2], "form": A_LAW}),
    ],
)
def test_a_command_comes_as_it_went(name: str, arguments: dict[str, Any]) -> None:
    message = pb.Command.FromString(command_message(name, arguments).SerializeToString())
    assert message.WhichOneof("body") == name
    assert command_arguments(name, getattr(message, name), SAME_IDS) == arguments


def test_ports_of_others_are_nobody() -> None:
    def own(port: int) -> int:
        if port >= 100:
            raise UnknownIdError
        return port + 1000

    ids: Ids = {PortId: own}
    routes = command_message("set_routes", {"routes": {1: [2, 100], 101: [1]}})
    assert command_arguments("set_routes", routes.set_routes, ids) == {"routes": {1001: [1002]}}
    close = command_message("close_port", {"port": 100})
    with pytest.raises(UnknownIdError):
        command_arguments("close_port", close.close_port, ids)
