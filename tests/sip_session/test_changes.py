"""Changes of a call: UPDATE, offerless INVITEs, glare (RFC 3311, RFC 6337, RFC 3261 14)."""

from __future__ import annotations

import pytest

from cti.sip.messages.message import Request
from cti.sip.sessions.session import InviteSession
from domain.failures import Code
from tests.sip_session.observer import Recorder
from tests.sip_session.peer import ANSWER, OFFER
from tests.sip_session.virtual import World, passed, play, virtual

REQUIRED = [("Require", "100rel")]
ALLOWS = [("Allow", "INVITE, ACK, CANCEL, BYE, UPDATE, PRACK")]
CHANGE = b"v=0\r\nchange\r\n"


async def early(world: World) -> tuple[InviteSession, Recorder]:
    """Let the peer call; our answer is in an acknowledged 183."""
    _, session, told = await world.incoming(headers=[*REQUIRED, *ALLOWS])
    session.ring(ANSWER)
    progress = await world.peer.expect_status(183)
    world.peer.remote_to = str(progress.to)
    world.peer.ask("PRACK", headers=[("RAck", f"{progress.headers.get('RSeq')} 1 INVITE")])
    await world.peer.expect_status(200)
    return session, told


async def early_call(world: World) -> tuple[Request, InviteSession, Recorder]:
    """Call the peer; its answer is in an acknowledged 183."""
    invite, session, told = await world.outgoing()
    headers = [("Require", "100rel"), ("RSeq", "1"), *ALLOWS]
    world.peer.reply(invite, 183, headers=headers, body=ANSWER)
    world.peer.reply(await world.peer.expect("PRACK"), 200)
    await told.expect("progress", 183, ANSWER)
    return invite, session, told


@virtual
async def test_an_update_in_the_early_dialog(world: World) -> None:
    session, told = await early(world)
    world.peer.ask("UPDATE", body=CHANGE)
    answered = await world.peer.expect_status(200)
    assert answered.body == told.answer
    assert "Contact" in answered.headers
    await told.expect("reoffer", CHANGE)
    session.accept(ANSWER)  # the session has gone beyond it: nothing is offered in the 200
    assert (await world.peer.expect_status(200)).body == b""


@virtual
async def test_an_update_before_the_first_exchange(world: World) -> None:
    _, session, told = await world.incoming()
    session.ring(ANSWER)
    world.peer.remote_to = str((await world.peer.expect_status(183)).to)
    world.peer.ask("UPDATE", body=CHANGE)
    assert 0 <= int((await world.peer.expect_status(500)).headers.get("Retry-After") or "-1") <= 10
    world.peer.ask("UPDATE")  # without an offer it changes the Contact alone
    await world.peer.expect_status(200)
    assert told.events.empty()


@virtual
async def test_updates_of_a_confirmed_call(world: World) -> None:
    session, told = await world.answered()
    world.peer.ask("UPDATE", body=CHANGE)
    assert (await world.peer.expect_status(200)).body == told.answer
    await told.expect("reoffer", CHANGE)
    told.answer = Code.NO_COMMON_CODEC
    world.peer.ask("UPDATE", body=CHANGE)
    refused = await world.peer.expect_status(488)
    assert (
        refused.headers.get(
            "Warning",
        )
        == '304 - "Media type not available"'
    )
    world.peer.ask("UPDATE", body=b"<x/>", content_type="application/xml")
    await world.peer.expect_status(415)
    world.peer.ask("UPDATE", headers=[("Contact", "<sip:elsewhere@127.0.0.1:1>")])
    await world.peer.expect_status(200)
    session.end(Code.FLOW_ENDED)
    assert world.node.agent.session_count == 1
    await world.over()


@virtual
async def test_we_change_an_early_call_by_update(world: World) -> None:
    session, told = await early(world)
    session.reinvite(CHANGE)
    update = await world.peer.expect("UPDATE")
    assert update.body == CHANGE
    session.accept(ANSWER)  # waits for the answer to the UPDATE
    world.peer.ask("UPDATE", body=OFFER)
    assert (await world.peer.expect_status(491)).cseq[1] == "UPDATE"
    world.peer.reply(update, 200, body=ANSWER)
    await told.expect("early_answer", ANSWER)
    assert (await world.peer.expect_status(200)).cseq[1] == "INVITE"


@virtual
async def test_a_caller_changes_an_early_call(world: World) -> None:
    invite, session, told = await early_call(world)
    session.reinvite(CHANGE)
    update = await world.peer.expect("UPDATE")
    world.peer.reply(update, 200, body=OFFER)
    await told.expect("early_answer", OFFER)
    told.answer = ANSWER
    world.peer.ask("UPDATE", body=CHANGE)
    await world.peer.expect_status(200)
    await told.expect("reoffer", CHANGE)
    world.peer.reply(invite, 200)
    await world.peer.expect("ACK")
    await told.expect("answered", b"")  # what was agreed last counts


@virtual
async def test_a_change_waits_for_the_answer_where_update_is_unknown(world: World) -> None:
    invite, session, told = await world.outgoing()
    headers = [("Require", "100rel"), ("RSeq", "1"), ("Allow", "INVITE, ACK, BYE")]
    world.peer.reply(invite, 183, headers=headers, body=ANSWER)
    world.peer.reply(await world.peer.expect("PRACK"), 200)
    await told.expect("progress", 183, ANSWER)
    session.reinvite(CHANGE)
    await passed(1)
    world.peer.reply(invite, 200)
    await world.peer.expect("ACK")
    await told.expect("answered", ANSWER)
    assert (await world.peer.expect("INVITE")).body == CHANGE


@pytest.mark.parametrize("status", [405, 501])
def test_an_update_that_is_refused_becomes_a_reinvite(status: int) -> None:
    async def scenario() -> None:
        world = World()
        invite, session, told = await early_call(world)
        session.reinvite(CHANGE)
        world.peer.reply(await world.peer.expect("UPDATE"), status)
        world.peer.reply(invite, 200)
        await world.peer.expect("ACK")
        await told.expect("answered", ANSWER)
        assert (await world.peer.expect("INVITE")).body == CHANGE

    play(scenario)


@pytest.mark.parametrize("status", [0, 481])
def test_a_fork_that_is_gone_leaves_the_call_to_the_others(status: int) -> None:
    async def scenario() -> None:
        world = World()
        invite, session, told = await early_call(world)
        session.reinvite(CHANGE)
        update = await world.peer.expect("UPDATE")
        if status:
            world.peer.reply(update, status)
        code = Code.FAR_END_REFUSED if status else Code.SIP_TIMEOUT
        await told.expect("reoffer_refused", code)
        world.peer.reply(invite, 200, tag="other", body=OFFER)
        assert (await world.peer.expect("ACK")).to.tag == "other"
        await told.expect("answered", OFFER)
        session.end(Code.FLOW_ENDED)
        await world.over()

    play(scenario)


@pytest.mark.parametrize("status", [408, 481])
@pytest.mark.parametrize("method", ["INFO", "UPDATE"])
def test_the_far_end_knows_the_call_no_more(method: str, status: int) -> None:
    async def scenario() -> None:
        world = World()
        session, told = await world.answered()
        session.send(method)
        world.peer.reply(await world.peer.expect(method), status)
        await world.peer.expect("BYE")
        assert not (await told.end()).by_peer
        await world.over()

    play(scenario)


@virtual
async def test_nobody_answers_inside_the_call(world: World) -> None:
    session, told = await world.answered()
    session.send("INFO")
    assert (await told.end()).code is Code.SIP_TIMEOUT
    await world.over()


@virtual
async def test_other_usages_do_not_end_the_call(world: World) -> None:
    session, told = await world.answered()
    session.send("NOTIFY", [("Event", "refer"), ("Subscription-State", "active")])
    world.peer.reply(await world.peer.expect("NOTIFY"), 481)
    await passed(1)
    assert told.events.empty()


# Glare


@pytest.mark.parametrize(("direction", "least_s", "most_s"), [("in", 0, 2.0), ("out", 2.1, 4.0)])
def test_both_change_at_once(direction: str, least_s: float, most_s: float) -> None:
    async def scenario() -> None:
        world = World()
        if direction == "in":
            session, told = await world.answered()
        else:
            invite, session, told = await world.outgoing()
            world.peer.reply(invite, 200, body=ANSWER)
            await world.peer.expect("ACK")
            await told.expect("answered", ANSWER)
        session.reinvite(CHANGE)
        ours = await world.peer.expect("INVITE")
        for method in ("INVITE", "UPDATE"):
            theirs = world.peer.ask(method, body=OFFER)
            assert (await world.peer.expect_status(491)).cseq == theirs.cseq
            if method == "INVITE":
                world.peer.follow(theirs, "ACK")
        world.peer.reply(ours, 491)
        await world.peer.expect("ACK")
        at_s = world.node.endpoint._now_s()
        again = await world.peer.expect("INVITE")
        assert least_s <= world.node.endpoint._now_s() - at_s <= most_s + 0.1
        world.peer.reply(again, 200, body=ANSWER)
        await world.peer.expect("ACK")
        await told.expect("answered", ANSWER)
        session.end(Code.FLOW_ENDED)
        await world.over()

    play(scenario)


@virtual
async def test_glare_without_end(world: World) -> None:
    session, told = await world.answered()
    session.reinvite(CHANGE)
    for _ in range(9):
        world.peer.reply(await world.peer.expect("INVITE"), 491)
        await world.peer.expect("ACK")
    await told.expect("reoffer_refused", Code.FAR_END_REFUSED)


@virtual
async def test_asked_to_try_later(world: World) -> None:
    session, told = await world.answered()
    session.reinvite(CHANGE)
    world.peer.reply(await world.peer.expect("INVITE"), 500, headers=[("Retry-After", "3")])
    await world.peer.expect("ACK")
    at_s = world.node.endpoint._now_s()
    again = await world.peer.expect("INVITE")
    assert world.node.endpoint._now_s() - at_s == pytest.approx(3.0, abs=0.1)
    world.peer.reply(again, 500, headers=[("Retry-After", "300")])
    await told.expect("reoffer_refused", Code.FAR_END_REFUSED)


# Without an offer


@virtual
async def test_an_answer_that_never_comes(world: World) -> None:
    _, session, told = await world.incoming(body=b"")
    session.accept(OFFER)
    world.peer.ack(await world.peer.expect_status(200))
    assert (await world.peer.expect("BYE")).headers.get("Reason") == "Q.850;cause=111"
    assert (await told.end()).code is Code.SDP_MALFORMED
    await world.over()


@virtual
async def test_a_late_ack_brings_the_answer(world: World) -> None:
    _, session, told = await world.incoming(body=b"")
    session.accept(OFFER)
    answered = await world.peer.expect_status(200)
    await passed(20)
    world.peer.ack(answered, ANSWER)
    await told.expect("acknowledged", ANSWER)
    world.peer.ack(answered, ANSWER)
    session.end(Code.FLOW_ENDED)
    await world.over()


@virtual
async def test_our_invite_without_an_offer(world: World) -> None:
    invite, session, told = await world.outgoing(sdp=b"")
    assert invite.body == b""
    assert "Content-Type" not in invite.headers
    world.peer.reply(invite, 183, body=OFFER)  # not where an offer may be
    await told.expect("progress", 183, b"")
    told.answer = ANSWER
    for _ in range(2):
        world.peer.reply(invite, 200, body=OFFER)
        assert (await world.peer.expect("ACK")).body == ANSWER
    await told.expect("reoffer", OFFER)
    await told.expect("answered", b"")
    session.reinvite(b"")
    change = await world.peer.expect("INVITE")
    assert change.body == b""
    world.peer.reply(change, 200, body=CHANGE)
    assert (await world.peer.expect("ACK")).body == ANSWER
    await told.expect("reoffer", CHANGE)
    await told.expect("answered", b"")


@pytest.mark.parametrize(("offer", "cause"), [(OFFER, 88), (b"", 111)])
def test_an_offer_of_theirs_that_will_not_do(offer: bytes, cause: int) -> None:
    async def scenario() -> None:
        world = World()
        invite, _, told = await world.outgoing(sdp=b"")
        told.answer = Code.NO_COMMON_CODEC
        world.peer.reply(invite, 200, body=offer)
        await world.peer.expect("ACK")
        assert (await world.peer.expect("BYE")).headers.get("Reason") == f"Q.850;cause={cause}"
        await world.over()

    play(scenario)


@virtual
async def test_a_200_without_any_answer(world: World) -> None:
    invite, _, told = await world.outgoing()
    world.peer.reply(invite, 200)
    await world.peer.expect("ACK")
    await world.peer.expect("BYE")
    assert (await told.end()).code is Code.SDP_MALFORMED
    await world.over()


@virtual
async def test_a_reinvite_answered_by_a_reliable_response(world: World) -> None:
    session, told = await world.answered()
    session.reinvite(CHANGE)
    change = await world.peer.expect("INVITE")
    world.peer.reply(change, 183, headers=[("Require", "100rel"), ("RSeq", "9")], body=ANSWER)
    prack = await world.peer.expect("PRACK")
    assert prack.headers.get("RAck") == f"9 {change.cseq[0]} INVITE"
    world.peer.reply(prack, 200)
    world.peer.reply(change, 200)
    await world.peer.expect("ACK")
    await told.expect("answered", ANSWER)
