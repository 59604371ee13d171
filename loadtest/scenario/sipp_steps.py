"""What a sipp scenario says, as a plain list of steps; `loadtest.generator` plays them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal

from loadtest.scenario.captured import Capture


# ── Messages ──────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Keyword:
    """A word in brackets, to be replaced: `[cseq+1]`, `[last_Via:]`, `[$caller]`, `[field0]`."""

    name: str
    offset: int = 0
    argument: str = ""
    """The header of `last`, the variable of `$`, the number of `field`."""
    user: tuple[Part, ...] = ()
    password: tuple[Part, ...] = ()
    """Of `authentication`."""


Part = str | Keyword
Fields = list[tuple[tuple[Part, ...], ...]]
"""What `[field0]`, `[field1]`, ... stand for: a row a call, over and over."""


@dataclass(frozen=True, slots=True)
class MessageText:
    """A message to send: its parts line by line, and whether it is a request."""

    header_lines: tuple[tuple[Part, ...], ...]
    body: tuple[Part, ...] | None
    method: str
    """Empty for a response."""
    cseq_method: str
    """What stands in its CSeq header, empty where that is copied."""

    @property
    def is_response(self) -> bool:
        """Whether it answers a request."""
        return not self.method


# ── Actions ───────────────────────────────────────────────────────────────────────────────────────
class SearchIn(StrEnum):
    """Where an expression is looked for."""

    MESSAGE = "msg"
    HEADER = "hdr"
    BODY = "body"
    VARIABLE = "var"


@dataclass(frozen=True, slots=True)
class Match:
    """`ereg`: searches, and keeps what was found: all of it, then each group."""

    expression: re.Pattern[str]
    search_in: SearchIn
    header: str = ""
    """Lower case, without its colon; for VARIABLE the variable."""
    occurrence: int = 1
    assign_to: tuple[str, ...] = ()
    must: Literal["match", "not_match", ""] = ""


@dataclass(frozen=True, slots=True)
class PlayCapture:
    """`play_pcap_audio`: what a capture holds is played while the steps go on."""

    capture: Capture


@dataclass(frozen=True, slots=True)
class PlaySound:
    """`rtp_stream`: a WAV file is played; `times` 0 is until the end. No file: falls silent."""

    file: Path | None
    times: int = 1


@dataclass(frozen=True, slots=True)
class PressKeys:
    """`play_dtmf`: keys by RFC 4733."""

    keys: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Say:
    """`log` and `warning`: a line for the log."""

    level: Literal["info", "warning"]
    text: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class StopCall:
    """`int_cmd="stop_call"`: the call ends here, and failed."""


Action = Match | PlayCapture | PlaySound | PressKeys | Say | StopCall


# ── Steps ─────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Onward:
    """What all steps have: where it goes on, and which timers begin and end."""

    line: int
    next_step: int | None = None
    """The step that follows when `test` holds and chance will; None: the next one."""
    test: str = ""
    """A variable that must be set."""
    chance: float = 1.0
    starts_timer: str = ""
    stops_timer: str = ""
    lost: float = 0.0
    """The share of messages that are lost on purpose."""


@dataclass(frozen=True, slots=True)
class Send:
    """Sends a message."""

    onward: Onward
    message: MessageText
    retransmit_s: float = 0.0
    """First distance of retransmissions, 0 without any."""


@dataclass(frozen=True, slots=True)
class Receive:
    """Waits for a message; an optional one may also not come."""

    onward: Onward
    request: str = ""
    status: str = ""
    expression: re.Pattern[str] | None = None
    """In place of request or status."""
    optional: Literal["", "here", "global"] = ""
    timeout_s: float = 0.0
    """0: for ever."""
    timeout_step: int | None = None
    keeps_routes: bool = False
    keeps_challenge: bool = False
    actions: tuple[Action, ...] = ()


@dataclass(frozen=True, slots=True)
class Wait:
    """Pauses for a time drawn from a distribution; `default`: as long as the run says (-d)."""

    onward: Onward
    kind: Literal["default", "fixed", "uniform", "exponential", "normal"]
    first_s: float = 0.0
    """The time, the lower limit, or the mean."""
    second_s: float = 0.0
    """The upper limit, or the standard deviation."""

    def longest_s(self, pause_s: float) -> float:
        """Return how long it may be, but for one time in a thousand."""
        match self.kind:
            case "default":
                return pause_s
            case "fixed":
                return self.first_s
            case "uniform":
                return self.second_s
            case "exponential":
                return 7 * self.first_s
            case _:
                return self.first_s + 4 * self.second_s


@dataclass(frozen=True, slots=True)
class Act:
    """`nop`: does its actions at once."""

    onward: Onward
    actions: tuple[Action, ...] = ()


Step = Send | Receive | Wait | Act


@dataclass(frozen=True, slots=True)
class SippScenario:
    """The steps of one call. A step number past the last one is the end of a good call."""

    name: str
    file: Path
    steps: tuple[Step, ...]

    @property
    def dials(self) -> bool:
        """Whether a call begins with a message of ours."""
        first = next((one for one in self.steps if isinstance(one, Send | Receive)), None)
        return isinstance(first, Send)

    def longest_s(self, pause_s: float) -> float:
        """Return how long its pauses and timeouts may take, each once; `pause_s` is the default."""
        total_s = 0.0
        for step in self.steps:
            if isinstance(step, Receive):
                total_s += step.timeout_s
            elif isinstance(step, Wait):
                total_s += step.longest_s(pause_s)
        return total_s

    @property
    def needs_fields(self) -> bool:
        """Whether `[field0]` and the like stand in a message."""
        return any(one.name == "field" for one in self._keywords())

    @property
    def needs_media(self) -> bool:
        """Whether a call of it has RTP."""
        actions = [one for step in self.steps for one in getattr(step, "actions", ())]
        has_sound = any(isinstance(one, PlayCapture | PlaySound | PressKeys) for one in actions)
        return has_sound or any(one.name == "media_port" for one in self._keywords())

    def _keywords(self) -> Iterator[Keyword]:
        for step in self.steps:
            if isinstance(step, Send):
                for line in step.message.header_lines:
                    yield from keywords_of(line)
                yield from keywords_of(step.message.body or ())


def keywords_of(parts: tuple[Part, ...]) -> Iterator[Keyword]:
    """Yield the keywords of a text, also those within [authentication …]."""
    for part in parts:
        if isinstance(part, Keyword):
            yield part
            yield from keywords_of(part.user)
            yield from keywords_of(part.password)
