"""One signed-in agent: state, present call, watchers and timers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import structlog

from agents.directory import Directory
from agents.line import FarTalk, Handling, TalkCommand
from agents.notices import Notice, Subscription
from agents.settings import AgentSettings
from agents.state import AgentMachine, AgentState, Trigger
from agents.summary import CallSummary
from cti.call import DialTarget, Leg, RingingLeg, TalkState
from cti95598.events.v1.events_pb2 import AgentStateChanged
from domain.events import EventStamp
from domain.failures import Code, PlatformError
from domain.ids import TenantId
from routing.acd import Acd, AgentProfile

log = structlog.get_logger(__name__)


_TALK_STEPS = {
    TalkState.TALKING: Trigger.TALKS,
    TalkState.HELD: Trigger.HOLDS,
    TalkState.CONSULTING: Trigger.CONSULTS,
    TalkState.CONFERENCE: Trigger.CONFERS,
}


class Helping(Protocol):
    """A supervisor's part in somebody else's conversation, also while it rings."""

    @property
    def leg(self) -> Leg | None:
        """The supervisor's phone, when it has answered."""

    def stop(self) -> None:
        """Leave; does nothing when it has ended."""

    def over(self) -> None:
        """The call that was intercepted has ended."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all agents of a node share."""

    acd: Acd
    events: EventStamp
    directory: Directory
    spawn: Callable[[Coroutine[Any, Any, None]], None]
    """Runs work in the background, in the order given."""
    signed_out: Callable[[LiveAgent], None]


class LiveAgent:
    """Implements `agents.line.AgentLine` for the one call an agent can have."""

    def __init__(
        self,
        tenant: TenantId,
        settings: AgentSettings,
        phone: str,
        token: str,
        around: Surroundings,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.tenant = tenant
        self.settings = settings
        self.profile: AgentProfile = around.directory.profile(tenant, settings)
        self.token = token
        self._phone = phone
        self._around = around
        self._machine = AgentMachine(self._loop.time())
        self._call: CallSummary | None = None
        self._ringing: RingingLeg | None = None
        self._leg: Leg | None = None
        self._handling: Handling | None = None
        self._far_talk: FarTalk | None = None
        self.helping: Helping | None = None
        """The conversation of another agent that this one supervises."""
        self._watchers: set[Subscription] = set()
        self._work_timer: asyncio.TimerHandle | None = None
        self._grace_timer: asyncio.TimerHandle | None = None
        self._leave_after_call: str | None = None

    @property
    def state(self) -> AgentState:
        """What the agent is doing."""
        return self._machine.state

    @property
    def in_call(self) -> bool:
        """Whether a call rings or is under way."""
        return self._machine.in_call

    @property
    def handling(self) -> Handling:
        """The caller whom the agent talks to. Raises NO_CALL or CALL_AT_OTHER_NODE."""
        if self._leg is None:
            raise PlatformError(Code.NO_CALL, f"agent is {self.state}")
        if self._handling is None:
            raise PlatformError(Code.CALL_AT_OTHER_NODE)
        return self._handling

    # Commands

    def sign_in(self) -> None:
        """Begin, as not ready."""
        self._step(Trigger.SIGN_IN)

    def sign_out(self, reason: str = "") -> None:
        """End; refused during a call."""
        self._step(Trigger.SIGN_OUT, reason)
        self._stop(reason or "signed_out")
        self._tell_acd(self._around.acd.sign_out(self.profile))

    def ready(self) -> None:
        """Take calls, or after the present one."""
        was = self.state
        if self.helping is not None and not self.in_call:
            raise PlatformError(Code.STATE_FORBIDS, "stop supervising first")
        self._step(Trigger.READY)
        if self.state is AgentState.READY and was is not AgentState.READY:
            self._tell_acd(self._around.acd.ready(self.profile))

    def not_ready(self, reason: str) -> None:
        """Take no calls, or none after the present one."""
        was = self.state
        self._step(Trigger.NOT_READY, reason)
        if self.state is AgentState.NOT_READY and was is not AgentState.NOT_READY:
            self._tell_acd(self._around.acd.not_ready(self.profile))

    async def answer(self) -> None:
        """Ask the phone to pick up."""
        if self._ringing is None:
            raise PlatformError(Code.NO_CALL, "no phone rings")
        if not await self._ringing.answer_remotely():
            raise PlatformError(Code.PHONE_CANNOT_ANSWER_REMOTELY, self._phone)

    def hang_up(self) -> None:
        """Decline a call that rings, or end the conversation."""
        if self._leg is not None:
            self._leg.hang_up(Code.AGENT_HUNG_UP)
        elif self._ringing is not None:
            self._ringing.hang_up(Code.DECLINED)
        else:
            raise PlatformError(Code.NO_CALL, f"agent is {self.state}")

    def require_talk(self) -> None:
        """Raise PlatformError where there is no conversation to command."""
        if self._far_talk is None:
            _ = self.handling.talk

    async def command(self, command: TalkCommand) -> None:
        """Do something in the conversation, at whichever node it is."""
        if self._far_talk is not None:
            await self._far_talk.command(command)
        else:
            command.carry_out(self.handling.talk)

    async def consult(self, target: DialTarget, *, timeout_ms: int) -> None:
        """Ring an expert while the caller waits, at whichever node."""
        talk = self._far_talk or self.handling.talk
        await talk.consult(target, timeout_ms=timeout_ms)

    # The line: what the call does

    def offer(self, call: CallSummary) -> bool:
        """Reserve for a call; False when the agent went not ready at the same moment."""
        if self.state is not AgentState.READY:
            return False
        self._call = call
        self._step(Trigger.OFFERED)
        return True

    @property
    def phone(self) -> str:
        """SIP user of the phone to ring."""
        return self._phone

    def ringing(self, leg: RingingLeg) -> None:
        """The phone rings; the toolbar may answer or decline."""
        self._ringing = leg

    def answered(self, leg: Leg) -> None:
        """The agent has the call."""
        self._ringing, self._leg = None, leg
        self._step(Trigger.ANSWERED)

    def talking(self, handling: Handling) -> None:
        """The conversation can be commanded; it is an intercepted one if no phone rang for it."""
        if self.helping is not None:
            self._call, self._leg = handling.call, self.helping.leg
            self._step(Trigger.INTERCEPTED)
        self._handling = handling
        handling.talk.watch(partial(self._talk_changed, handling))

    def _talk_changed(self, handling: Handling, state: TalkState) -> None:
        if self._handling is handling:
            self._step(_TALK_STEPS[state])

    def talking_elsewhere(self, talk: FarTalk) -> None:
        """The conversation, which is at another node, can be commanded."""
        self._far_talk = talk

    def talk_changed_elsewhere(self, state: TalkState) -> None:
        """The state of that conversation."""
        if self._far_talk is not None:
            self._step(_TALK_STEPS[state])

    def failed(self, reason: str, *, ready: bool) -> None:
        """The agent did not take the call; who gives the offer back tells the ACD."""
        self._ringing = None
        wish = self._machine.not_ready_wish
        self._step(Trigger.OFFER_WITHDRAWN if ready else Trigger.OFFER_FAILED, reason)
        if ready and wish is not None:
            self._tell_acd(self._around.acd.not_ready(self.profile))
        self._leave_if_due()

    def withdrawn(self, *, confirmed: bool) -> None:
        """The caller left first; cancelling the ticket makes the agent ready unless `confirmed`."""
        self._ringing = None
        self._step(Trigger.OFFER_WITHDRAWN, Code.CALLER_ABANDONED)
        if self.state is AgentState.NOT_READY:
            self._tell_acd(self._around.acd.not_ready(self.profile))
        elif confirmed:
            self._tell_acd(self._around.acd.ready(self.profile))
        self._leave_if_due()

    def ended(self) -> None:
        """The conversation is over; after-call work begins."""
        self._leg = self._handling = self._far_talk = None
        if self.helping is not None:
            self.helping.over()
        queue = self._call.queue if self._call is not None else None
        self._step(Trigger.CALL_ENDED)
        if self._leave_if_due():
            return
        work_s = 0
        if queue is not None:
            work_s = self._around.directory.after_call_work_s(self.tenant, self.settings, queue)
        if work_s:
            self._work_timer = self._loop.call_later(work_s, self._work_done)
        else:
            self._work_done()

    # Watchers

    def watch(self) -> Subscription:
        """Follow the agent; the first notice is the present state."""
        if self._grace_timer is not None:
            self._grace_timer.cancel()
            self._grace_timer = None
        subscription = Subscription()
        subscription.push(self._notice())
        self._watchers.add(subscription)
        return subscription

    def unwatch(self, subscription: Subscription, grace_s: float) -> None:
        """A watcher is gone. When none comes back within the grace, the agent is signed out."""
        self._watchers.discard(subscription)
        if not self._watchers and self.state is not AgentState.SIGNED_OUT:
            self._grace_timer = self._loop.call_later(grace_s, self.leave, "connection_lost")

    def leave(self, reason: str) -> None:
        """Sign out now, or when the present call is over."""
        if self.in_call:
            self._leave_after_call = reason
        elif self.state is not AgentState.SIGNED_OUT:
            self.sign_out(reason)

    def dismiss(self, reason: str) -> None:
        """End without telling the ACD: the agent belongs to another node now."""
        if self.state is not AgentState.SIGNED_OUT and not self.in_call:
            self._step(Trigger.SIGN_OUT, reason)
            self._stop(reason)

    # Inside

    def _leave_if_due(self) -> bool:
        if self._leave_after_call is None:
            return False
        self.sign_out(self._leave_after_call)
        return True

    def _work_done(self) -> None:
        self._step(Trigger.WORK_DONE)
        acd, ready = self._around.acd, self.state is AgentState.READY
        # The next caller can wait for some milliseconds: one round trip less a call.
        telling = acd.ready(self.profile, at_once=False) if ready else acd.not_ready(self.profile)
        self._tell_acd(telling)

    def _step(self, trigger: Trigger, reason: str = "") -> None:
        change = self._machine.step(trigger, self._loop.time(), reason)
        if change.after is not AgentState.AFTER_CALL_WORK and self._work_timer is not None:
            self._work_timer.cancel()
            self._work_timer = None
        call = self._call
        if not self.in_call and self.state is not AgentState.AFTER_CALL_WORK:
            self._call = None
        if change.before is not change.after:
            self._around.events.publish(
                self.tenant,
                AgentStateChanged(
                    agent=self.settings.id,
                    from_state=change.before,
                    to_state=change.after,
                    reason=change.reason,
                    device=self._phone,
                    previous_ms=change.previous_ms,
                ),
                call_id=call.call_id if call is not None else None,
            )
        notice = self._notice()
        for watcher in self._watchers:
            watcher.push(notice)

    def _notice(self) -> Notice:
        reason = self._machine.reason
        if self._machine.not_ready_wish is not None:
            reason = self._machine.not_ready_wish
        return Notice(time.time_ns() // 1_000_000, self.state, reason, self._call)

    def _stop(self, reason: str) -> None:
        if self.helping is not None:
            self.helping.stop()
        for timer in (self._work_timer, self._grace_timer):
            if timer is not None:
                timer.cancel()
        for watcher in self._watchers:
            watcher.end(reason)
        self._watchers.clear()
        self._around.signed_out(self)

    def _tell_acd(self, telling: Coroutine[Any, Any, None]) -> None:
        self._around.spawn(self._told(telling))

    async def _told(self, telling: Coroutine[Any, Any, None]) -> None:
        try:
            await telling
        except PlatformError as error:
            if error.code is Code.SIGNED_IN_ELSEWHERE:
                self.dismiss("taken_over")
            else:  # the ACD remembers it and tells the store when that returns
                log.warning("agent state not stored yet", agent=self.settings.id, code=error.code)
