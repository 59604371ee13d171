"""The words in brackets of a sipp message, replaced by what they stand for in one call."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from cti.sip.authentication.digest import Credentials
from loadtest.generator.sipp_message import Challenge, Received, uri_in
from loadtest.scenario.sipp_steps import Keyword, MessageText, Part


@dataclass(slots=True)
class CallState:
    """What a call knows that its messages may speak of."""

    number: int
    call_id: str
    run: str
    service: str
    fields: tuple[tuple[Part, ...], ...] = ()
    step: int = 0
    cseq: int = 0
    media_port: int = 0
    last: Received | None = None
    peer_tag: str = ""
    next_url: str = ""
    routes: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    challenge: Challenge | None = None

    def written(self, parts: Sequence[Part]) -> str:
        """Return a text outside of messages."""
        return "".join(one if isinstance(one, str) else self.value(one) for one in parts)

    def value(self, keyword: Keyword) -> str:
        """Return what a keyword stands for; those that depend on the message are empty."""
        make = _VALUES.get(keyword.name)
        return make(self, keyword) if make else ""

    def field(self, number: int) -> tuple[Part, ...]:
        """Return the text of `[field0]`, ..., empty beyond the row's end as sipp has it."""
        return self.fields[number] if number < len(self.fields) else ()

    def authorization(self, keyword: Keyword, method: str, uri: str) -> str:
        """Return the header line that answers the last challenge, empty without one."""
        if self.challenge is None:
            return ""
        user = self.written(keyword.user) or self.service
        password = self.written(keyword.password) or "password"
        return self.challenge.answer(method, uri, Credentials(user, password))


def bound(message: MessageText, constants: Mapping[str, str]) -> MessageText:
    """Put in what is the same in all calls, so that each call has less to do."""
    return MessageText(
        tuple(_bound(line, constants) for line in message.header_lines),
        None if message.body is None else _bound(message.body, constants),
        message.method,
        message.cseq_method,
    )


def rendered(message: MessageText, state: CallState) -> str:
    """Write a message; a header line of which its keywords leave nothing is left out."""
    body = first_line = ""

    def put(parts: Sequence[Part]) -> str:
        return "".join([one if isinstance(one, str) else replaced(one) for one in parts])

    def replaced(keyword: Keyword) -> str:
        match keyword.name:
            case "len":
                return str(len(body.encode("utf-8", "surrogateescape")) + keyword.offset)
            case "authentication":
                method, _, rest = first_line.partition(" ")
                return state.authorization(keyword, method, rest.partition(" ")[0])
            case "field":
                return put(state.field(int(keyword.argument)))
        return state.value(keyword)

    if message.body is not None:
        body = put(message.body)
    first_line = put(message.header_lines[0])
    others = [put(line) for line in message.header_lines[1:]]
    return "\r\n".join([first_line, *(line for line in others if line), "", body])


def _bound(parts: Sequence[Part], constants: Mapping[str, str]) -> tuple[Part, ...]:
    merged: list[Part] = []
    for part in parts:
        one = part
        if isinstance(one, Keyword):
            name = f"key {one.argument}" if one.name == "key" else one.name
            one = _shifted(constants[name], one.offset) if name in constants else one
        before = merged[-1] if merged else None
        if isinstance(one, str) and isinstance(before, str):
            merged[-1] = before + one
        else:
            merged.append(one)
    return tuple(merged)


def _shifted(value: str, offset: int) -> str:
    return str(int(value) + offset) if offset and value.isdigit() else value


def _last(state: CallState, keyword: Keyword) -> str:
    return "\r\n".join(state.last.header_lines(keyword.argument)) if state.last else ""


def _now_ms(_state: CallState, _keyword: Keyword) -> str:
    return str(time.monotonic_ns() // 1_000_000)


_VALUES: dict[str, Callable[[CallState, Keyword], str]] = {
    "call_number": lambda state, keyword: str(state.number + keyword.offset),
    "call_id": lambda state, _: state.call_id,
    "branch": lambda state, keyword: (
        f"z9hG4bK-{state.run}-{state.number}-{state.step + keyword.offset}"
    ),
    "cseq": lambda state, keyword: str(state.cseq + keyword.offset),
    "msg_index": lambda state, _: str(state.step),
    "media_port": lambda state, keyword: str(state.media_port + keyword.offset),
    "last": _last,
    "last_message": lambda state, _: state.last.text if state.last else "",
    "last_cseq_number": lambda state, keyword: (
        str(state.last.cseq + keyword.offset) if state.last else ""
    ),
    "last_Request_URI": lambda state, _: uri_in(state.last.value("to")) if state.last else "",
    "peer_tag_param": lambda state, _: f";tag={state.peer_tag}" if state.peer_tag else "",
    "routes": lambda state, _: f"Route: {', '.join(state.routes)}" if state.routes else "",
    "next_url": lambda state, _: state.next_url,
    "$": lambda state, keyword: state.variables.get(keyword.argument, ""),
    "field": lambda state, keyword: state.written(state.field(int(keyword.argument))),
    "timestamp": _now_ms,
    "clock_tick": _now_ms,
}
