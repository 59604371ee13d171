"""The call as flows and features see it: plain data in, plain data out, no SIP.

A `Call` is one caller's conversation with the platform. The coroutine that handles a call runs in a
task of its own, and that task is cancelled when the caller hangs up; `finally` is where handlers
tidy up, and nothing has to poll for the end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from cti.media import Answer, Signal
from domain.failures import Code, PlatformError
from domain.ids import CallId, LegId, NodeId, TenantId

JsonValue = str | int | float | bool | None | list["JsonValue"] | dict[str, "JsonValue"]

Clip = Path
"""An audio file to play: WAV, PCM16 mono at 8 kHz."""


@dataclass(frozen=True, slots=True)
class CallInfo:
    """What is known of a call when it arrives."""

    call_id: CallId
    tenant: TenantId
    node: NodeId
    trunk: str
    caller: str
    called: str
    access_code: str
    landing_code: str
    flow: str
    arrived_unix_us: int
    phone: str = ""
    """The registered phone that calls, as it authenticated; empty for calls from trunks."""
    withheld: bool = False
    """Whether the caller does not want its number shown to people."""
    number_list: str = ""
    """The white list of numbers that the caller is on."""


class CollectEnd(StrEnum):
    """Why a collection of digits ended."""

    COMPLETE = "complete"  # max_digits reached
    TERMINATOR = "terminator"
    FIRST_DIGIT_TIMEOUT = "first_digit_timeout"
    INTER_DIGIT_TIMEOUT = "inter_digit_timeout"


@dataclass(frozen=True, slots=True)
class Collected:
    """Digits without the terminator, and why the collection ended."""

    digits: str
    end: CollectEnd


@dataclass(frozen=True, slots=True)
class DialTarget:
    """Whom to ring: a registered phone of the tenant, by its SIP user.

    With `outside` the user is a number, dialled over the tenant's trunks. `caller_number` and
    `caller_name` are what the far end shows, unless `withheld`; `auto_answer` asks a phone to
    answer by itself where it can. `subject` and `user_to_user` (RFC 7433, as written there) are
    what somebody who transfers a call tells along with it.
    """

    user: str
    caller_number: str
    caller_name: str = ""
    purpose: str = "agent"
    auto_answer: bool = False
    outside: bool = False
    withheld: bool = False
    subject: str = ""
    user_to_user: str = ""


class DialError(PlatformError):
    """Nobody answered; `sip_status` is what the far end said, or what stands for its silence."""

    def __init__(self, code: Code, sip_status: int, detail: str = "") -> None:
        self.sip_status = sip_status
        super().__init__(code, detail)


class HangUpParty(StrEnum):
    """Who ended a bridge or a leg."""

    CALLER = "caller"
    FAR_END = "far_end"
    PLATFORM = "platform"


@dataclass(frozen=True, slots=True)
class BridgeEnd:
    """How a conversation ended. The caller is still there unless `by` is CALLER."""

    by: HangUpParty
    talk_ms: int


class Leg(Protocol):
    """A phone that the platform rang; it has answered when one gets it."""

    @property
    def leg_id(self) -> LegId:
        """Unique over all nodes."""

    def hang_up(self, code: Code = Code.FLOW_ENDED) -> None:
        """End the leg from any state; a bridge over it ends as by PLATFORM. Never raises."""


class Supervision(StrEnum):
    """How a supervisor takes part in somebody else's conversation."""

    LISTEN = "listen"  # 监听: hears all, is heard by nobody
    WHISPER = "whisper"  # is heard by the agent only
    BARGE = "barge"  # 插入: is heard by all


class TalkState(StrEnum):
    """What an agent does in a conversation."""

    TALKING = "talking"
    HELD = "held"  # the caller waits
    CONSULTING = "consulting"  # the caller waits, an expert rings or talks to the agent
    CONFERENCE = "conference"  # all three talk


class Talk(Protocol):
    """A conversation under way, for its agent's and supervisors' commands.

    Each is one change of who hears whom. PlatformError STATE_FORBIDS says that it makes no sense
    now, NO_CALL that the conversation is over; commands that ring somebody raise what `dial` does.
    """

    @property
    def state(self) -> TalkState:
        """What the agent does now."""

    def watch(self, on_changed: Callable[[TalkState], None]) -> None:
        """Tell every change of the state, whoever caused it, to one who commands."""

    def hold(self) -> None:
        """Let the caller wait with music (保持)."""

    def retrieve(self) -> None:
        """Talk to the caller again (取保持)."""

    async def consult(self, target: DialTarget, *, timeout_ms: int) -> None:
        """Let the caller wait, and ask somebody else (求助). Who does not answer leaves it so."""

    def cancel_consult(self) -> None:
        """Let the expert go, and talk to the caller again."""

    def three_party(self) -> None:
        """Let caller, agent and expert talk to each other (三方)."""

    def complete(self) -> None:
        """Leave the caller to the expert (转移). The same happens when the agent hangs up."""

    def pause_recording(self) -> None:
        """Record silence, as while a card number is read out; the index tells when."""

    def resume_recording(self) -> None:
        """Record again what is said."""

    async def supervise(
        self,
        target: DialTarget,
        mode: Supervision,
        *,
        timeout_ms: int,
        on_ended: Callable[[], None],
    ) -> Leg:
        """Ring a supervisor and let it in; its hang-up ends it, and nobody else notices.

        `on_ended` is called once when it is in no more, also when the conversation ends.
        """

    def change(self, leg: Leg, mode: Supervision) -> None:
        """Let a supervisor who is in take part in another way."""

    def intercept(self, leg: Leg, *, agent: str = "") -> None:
        """Let a supervisor who is in take the agent's place (拦截), as that agent.

        Whoever watches is told no more.
        """


class RingingLeg(Protocol):
    """A phone that rings, for the toolbar's commands."""

    @property
    def leg_id(self) -> LegId:
        """Unique over all nodes."""

    def answer_remotely(self) -> Awaitable[bool]:
        """Ask the phone to pick up (NOTIFY, event `talk`); False where the phone refuses."""

    def hang_up(self, code: Code = Code.FLOW_ENDED) -> None:
        """Stop ringing; the dial raises PlatformError with `code`. Never raises."""


class ProgressingLeg(RingingLeg, Protocol):
    """A far end that rings, for what the caller hears meanwhile."""

    @property
    def has_early_media(self) -> bool:
        """Whether the far end is heard already: its own ringback, or an announcement."""


class Call(Protocol):
    """One caller's conversation. Media methods raise PlatformError; its end cancels them all."""

    info: CallInfo
    data: dict[str, JsonValue]
    """Attached data (随路数据): set by flows, carried to agents and records."""
    path: list[str]
    """Flow nodes passed so far, in order; the flow interpreter appends."""
    language: str
    """"zh" or "en"; flows may change it."""

    def ring(self, early_media: ProgressingLeg | None = None) -> None:
        """Tell the caller that it rings (180), once; nothing when already answered.

        With a leg that has early media the caller hears that instead (183).
        """

    async def answer(self) -> None:
        """Answer the caller (200 and ACK); does nothing when already answered."""

    async def play(self, clips: Sequence[Clip], *, barge_in: bool = True) -> bool:
        """Play clips one after the other; return True when played to the end.

        With `barge_in` a key stops the prompt and stays in the key buffer for the next collect, and
        a key already in the buffer means that nothing is played. Without it keys are buffered.
        """

    async def collect(
        self,
        clips: Sequence[Clip] = (),
        *,
        max_digits: int = 1,
        terminators: str = "#",
        first_digit_timeout_ms: int = 5000,
        inter_digit_timeout_ms: int = 3000,
        barge_in: bool = True,
    ) -> Collected:
        """Play clips and collect keys; the first-digit timer starts when the prompt has ended."""

    def flush_digits(self) -> None:
        """Forget keys that nobody collected."""

    def start_music(self, clips: Sequence[Clip]) -> None:
        """Play clips in a loop in the background until another media method or `stop_music`."""

    def start_ringback(self) -> None:
        """Let the caller hear that somebody is being rung, as `start_music` lets it hear music."""

    def stop_music(self) -> None:
        """Stop what `start_music` or `start_ringback` began."""

    async def next_digit(self) -> str:
        """Wait for one key while music plays; takes buffered keys first."""

    async def dial(
        self,
        target: DialTarget,
        *,
        timeout_ms: int,
        on_ringing: Callable[[RingingLeg], None] | None = None,
        on_progress: Callable[[ProgressingLeg], None] | None = None,
        on_heard: Callable[[Signal | Answer], None] | None = None,
    ) -> Leg:
        """Ring a phone and return its answered leg, not yet connected to the caller.

        Every contact of the user rings, the first to answer wins; an outside number is tried over
        one trunk after the other. Raises DialError with PHONE_NOT_REGISTERED, PHONE_UNREACHABLE,
        NO_ANSWER, BUSY, DECLINED or FAR_END_REFUSED, and PlatformError where it cannot begin.
        `on_ringing` is called once, when the INVITE has been sent, `on_progress` each time that
        the far end tells that it rings. With `on_heard` the far end's audio is listened to: it is
        told of tones of the network in early media, of fax machines, and once answered whether a
        person or a machine has answered. A cancelled dial stops ringing.
        """

    async def bridge(
        self,
        leg: Leg,
        *,
        record_party: str | None = None,
        on_transferred: Callable[[Leg], None] | None = None,
        on_begun: Callable[[Talk], None] | None = None,
    ) -> BridgeEnd:
        """Connect caller and leg until either ends.

        With `record_party` (the agent's id) the conversation is recorded from its first frame,
        caller left and leg right. When the caller hangs up the leg is ended too and the handler is
        cancelled; when the leg ends, the caller stays with the platform. When the leg is sent
        elsewhere by a transfer, `on_transferred` gets the leg in its place, and the conversation
        goes on with that one. `on_begun` gets what commands the conversation, once both hear each
        other.
        """

    async def hang_up(self, code: Code = Code.FLOW_ENDED, *, sip_status: int = 0) -> None:
        """End the call; the handler should return then.

        An unanswered call gets `sip_status`, or else that of the code.
        """


CallHandler = Callable[[Call], Awaitable[None]]
"""Runs one call, from INVITE to its end; cancelled when the caller hangs up."""
