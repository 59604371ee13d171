"""What becomes of callers whose far end does this or that, and what is counted of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import cast

import pytest

import loadtest
from domain.failures import Code, PlatformError
from loadtest.figures.tally import Tally
from loadtest.generator.callers import AnsweredCallers, CallerGroup, Equipment
from loadtest.generator.dialogs import IncomingCall
from loadtest.generator.media import Leg, Media
from loadtest.generator.platform import UnderTest
from loadtest.generator.prompts import Prompts
from loadtest.generator.run import play
from loadtest.generator.sip_line import SipLine
from loadtest.generator.sip_text import Address, Message, response, user_of
from loadtest.scenario.model import Callers, Scenario
from tests.node.running import until

_PROMPT = Path(loadtest.__file__).parent / "flows" / "prompts" / "zh" / "load-menu.wav"
_HEAR_PROMPT = {"do": "expect_prompt", "file": str(_PROMPT), "within_s": 10}
_PORTS, _FAR_PORTS = (45_000, 45_998), (46_000, 46_998)
_DIAL = {"do": "dial", "number": "95598", "answer_within_s": 5}


@dataclass
class FarEnd:
    """A platform of one thought: takes each INVITE as it is told to."""

    line: SipLine
    media: Media
    tally: Tally
    take: Callable[[FarEnd, Message, Address], None]
    ignore: int = 0
    """So many first messages are lost on the way."""
    calls: list[FarCall] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    """Methods of requests outside of calls."""

    def __post_init__(self) -> None:
        self.line.on_request = self._take

    def _take(self, message: Message, source: Address) -> None:
        self.seen.append(message.method)
        if self.ignore:
            self.ignore -= 1
        elif message.method == "INVITE":
            self.take(self, message, source)
        else:
            self.line.send(response(message, "200 OK", tag="far"), source)


class FarCall:
    """A call that the far end has answered."""

    def __init__(self, far: FarEnd, invite: Message, source: Address, *, sounds: bool) -> None:
        self.caller = user_of(invite.headers["from"])
        self.is_over = False
        self.leg: Leg = far.media.open(far.tally)
        self.call = IncomingCall(far.line, invite, source, far.tally, self)
        far.calls.append(self)
        self.call.ring()
        if sounds:
            self.leg.connect(invite.body)
        self.call.accept(self.leg.description())

    def on_progress(self, status: int, body: bytes) -> None: ...
    def on_answer(self, body: bytes) -> None: ...
    def on_refused(self, status: int) -> None: ...
    def on_media(self, body: bytes) -> bytes:
        return body

    def on_far_hang_up(self) -> None:
        self.is_over = True

    def on_gone(self, *, is_answered: bool) -> None:
        self.is_over = is_answered


def _answer(far: FarEnd, invite: Message, source: Address) -> None:
    FarCall(far, invite, source, sounds=True)


def _answer_and_speak(far: FarEnd, invite: Message, source: Address) -> None:
    FarCall(far, invite, source, sounds=True).leg.play_on(_PROMPT)


def _answer_in_silence(far: FarEnd, invite: Message, source: Address) -> None:
    FarCall(far, invite, source, sounds=False)


def _answer_and_hang_up(far: FarEnd, invite: Message, source: Address) -> None:
    call = FarCall(far, invite, source, sounds=True)
    asyncio.get_running_loop().call_later(0.05, call.call.hang_up)


def _refuse(far: FarEnd, invite: Message, source: Address) -> None:
    far.line.send(response(invite, "503 Service Unavailable", tag="far"), source)


def _say_nothing(_far: FarEnd, _invite: Message, _source: Address) -> None: ...


@contextlib.asynccontextmanager
async def _equipment(
    take: Callable[[FarEnd, Message, Address], None], *, ignore: int = 0
) -> AsyncIterator[tuple[Equipment, FarEnd]]:
    line, far_line = SipLine("127.0.0.1"), SipLine("127.0.0.1")
    media, far_media = Media("127.0.0.1", _PORTS), Media("127.0.0.1", _FAR_PORTS)
    clock_s = asyncio.get_running_loop().time
    far = FarEnd(far_line, far_media, Tally(clock_s), take, ignore)
    platform = ("127.0.0.1", far_line.port)
    try:
        yield Equipment(line, media, Prompts(media), AnsweredCallers(), (platform,)), far
    finally:
        line.close()
        far_line.close()
        await media.aclose()
        await far_media.aclose()


async def _called(
    equipment: Equipment, *steps: dict[str, object], calls: int = 1, max_at_once: int = 100
) -> Tally:
    loop = asyncio.get_running_loop()
    tally = Tally(loop.time)
    plan = Callers.model_validate({
        "arrival": {"kind": "steady", "per_s": 1}, "max_at_once": max_at_once, "steps": steps,
    })  # fmt: skip
    group = CallerGroup(
        plan,
        equipment,
        iter([0.0] * calls),
        lambda _: tally,
        clock_s=loop.time,
        first_number=1000,
        random=Random(1),
    )
    group.begin()
    async with asyncio.timeout(20):
        await group.wait_quiet()
        await equipment.media.wait_for_legs(10)
    return tally


async def test_a_call_goes_as_it_says_and_its_packets_are_counted() -> None:
    async with _equipment(_answer) as (equipment, far):
        tally = await _called(
            equipment, _DIAL, {"do": "expect_prompt"}, {"do": "press", "keys": "15"},
            {"do": "hold", "s": 0.05}, {"do": "hang_up"}, calls=3,
        )  # fmt: skip
    assert (tally.offered, tally.answered, tally.completed) == (3, 3, 3)
    assert (dict(tally.failed), tally.live) == ({}, 0)
    assert (tally.prompts_expected, tally.prompts_recognised) == (3, 3)
    assert (tally.setup_s.count, tally.post_dial_delay_s.count) == (3, 3)
    assert tally.rtp_sent > 0
    assert tally.rtp_received > 0
    assert all(call.is_over for call in far.calls)
    assert {call.caller for call in far.calls} == {"1001", "1002", "1003"}


@pytest.mark.parametrize(
    ("take", "steps", "cause"),
    [
        (_refuse, [_DIAL], "503"),
        (_say_nothing, [{**_DIAL, "answer_within_s": 0.05}], "no_answer"),
        (_answer_in_silence, [_DIAL, {"do": "expect_prompt", "within_s": 0.1}], "prompt_missing"),
        (_answer, [_DIAL, {**_HEAR_PROMPT, "within_s": 2}], "prompt_missing"),
        (_answer, [_DIAL, {"do": "expect_agent", "within_s": 0.1}], "no_agent"),
        (_answer, [_DIAL, {"do": "expect_hang_up", "within_s": 0.1}], "not_hung_up"),
        (_answer_and_hang_up, [_DIAL, {"do": "hold", "s": 5}], "hung_up_early"),
        (_answer, [{**_DIAL, "expect_status": 503}], "200"),
    ],
)
async def test_a_call_that_goes_wrong_is_counted_by_its_cause(
    take: Callable[[FarEnd, Message, Address], None], steps: list[dict[str, object]], cause: str
) -> None:
    async with _equipment(take) as (equipment, _):
        tally = await _called(equipment, *steps, calls=2)
    assert dict(tally.failed) == {cause: 2}
    assert (tally.completed, tally.live) == (0, 0)


async def test_the_prompt_that_is_expected_is_recognised() -> None:
    async with _equipment(_answer_and_speak) as (equipment, _):
        tally = await _called(equipment, _DIAL, _HEAR_PROMPT, {"do": "hang_up"}, calls=2)
    assert (tally.completed, tally.prompts_recognised) == (2, 2)


async def test_a_refusal_that_is_wanted_is_no_failure() -> None:
    async with _equipment(_refuse) as (equipment, _):
        tally = await _called(equipment, {**_DIAL, "expect_status": 503})
    assert (tally.completed, dict(tally.failed), tally.refusal_s.count) == (1, {}, 1)


async def test_a_far_end_may_end_the_call() -> None:
    async with _equipment(_answer_and_hang_up) as (equipment, _):
        tally = await _called(equipment, _DIAL, {"do": "expect_hang_up"})
    assert (tally.completed, dict(tally.failed)) == (1, {})


async def test_what_is_lost_is_sent_again_and_counted() -> None:
    async with _equipment(_answer, ignore=1) as (equipment, far):
        tally = await _called(equipment, _DIAL, {"do": "hang_up"})
    assert far.seen == ["INVITE", "INVITE"]
    assert (tally.completed, tally.retransmissions) == (1, 1)


async def test_the_agents_answer_ends_the_callers_wait() -> None:
    async with _equipment(_answer) as (equipment, _):
        # Far ahead of any answer, however slow the machine is.
        ahead_s = asyncio.get_running_loop().time() + 1000
        equipment.agents.tell("1001", ahead_s - 50, ahead_s)
        tally = await _called(equipment, _DIAL, {"do": "expect_agent"}, {"do": "hang_up"})
    assert tally.completed == 1
    assert tally.time_to_agent_s.count == 1
    assert 900 < tally.agent_offer_s.max_s < tally.time_to_agent_s.max_s <= 1000


async def test_callers_beyond_the_bound_wait_for_a_place() -> None:
    async with _equipment(_answer) as (equipment, _):
        tally = await _called(
            equipment, _DIAL, {"do": "hold", "s": 0.02}, {"do": "hang_up"}, calls=4, max_at_once=2
        )
    assert (tally.completed, tally.held_back, tally.peak) == (4, 2, 2)


async def test_a_run_that_is_ended_early_hangs_up_its_calls_and_begins_no_more() -> None:
    async with _equipment(_answer) as (_, far):
        tally = Tally(asyncio.get_running_loop().time)
        scenario = Scenario.model_validate({
            "name": "early", "duration_s": 60,
            "callers": [
                {"arrival": {"kind": "steady", "per_s": 50},
                 "steps": [_DIAL, {"do": "expect_hang_up", "within_s": 30}]},
            ],
        })  # fmt: skip
        under_test = UnderTest(("127.0.0.1", far.line.port), "127.0.0.1")
        playing = asyncio.create_task(play(scenario, under_test, tally))
        await until(lambda: tally.answered >= 3)
        playing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await playing
        offered = tally.offered
        await until(lambda: all(call.is_over for call in far.calls))
        assert (tally.offered, tally.live) == (offered, 0)
        assert set(tally.failed) == {"interrupted"}


class _NoMorePorts:
    """Media with ports for so many legs."""

    def __init__(self, media: Media, legs: int) -> None:
        self._media, self._left = media, legs

    def open(self, tally: Tally) -> Leg:
        if not self._left:
            raise PlatformError(Code.MEDIA_PORTS_EXHAUSTED)
        self._left -= 1
        return self._media.open(tally)

    async def wait_for_legs(self, timeout_s: float) -> None:
        await self._media.wait_for_legs(timeout_s)


async def test_many_callers_who_wait_in_vain_for_a_port_all_fail_by_that_cause() -> None:
    async with _equipment(_answer) as (equipment, _):
        media = cast("Media", _NoMorePorts(equipment.media, 1))
        few = replace(equipment, media=media)
        tally = await _called(few, _DIAL, {"do": "hang_up"}, calls=1000, max_at_once=1)
    assert (tally.completed, dict(tally.failed)) == (1, {"generator_ports": 999})
