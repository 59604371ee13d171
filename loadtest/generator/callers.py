"""Callers: each plays the steps of its kind, driven by what happens, and is counted once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Protocol

from domain.failures import PlatformError
from loadtest.figures.tally import Tally
from loadtest.generator.dialogs import OutgoingCall
from loadtest.generator.media import Leg, Media
from loadtest.generator.prompts import Prompts
from loadtest.generator.sip_line import SipLine
from loadtest.generator.sip_text import Address
from loadtest.scenario.model import (
    Callers,
    CallerStep,
    Dial,
    ExpectAgent,
    ExpectHangUp,
    ExpectPrompt,
    HangUp,
    Press,
    Speak,
    Stay,
)

_LATE_S = 0.02
_INFO_KEY_S = 0.25
_WAKE_S = 0.002
"""Starts that are due within this time share one wake-up."""


class AnsweredCallers:
    """Which callers' calls an agent has answered, by the callers' numbers."""

    def __init__(self) -> None:
        self._answered: dict[str, tuple[float, float]] = {}
        self._waiting: dict[str, Callable[[float, float], None]] = {}

    def tell(self, caller: str, offered_s: float, answered_s: float) -> None:
        """This caller's call has come to an agent's phone, and was answered."""
        waiting = self._waiting.pop(caller, None)
        if waiting is not None:
            waiting(offered_s, answered_s)
        else:
            self._answered[caller] = offered_s, answered_s

    def expect(self, caller: str, then: Callable[[float, float], None]) -> None:
        """Call `then` with the times of `tell` when an agent has answered."""
        times_s = self._answered.pop(caller, None)
        if times_s is not None:
            then(*times_s)
        else:
            self._waiting[caller] = then

    def forget(self, caller: str) -> None:
        """Its call is over."""
        self._waiting.pop(caller, None)
        self._answered.pop(caller, None)


@dataclass(frozen=True, slots=True)
class Equipment:
    """What all callers of a run share."""

    line: SipLine
    media: Media
    prompts: Prompts
    agents: AnsweredCallers
    platforms: tuple[Address, ...]
    """Where calls go, in turn."""


class Caller:
    """One call from its dialling to its end; observes its own signalling and media."""

    __slots__ = ("_answered_s", "_at", "_call", "_dialled_s", "_equipment", "_group", "_is_over",
                 "_leg", "_number", "_rang", "_step", "_tally", "_timer")  # fmt: skip

    def __init__(self, group: CallerGroup, number: str, tally: Tally) -> None:
        self._group, self._tally, self._number = group, tally, number
        self._equipment = group.equipment
        self._at = 0
        self._step: CallerStep | None = None
        self._call: OutgoingCall | None = None
        self._leg: Leg | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._dialled_s = self._answered_s = 0.0
        self._rang = self._is_over = False

    def begin(self) -> None:
        """Play the first step."""
        self._tally.begin_call()
        self._next()

    # Steps

    def _next(self) -> None:
        steps = self._group.steps
        self._stop_timer()
        if self._at >= len(steps):
            self._step = None  # the far end hangs up in its time
            return
        act, self._step = steps[self._at]
        self._at += 1
        act(self, self._step)

    def _dial(self, step: Dial) -> None:
        around = self._equipment
        try:
            self._leg = around.media.open(self._tally)
        except PlatformError:
            self._finish("generator_ports")
            return
        self._dialled_s = self._tally.clock_s()
        self._call = OutgoingCall(
            around.line,
            caller=self._number,
            number=step.number,
            address=self._group.next_platform(),
            offer=self._leg.description(),
            tally=self._tally,
            observer=self,
        )
        self._wait(step.answer_within_s, "no_answer")

    def _expect_prompt(self, step: ExpectPrompt) -> None:
        self._tally.prompts_expected += 1
        self._wait(step.within_s, "prompt_missing")
        if self._leg is not None:
            self._equipment.prompts.expect(self._leg, step.file, self._heard)

    def _heard(self) -> None:
        self._tally.prompts_recognised += 1
        self._next()

    def _expect_agent(self, step: ExpectAgent) -> None:
        self._wait(step.within_s, "no_agent")
        self._equipment.agents.expect(self._number, self._agent_answered)

    def _agent_answered(self, offered_s: float, answered_s: float) -> None:
        self._tally.agent_offer_s.add(max(0.0, offered_s - self._answered_s))
        self._tally.time_to_agent_s.add(max(0.0, answered_s - self._answered_s))
        self._next()

    def _press(self, step: Press) -> None:
        if self._leg is not None and step.by == "rfc4733":
            self._leg.press(step.keys, self._next)
        else:
            self._press_by_info(step.keys)

    def _press_by_info(self, keys: str) -> None:
        if self._call is not None and keys:
            self._call.send_info(keys[0])
            self._after(_INFO_KEY_S, lambda: self._press_by_info(keys[1:]))
        else:
            self._next()

    def _speak(self, step: Speak) -> None:
        if self._leg is None:
            return
        file = Path(step.file)
        if step.loop:
            self._leg.play_on(file)
            self._next()
        else:
            self._leg.play(file, self._next)

    def _hold(self, step: Stay) -> None:
        s = step.s
        if step.up_to_s is not None:
            s = self._group.random.uniform(s, step.up_to_s)
        self._after(s, self._next)

    def _hang_up(self, _step: HangUp) -> None:
        if self._call is not None:
            self._call.hang_up()

    def _expect_hang_up(self, step: ExpectHangUp) -> None:
        self._wait(step.within_s, "not_hung_up")

    # What happens

    def on_progress(self, status: int, body: bytes) -> None:
        """It rings, or plays before it answers."""
        if not self._rang and not self._is_over and status >= 180:
            self._rang = True
            self._tally.post_dial_delay_s.add(self._came_s() - self._dialled_s)
        if body and self._leg is not None:
            self._leg.connect(body)

    def on_answer(self, body: bytes) -> None:
        """It is answered."""
        self._answered_s = self._came_s()
        setup_s = self._answered_s - self._dialled_s
        tally = self._tally
        tally.answered += 1
        tally.setup_s.add(setup_s)
        if not self._rang:
            tally.post_dial_delay_s.add(setup_s)
        if isinstance(self._step, Dial) and self._step.expect_status != 200:
            self._fail("200")
        elif self._leg is None or not self._leg.connect(body):
            self._fail("no_media")
        else:
            self._next()

    def on_refused(self, status: int) -> None:
        """It is refused, or nobody said anything."""
        if self._is_over:
            return
        if status:
            self._tally.refusal_s.add(self._came_s() - self._dialled_s)
        if isinstance(self._step, Dial) and self._step.expect_status == status:
            self._finish("")
        else:
            self._finish(str(status) if status else "timeout")

    def on_media(self, body: bytes) -> bytes:
        """The platform moves its media."""
        return b"" if self._leg is None else self._leg.take_offer(body)

    def on_far_hang_up(self) -> None:
        """The platform has hung up."""
        self._call = None
        step = self._step
        is_end = step is None or isinstance(step, ExpectHangUp | HangUp)
        if not is_end and isinstance(step, Press):
            # The last key may be heard before we know that it has been sent.
            left = self._group.steps[self._at :]
            is_end = all(isinstance(each, ExpectHangUp) for _, each in left)
        self._finish("" if is_end else "hung_up_early")

    def on_gone(self, *, is_answered: bool) -> None:
        """The platform has taken our BYE, or not."""
        self._call = None
        self._finish("" if is_answered else "bye_unanswered")

    def give_up(self, cause: str) -> None:
        """End it with the run."""
        self._fail(cause)

    # Inside

    def _came_s(self) -> float:
        """When the message came that is being taken in."""
        return self._tally.clock_s() - self._equipment.line.waited_s

    def _wait(self, seconds: float, cause: str) -> None:
        self._after(seconds, lambda: self._fail(cause))

    def _after(self, seconds: float, then: Callable[[], None]) -> None:
        self._timer = self._group.loop.call_later(seconds, then)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fail(self, cause: str) -> None:
        """Count the call as failed, then hang up without waiting for what comes of it."""
        call, self._call = self._call, None
        self._finish(cause)
        if call is not None:
            call.hang_up()

    def _finish(self, cause: str) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._stop_timer()
        around = self._equipment
        if self._leg is not None:
            around.prompts.forget(self._leg)
            self._leg.close()
        around.agents.forget(self._number)
        self._tally.end_call(cause)
        self._group.ended(self)


_ACTS: dict[type, Callable[..., None]] = {
    Dial: Caller._dial,  # noqa: SLF001 - a table of its own methods
    ExpectPrompt: Caller._expect_prompt,  # noqa: SLF001
    ExpectAgent: Caller._expect_agent,  # noqa: SLF001
    Press: Caller._press,  # noqa: SLF001
    Speak: Caller._speak,  # noqa: SLF001
    Stay: Caller._hold,  # noqa: SLF001
    HangUp: Caller._hang_up,  # noqa: SLF001
    ExpectHangUp: Caller._expect_hang_up,  # noqa: SLF001
}


class Member(Protocol):
    """A call of a group, which tells the group when it has ended."""

    def begin(self) -> None:
        """Dial."""

    def give_up(self, cause: str) -> None:
        """End it with the run."""


Make = Callable[["CallerGroup", str, Tally], Member]
"""Makes a call of a group, from the caller's number, that counts in a tally."""


class CallerGroup:
    """Callers of one kind: begins each at its time, whatever becomes of the others."""

    def __init__(
        self,
        plan: Callers,
        equipment: Equipment,
        starts_s: Iterator[float],
        tally_at: Callable[[float], Tally],
        *,
        clock_s: Callable[[], float],
        first_number: int,
        random: Random,
        make: Make = Caller,
    ) -> None:
        """`starts_s` are seconds of the run; `tally_at` says which tally such a call counts in."""
        self.loop = asyncio.get_running_loop()
        self._clock_s = clock_s
        self.equipment = equipment
        self.random = random
        self.steps = [(_ACTS[type(step)], step) for step in plan.steps]
        self._make = make
        self._plan = plan
        self._starts_s = starts_s
        self._tally_at = tally_at
        self._number = first_number
        self._began_s = 0.0
        self._live: set[Member] = set()
        self._held: deque[Tally] = deque()
        self._next_s: float | None = None
        self._quiet: asyncio.Future[None] = self.loop.create_future()
        self.next_platform: Callable[[], Address] = cycle(equipment.platforms).__next__

    def begin(self) -> None:
        """Begin the group's time."""
        self._began_s = self._clock_s()
        self._next_s = next(self._starts_s, None)
        self._start_due()

    async def wait_quiet(self) -> None:
        """Wait until all calls were begun, and are over."""
        await asyncio.shield(self._quiet)

    def give_up(self, cause: str) -> None:
        """Begin no more calls, and end all that are still up."""
        self._next_s = None
        self._held.clear()
        for caller in list(self._live):
            caller.give_up(cause)

    def ended(self, caller: Member) -> None:
        """Take note that a call is over."""
        self._live.discard(caller)
        if self._held:
            # Not within the end of this one: where each fails at once, they would go ever deeper.
            self.loop.call_soon(self._start_held)
        self._tell_quiet()

    def _start_held(self) -> None:
        if self._held and len(self._live) < self._plan.max_at_once:
            self._start(self._held.popleft())

    def _start_due(self) -> None:
        now_s = self._clock_s() - self._began_s
        while self._next_s is not None and self._next_s <= now_s + _WAKE_S / 2:
            tally = self._tally_at(self._next_s)
            if now_s - self._next_s > _LATE_S:
                tally.late_starts += 1
            if len(self._live) < self._plan.max_at_once:
                self._start(tally)
            else:
                tally.held_back += 1
                self._held.append(tally)
            self._next_s = next(self._starts_s, None)
            now_s = self._clock_s() - self._began_s
        if self._next_s is not None:
            self.loop.call_later(max(self._next_s - now_s, _WAKE_S), self._start_due)
        else:
            self._tell_quiet()

    def _start(self, tally: Tally) -> None:
        self._number += 1
        caller = self._make(self, str(self._number), tally)
        self._live.add(caller)
        caller.begin()

    def _tell_quiet(self) -> None:
        is_quiet = self._next_s is None and not self._live and not self._held
        if is_quiet and not self._quiet.done():
            self._quiet.set_result(None)
