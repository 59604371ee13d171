"""What becomes of caller, agent, expert and supervisor, whatever each of them does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cti.call import Call, DialTarget, Supervision, Talk, TalkState
from cti.calls.inbound_call import InboundCall
from cti.calls.parties import MOST_PARTIES
from domain.failures import Code, PlatformError
from tests.call_control.conftest import answered
from tests.call_control.exchange import Exchange, Transferor, exchange_on
from tests.call_control.party import PartyCall
from tests.call_control.platform import until
from tests.fakes.media import FakeMedia

EXPERT = DialTarget("1002", "1001", purpose="consult")
SUPERVISOR = DialTarget("1009", "1001", purpose="supervisor")


@pytest.fixture
async def exchange(tmp_path: Path) -> AsyncIterator[Exchange]:
    async with exchange_on(tmp_path, FakeMedia()) as running:
        yield running


class Assisted:
    """A caller with agent 1001, and phones 1002 and 1009, on engines that only take notes."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.talk: Talk | None = None
        self.over: list[str] = []

    async def begin(self) -> Talk:
        async def serve(call: Call) -> None:
            assert isinstance(call, InboundCall)
            call._may_caller_transfer = True
            leg = await call.dial(DialTarget("1001", call.info.caller), timeout_ms=5000)
            await call.bridge(leg, record_party="1001", on_begun=self._begun)

        self.exchange.handler = answered(serve)
        agent = await self.exchange.phone("1001")
        self.expert, self.supervisor = [await self.exchange.phone(n) for n in ("1002", "1009")]
        self.carrier = await self.exchange.carrier()
        self.caller = self.carrier.call("95598", self.exchange.hop)
        self.agent = await agent.next_call()
        self.agent.answer()
        await until(lambda: self.talk)
        assert self.talk is not None
        return self.talk

    def _begun(self, talk: Talk) -> None:
        self.talk = talk

    async def consulted(self) -> PartyCall:
        assert self.talk is not None
        consulting = asyncio.create_task(self.talk.consult(EXPERT, timeout_ms=5000))
        call = await self.expert.next_call()
        call.answer()
        await consulting
        return call

    async def supervised(self) -> PartyCall:
        assert self.talk is not None
        joining = asyncio.create_task(
            self.talk.supervise(
                SUPERVISOR,
                Supervision.LISTEN,
                timeout_ms=5000,
                on_ended=lambda: self.over.append("supervisor"),
            )
        )
        call = await self.supervisor.next_call()
        call.answer()
        await joining
        return call


@pytest.fixture
async def assisted(exchange: Exchange) -> AsyncIterator[tuple[Assisted, Talk]]:
    """Afterwards no call, leg, port or recording may be left: see `exchange_on`."""
    assisted = Assisted(exchange)
    yield assisted, await assisted.begin()
    await until(lambda: exchange.control.calls == 0)
    await assisted.carrier.endpoint.aclose()


async def test_an_expert_who_refuses_leaves_the_caller_on_hold(
    assisted: tuple[Assisted, Talk],
) -> None:
    scene, talk = assisted
    scene.expert.refuses_with = 486
    with pytest.raises(PlatformError) as refused:
        await talk.consult(EXPERT, timeout_ms=5000)
    assert refused.value.code is Code.BUSY
    assert talk.state is TalkState.HELD
    assert scene.exchange.hears(scene.caller) == ["hold.wav"]
    talk.retrieve()
    assert scene.exchange.are_talking(scene.caller, scene.agent)
    for command in (talk.retrieve, talk.three_party, talk.complete, talk.cancel_consult):
        with pytest.raises(PlatformError, match=r"^state_forbids:"):
            command()
    scene.caller.hang_up()


async def test_a_recording_is_paused_and_resumed_once_each(
    assisted: tuple[Assisted, Talk],
) -> None:
    scene, talk = assisted
    for pause in (talk.pause_recording, talk.resume_recording):
        pause()
        with pytest.raises(PlatformError) as refused:
            pause()
        assert refused.value.code is Code.STATE_FORBIDS
    scene.caller.hang_up()


async def test_a_consultation_that_is_given_up_rings_no_more(
    assisted: tuple[Assisted, Talk],
) -> None:
    scene, talk = assisted
    consulting = asyncio.create_task(talk.consult(EXPERT, timeout_ms=5000))
    rung = await scene.expert.next_call()
    assert talk.state is TalkState.CONSULTING
    with pytest.raises(PlatformError, match=r"^state_forbids:"):
        await talk.consult(SUPERVISOR, timeout_ms=5000)
    talk.cancel_consult()
    assert str(talk.state) == "talking"
    with pytest.raises(PlatformError, match=r"^no_call:"):
        await consulting
    await rung.until_ended()
    assert scene.exchange.are_talking(scene.caller, scene.agent)
    asked = await scene.consulted()
    assert scene.exchange.are_talking(scene.agent, asked)
    scene.caller.hang_up()
    await asked.until_ended()


async def test_a_transfer_leaves_the_caller_to_the_expert(
    assisted: tuple[Assisted, Talk],
) -> None:
    scene, talk = assisted
    expert = await scene.consulted()
    supervisor = await scene.supervised()
    talk.complete()
    await scene.agent.until_ended()
    assert scene.exchange.are_talking(scene.caller, expert)
    assert scene.over == []
    expert.hang_up()
    await scene.caller.until_ended()
    await supervisor.until_ended()
    assert scene.over == ["supervisor"]
    for command in (talk.hold, talk.three_party, talk.complete, talk.cancel_consult):
        with pytest.raises(PlatformError, match=r"^no_call:"):
            command()


async def test_an_expert_who_hangs_up_leaves_both_talking(assisted: tuple[Assisted, Talk]) -> None:
    scene, talk = assisted
    expert = await scene.consulted()
    expert.hang_up()
    await until(lambda: talk.state is TalkState.TALKING)
    assert scene.exchange.are_talking(scene.caller, scene.agent)
    scene.agent.hang_up()
    await scene.caller.until_ended()


@pytest.mark.parametrize("who", ["caller", "agent"])
@pytest.mark.parametrize("state", ["held", "ringing", "consulting", "conference", "supervised"])
async def test_whoever_hangs_up_in_whatever_state_nothing_is_left(
    assisted: tuple[Assisted, Talk], state: str, who: str
) -> None:
    scene, talk = assisted
    others: list[PartyCall] = []
    ringing: list[asyncio.Task[object]] = []
    match state:
        case "held":
            talk.hold()
        case "ringing":
            ringing.append(asyncio.create_task(talk.consult(EXPERT, timeout_ms=60_000)))
            others.append(await scene.expert.next_call())
            joining = talk.supervise(
                SUPERVISOR,
                Supervision.BARGE,
                timeout_ms=60_000,
                on_ended=lambda: scene.over.append("supervisor"),
            )
            ringing.append(asyncio.create_task(joining))
            others.append(await scene.supervisor.next_call())
        case "supervised":
            others.append(await scene.supervised())
        case _:
            others.append(await scene.consulted())
            if state == "conference":
                talk.three_party()
    getattr(scene, who).hang_up()
    if who == "agent" and state in {"consulting", "conference"}:
        await until(lambda: scene.exchange.are_talking(scene.caller, others[0]))
        scene.caller.hang_up()
    for call in (scene.caller, scene.agent, *others):
        await call.until_ended()
    for result in await asyncio.gather(*ringing, return_exceptions=True):
        assert isinstance(result, PlatformError)
    assert scene.over == (["supervisor"] if state == "supervised" else [])


async def test_a_conversation_has_so_many_parties_and_no_more(
    assisted: tuple[Assisted, Talk],
) -> None:
    scene, talk = assisted
    for _ in range(MOST_PARTIES - 3):
        present = await scene.supervised()
    # One more may come, and counts while it is rung.
    asking = asyncio.create_task(talk.consult(EXPERT, timeout_ms=5000))
    expert = await scene.expert.next_call()
    for answers in (expert.answer, lambda: None):
        with pytest.raises(PlatformError) as refused:
            await talk.supervise(
                SUPERVISOR, Supervision.BARGE, timeout_ms=5000, on_ended=lambda: None
            )
        assert refused.value.code is Code.CONVERSATION_FULL
        answers()
        await asking
    present.hang_up()
    await until(lambda: scene.over == ["supervisor"])
    await scene.supervised()
    scene.caller.hang_up()


async def test_an_expert_is_not_rung_for_a_conversation_that_is_full(
    assisted: tuple[Assisted, Talk],
) -> None:
    scene, talk = assisted
    for _ in range(MOST_PARTIES - 2):
        await scene.supervised()
    with pytest.raises(PlatformError) as refused:
        await talk.consult(EXPERT, timeout_ms=5000)
    assert refused.value.code is Code.CONVERSATION_FULL
    assert talk.state is TalkState.TALKING
    assert scene.exchange.are_talking(scene.caller, scene.agent)
    scene.caller.hang_up()


async def test_a_phone_transfers_nobody_while_its_agent_consults(
    assisted: tuple[Assisted, Talk],
) -> None:
    scene, talk = assisted
    expert = await scene.consulted()
    asks = Transferor(scene.exchange.phones["1001"], scene.agent)
    asks.refer("sip:1009@cti95598")
    await until(lambda: asks.status)
    assert asks.status >= 400
    assert scene.exchange.are_talking(scene.agent, expert)
    assert talk.state is TalkState.CONSULTING
    scene.caller.hang_up()
    await expert.until_ended()


async def test_a_transfer_that_fails_ends_the_hold(assisted: tuple[Assisted, Talk]) -> None:
    scene, talk = assisted
    told: list[TalkState] = []
    talk.watch(told.append)
    talk.hold()
    scene.expert.refuses_with = 486
    asks = Transferor(scene.exchange.phones["1001"], scene.agent)
    asks.refer("sip:1002@cti95598")
    await asks.told(486)
    await until(lambda: told == ["held", "talking"])
    assert scene.exchange.are_talking(scene.caller, scene.agent)
    scene.caller.hang_up()


async def test_who_takes_the_callers_place_waits_in_its_stead(
    assisted: tuple[Assisted, Talk],
) -> None:
    scene, talk = assisted
    talk.hold()
    asks = Transferor(scene.carrier, scene.caller)
    asks.refer("sip:1002@cti95598")
    instead = await scene.expert.next_call()
    instead.answer()
    await scene.caller.until_ended()
    assert talk.state is TalkState.HELD
    assert scene.exchange.hears(instead) == ["hold.wav"]
    talk.retrieve()
    assert scene.exchange.are_talking(instead, scene.agent)
    instead.hang_up()
