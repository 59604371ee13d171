"""One run of load, from the first sign-in to the last call's end."""

from __future__ import annotations

import asyncio
import gc
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

from cti import audio
from domain.collector import leave_to_the_collector_what_comes
from domain.tasks import end_tasks
from loadtest.figures.tally import Tally
from loadtest.generator.agents import AgentPhones, Toolbars
from loadtest.generator.callers import AnsweredCallers, Caller, CallerGroup, Equipment, Make
from loadtest.generator.media import Media
from loadtest.generator.platform import UnderTest
from loadtest.generator.prompts import Prompts
from loadtest.generator.registrations import RegisteredPhones
from loadtest.generator.sip_line import SipLine
from loadtest.generator.sipp_calls import SippCalls
from loadtest.scenario.arrival import start_times_s
from loadtest.scenario.model import (
    Callers,
    Dial,
    ExpectAgent,
    ExpectHangUp,
    ExpectPrompt,
    HangUp,
    Scenario,
    Sipp,
    Speak,
    Stay,
)
from loadtest.scenario.sipp_xml import load_sipp

_FIRST_CALLER = 13_800_000_000
_CALLERS_A_KIND = 10_000_000
_AGENT_HZ, _VOICE_MS = 1000, 1000
_PHONES_PER_S = 200.0
_LEGS_CLOSE_S = 5.0
_GRACE_S = 10.0
_FAR_END_HANGS_UP_S = 60.0
"""How long a far end may take that is to hang up without a step that bounds it."""


async def play(scenario: Scenario, under_test: UnderTest, tally: Tally) -> None:
    """Do what a scenario says, count it in `tally`, and end all of it.

    Paths in the scenario are absolute, as its loader leaves them. Agents sign in first. Calls that
    are begun in the warm-up count nowhere, nor do their packets.
    """
    async with AsyncExitStack() as stack:
        run = _Run(scenario, under_test, tally, stack)
        await run.play()


def longest_s(callers: Callers) -> float:
    """Return how long a call may take whose every step takes as long as it may."""
    if callers.sipp is not None:
        steps = load_sipp(Path(callers.sipp.file), keys=callers.sipp.keys)
        return steps.longest_s(callers.sipp.pause_s) + _FAR_END_HANGS_UP_S
    total_s = 0.0
    for step in callers.steps:
        match step:
            case Dial():
                total_s += step.answer_within_s
            case ExpectPrompt() | ExpectAgent() | ExpectHangUp():
                total_s += step.within_s
            case Stay():
                total_s += max(step.s, step.up_to_s or 0)
            case Speak() if not step.loop:
                total_s += audio.read_wav(Path(step.file))[0].duration_ms / 1000
            case _:
                pass
    ends = callers.steps and isinstance(callers.steps[-1], HangUp | ExpectHangUp)
    return total_s if ends else total_s + _FAR_END_HANGS_UP_S


class _Run:
    def __init__(
        self, scenario: Scenario, under_test: UnderTest, tally: Tally, stack: AsyncExitStack
    ) -> None:
        self._scenario, self._under_test = scenario, under_test
        self._sip = tuple(each.sip for each in under_test.entrances)
        self._tally = tally
        self._unheard = Tally(tally.clock_s)
        """Takes what is not counted."""
        self._stack = stack
        self._line = SipLine(under_test.own_host)
        stack.callback(self._line.close)
        self._media = Media(under_test.own_host)
        stack.push_async_callback(self._media.aclose)
        self._answered = AnsweredCallers()
        self._agents: AgentPhones | None = None

    async def play(self) -> None:
        scenario, tally = self._scenario, self._tally
        if not scenario.callers:
            tally.start_counting()
        if scenario.agents is not None:
            await self._bring_agents()
        if scenario.registrations is not None:
            await self._register()
        if scenario.callers:
            await self._call()
        else:
            tally.stop_offering()
        if self._agents is not None:
            self._agents.hang_up_all()
        await self._media.wait_for_legs(_LEGS_CLOSE_S)
        tally.stop_counting()
        if scenario.settle_s:
            await asyncio.sleep(scenario.settle_s)
            tally.settle()

    async def _bring_agents(self) -> None:
        plan, under_test = self._scenario.agents, self._under_test
        if plan is None:
            return
        voice = Path(plan.speak) if plan.speak else self._tone()
        self._agents = AgentPhones(
            self._line, self._media, plan, voice, self._answered, self._unheard
        )
        phones = RegisteredPhones(self._line, self._sip, under_test.realm, under_test.agents_phones)
        # They are no figures, but if one fails its agent cannot be rung: that the report tells.
        registered = Tally(
            self._tally.clock_s, registrations_failed=self._tally.registrations_failed
        )
        await phones.register_all(registered, _PHONES_PER_S)
        keeping = asyncio.create_task(phones.keep(registered))
        self._stack.push_async_callback(end_tasks, [keeping])
        toolbars = Toolbars([each.grpc for each in under_test.entrances])
        self._stack.push_async_callback(toolbars.aclose)
        await toolbars.sign_in_all(
            under_test.tenant, under_test.agents, self._tally, plan.sign_ins_per_s
        )

    def _tone(self) -> Path:
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="cti95598-voice-"))
        return audio.write_wav(Path(folder) / "voice.wav", audio.tone(_AGENT_HZ, _VOICE_MS))

    async def _register(self) -> None:
        plan, under_test = self._scenario.registrations, self._under_test
        if plan is None:
            return
        phones = RegisteredPhones(self._line, self._sip, under_test.realm, under_test.phones)
        await phones.register_all(self._tally, plan.per_s)
        await phones.refresh(self._tally, plan.per_s, self._scenario.duration_s)

    async def _call(self) -> None:
        scenario, tally = self._scenario, self._tally
        random = Random(scenario.seed)  # noqa: S311 - a load, not a secret
        equipment = Equipment(
            line=self._line,
            media=self._media,
            prompts=Prompts(self._media),
            agents=self._answered,
            platforms=self._sip,
        )
        groups = [
            await self._group(at, callers, equipment, random)
            for at, callers in enumerate(scenario.callers)
        ]
        loop = asyncio.get_running_loop()
        warm = loop.call_later(scenario.warm_up_s, self._start_counting)
        usual = gc.get_threshold()
        leave_to_the_collector_what_comes()  # a call that begins late is late by our fault
        tally.start_calling()
        for group in groups:
            group.begin()
        try:
            await asyncio.sleep(scenario.duration_s)
            tally.stop_offering()
            async with asyncio.timeout(_GRACE_S + max(map(longest_s, scenario.callers))):
                await asyncio.gather(*(group.wait_quiet() for group in groups))
        except TimeoutError:
            for group in groups:
                group.give_up("not_hung_up")
        finally:
            # Of a run that was ended early: no call is begun any more, none is left behind.
            for group in groups:
                group.give_up("interrupted")
            warm.cancel()
            gc.set_threshold(*usual)
            gc.unfreeze()

    def _start_counting(self) -> None:
        self._tally.start_counting()
        if self._agents is not None:
            self._agents.tally = self._tally

    async def _group(
        self, at: int, callers: Callers, equipment: Equipment, random: Random
    ) -> CallerGroup:
        scenario = self._scenario
        # A kind's draws are its own: another kind that comes or goes does not change them.
        own = Random(random.random())  # noqa: S311
        make: Make = Caller
        if callers.sipp is not None:
            make = await self._sipp(callers.sipp, own)
        return CallerGroup(
            callers,
            equipment,
            start_times_s(callers.arrival, scenario.duration_s, own),
            self._tally_at,
            clock_s=self._tally.clock_s,
            first_number=_FIRST_CALLER + at * _CALLERS_A_KIND,
            random=own,
            make=make,
        )

    async def _sipp(self, plan: Sipp, random: Random) -> Make:
        """Let callers follow a scenario of sipp's."""
        calls = SippCalls(plan, self._under_test.sip, self._media, random)
        self._stack.push_async_callback(calls.aclose)
        await calls.open()
        return lambda group, _number, tally: calls.new_call(tally, group.ended)

    def _tally_at(self, start_s: float) -> Tally:
        return self._tally if start_s >= self._scenario.warm_up_s else self._unheard
