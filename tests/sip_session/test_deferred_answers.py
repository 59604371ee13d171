"""A re-INVITE whose answer has to be asked for elsewhere."""

from __future__ import annotations

from cti.sip.sessions.session_events import PendingAnswer
from domain.failures import Code
from tests.sip_session.peer import ANSWER, OFFER
from tests.sip_session.virtual import World, passed, virtual

CHANGE = b"v=0\r\nchange\r\n"


@virtual
async def test_the_answer_comes_later(world: World) -> None:
    session, told = await world.answered()
    pending = told.pending = PendingAnswer()
    world.peer.ask("INVITE", body=OFFER)
    await passed(1.0)
    session.reinvite(CHANGE)  # has to wait: one exchange at a time
    pending.settle(ANSWER)
    answered = await world.peer.expect_status(200)
    assert answered.body == ANSWER
    pending.settle(CHANGE)  # nothing comes of it
    told.pending = None
    world.peer.ack(answered)
    await told.expect("acknowledged", b"")
    assert (await world.peer.expect("INVITE")).body == CHANGE
    session.end(Code.FLOW_ENDED)


@virtual
async def test_a_refusal_comes_later(world: World) -> None:
    session, told = await world.answered()
    pending = told.pending = PendingAnswer()
    world.peer.ask("INVITE", body=OFFER)
    await passed(1.0)
    pending.settle(Code.NO_COMMON_CODEC)
    await world.peer.expect_status(488)
    told.pending = None
    world.peer.ask("INVITE", body=OFFER)
    world.peer.ack(await world.peer.expect_status(200))
    session.end(Code.FLOW_ENDED)


@virtual
async def test_another_offer_meanwhile_has_to_wait(world: World) -> None:
    session, told = await world.answered()
    pending = told.pending = PendingAnswer()
    world.peer.ask("INVITE", body=OFFER)
    await passed(1.0)
    world.peer.ask("UPDATE", body=CHANGE)
    assert (await world.peer.expect_status(500)).cseq[1] == "UPDATE"
    pending.settle(ANSWER)
    world.peer.ack(await world.peer.expect_status(200))
    session.end(Code.FLOW_ENDED)


@virtual
async def test_a_call_that_ends_meanwhile(world: World) -> None:
    _, told = await world.answered()
    pending = told.pending = PendingAnswer()
    world.peer.ask("INVITE", body=OFFER)
    await passed(1.0)
    world.peer.ask("BYE")
    assert (await world.peer.expect_status(200)).cseq[1] == "BYE"
    assert (await world.peer.expect_status(487)).cseq[1] == "INVITE"
    assert pending.is_settled
    pending.settle(ANSWER)
    await told.end()


def test_an_answer_that_was_there_before_anybody_asked() -> None:
    taken: list[bytes | Code] = []
    pending = PendingAnswer()
    pending.settle(ANSWER)
    pending.settle(OFFER)
    pending.on_settled(taken.append)
    assert taken == [ANSWER]
