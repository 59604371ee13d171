"""Sessions that others start (RFC 3261 13.3, 14.2, 15.1.2)."""

from __future__ import annotations

import pytest

from cti.sip.sessions.session import SessionEnd, SessionState
from domain.failures import Code
from tests.sip_session.conftest import Node
from tests.sip_session.peer import ANSWER, OFFER, RawPeer


async def test_answered_and_hung_up_by_the_caller(node: Node, peer: RawPeer) -> None:
    peer.ask("INVITE", body=OFFER)
    session, told = await node.session()
    assert session.direction == "in"
    assert session.offer == OFFER
    session.ring()
    ringing = await peer.expect_status(180)
    session.accept(ANSWER)
    answered = await peer.expect_status(200)
    assert answered.body == ANSWER
    assert answered.to.tag == ringing.to.tag
    assert answered.headers.get("Contact") == f"<sip:127.0.0.1:{node.address[1]}>"
    peer.ack(answered)
    await told.expect("acknowledged", b"")
    peer.ask("BYE", headers=[("Reason", "Q.850;cause=16")])
    await peer.expect_status(200)
    end = await told.end()
    assert end == SessionEnd(True, 200, Code.FLOW_ENDED, "Q.850;cause=16")
    assert end.q850_cause == 16
    assert node.agent.session_count == 0


async def test_early_media_is_a_183(node: Node, peer: RawPeer) -> None:
    peer.ask("INVITE", body=OFFER)
    session, _ = await node.session()
    session.ring(ANSWER)
    assert (await peer.expect_status(183)).body == ANSWER


async def test_hung_up_by_us(node: Node, peer: RawPeer) -> None:
    peer.ask("INVITE", body=OFFER)
    session, told = await node.session()
    session.accept(ANSWER)
    peer.ack(await peer.expect_status(200))
    await told.expect("acknowledged", b"")
    session.end(Code.FLOW_ENDED)
    session.end(Code.FLOW_ENDED)
    bye = await peer.expect("BYE")
    assert bye.uri == peer.contact.strip("<>")
    assert bye.headers.get("Reason") == "Q.850;cause=16"
    assert bye.from_.tag == session.local_tag
    assert bye.to.tag == peer.tag
    assert session.state is SessionState.TERMINATED
    peer.reply(bye, 481)
    assert (await told.end()).by_peer is False
    await node.forgotten()


async def test_the_answer_is_repeated_until_its_ack(node: Node, peer: RawPeer) -> None:
    peer.ask("INVITE", body=OFFER)
    session, told = await node.session()
    session.accept(ANSWER)
    answered = await peer.expect_status(200)
    await peer.saw(b"SIP/2.0 200", times=4)
    peer.ack(answered)
    await told.expect("acknowledged", b"")
    peer.ask("OPTIONS")
    await peer.expect_status(200)
    session.end(Code.FLOW_ENDED)
    await peer.expect("BYE")


async def test_without_an_ack_the_call_ends(node: Node, peer: RawPeer) -> None:
    peer.ask("INVITE", body=OFFER)
    session, told = await node.session()
    session.accept(ANSWER)
    await peer.expect_status(200)
    bye = await peer.expect("BYE")
    assert bye.headers.get("Reason") == "Q.850;cause=102"
    peer.reply(bye, 200)
    assert await told.end() == SessionEnd(False, 408, Code.ACK_MISSING)
    assert peer.times_seen(b"SIP/2.0 200") > 6
    await node.forgotten()


async def test_our_bye_waits_for_the_ack(node: Node, peer: RawPeer) -> None:
    peer.ask("INVITE", body=OFFER)
    session, told = await node.session()
    session.accept(ANSWER)
    answered = await peer.expect_status(200)
    session.end(Code.FLOW_ENDED)
    await told.end()
    await peer.saw(b"SIP/2.0 200", times=2)
    assert peer.inbox.empty()
    peer.ack(answered)
    peer.reply(await peer.expect("BYE"), 200)
    await node.forgotten()


async def test_our_bye_waits_no_longer_than_for_the_last_repetition(
    node: Node, peer: RawPeer
) -> None:
    peer.ask("INVITE", body=OFFER)
    session, told = await node.session()
    session.accept(ANSWER)
    session.end(Code.FLOW_ENDED)
    await peer.expect_status(200)
    peer.reply(await peer.expect("BYE"), 200)
    assert (await told.end()).code is Code.FLOW_ENDED
    await node.forgotten()


async def test_a_bye_crosses_ours_before_the_ack(node: Node, peer: RawPeer) -> None:
    peer.ask("INVITE", body=OFFER)
    session, told = await node.session()
    session.accept(ANSWER)
    peer.remote_to = str((await peer.expect_status(200)).to)
    session.end(Code.FLOW_ENDED)
    peer.ask("BYE")
    await peer.expect_status(200)
    assert (await told.end()).by_peer is False
    assert node.agent.session_count == 0


async def test_a_bye_before_the_ack_ends_the_repetitions(node: Node, peer: RawPeer) -> None:
    peer.ask("INVITE", body=OFFER)
    session, told = await node.session()
    session.accept(ANSWER)
    peer.remote_to = str((await peer.expect_status(200)).to)
    peer.ask("BYE")
    await peer.expect_status(200)
    assert (await told.end()).by_peer is True
    assert session._answer is None


async def test_cancelled(node: Node, peer: RawPeer) -> None:
    invite = peer.ask("INVITE", body=OFFER)
    session, told = await node.session()
    session.ring()
    await peer.expect_status(180)
    peer.follow(invite, "CANCEL")
    first, second = await peer.next(), await peer.next()
    assert sorted([first.status, second.status]) == [200, 487]  # type: ignore[union-attr]
    peer.follow(invite, "ACK")
    assert await told.end() == SessionEnd(True, 487, Code.CALLER_ABANDONED)
    session.accept(ANSWER)
    session.ring()
    assert node.agent.session_count == 0


@pytest.mark.parametrize(
    ("code", "status", "cause"),
    [(Code.BUSY, 486, 17), (Code.ACCESS_CODE_UNKNOWN, 404, 1), (Code.FLOW_ENDED, 480, 16)],
)
async def test_refused(node: Node, peer: RawPeer, code: Code, status: int, cause: int) -> None:
    invite = peer.ask("INVITE", body=OFFER)
    session, told = await node.session()
    session.end(code)
    refused = await peer.expect_status(status)
    assert refused.headers.get("Reason") == f"Q.850;cause={cause}"
    peer.follow(invite, "ACK")
    assert await told.end() == SessionEnd(False, status, code)
    assert node.agent.session_count == 0


async def test_refused_with_a_status_of_choice(node: Node, peer: RawPeer) -> None:
    peer.ask("INVITE", body=OFFER)
    session, told = await node.session()
    session.reject(status=503, headers=[("Retry-After", "7")])
    assert (await peer.expect_status(503)).headers.get("Retry-After") == "7"
    assert (await told.end()).status == 503


async def test_a_bye_in_the_early_dialog(node: Node, peer: RawPeer) -> None:
    peer.ask("INVITE", body=OFFER)
    session, told = await node.session()
    session.ring()
    peer.remote_to = str((await peer.expect_status(180)).to)
    peer.ask("BYE")
    statuses = [(await peer.next()).status for _ in range(2)]  # type: ignore[union-attr]
    assert sorted(statuses) == [200, 487]
    assert (await told.end()).by_peer is True


async def test_an_invite_without_offer_gets_ours(node: Node, peer: RawPeer) -> None:
    peer.ask("INVITE")
    session, told = await node.session()
    assert session.offer == b""
    session.accept(OFFER)
    answered = await peer.expect_status(200)
    assert answered.body == OFFER
    peer.ack(answered, ANSWER)
    await told.expect("acknowledged", ANSWER)


async def answered_call(node: Node, peer: RawPeer) -> tuple:  # type: ignore[type-arg]
    peer.ask("INVITE", body=OFFER)
    session, told = await node.session()
    session.accept(ANSWER)
    peer.ack(await peer.expect_status(200))
    await told.expect("acknowledged", b"")
    return session, told


async def test_hold_and_resume_by_the_caller(node: Node, peer: RawPeer) -> None:
    session, told = await answered_call(node, peer)
    for offer in (b"v=0\r\na=sendonly\r\n", b"v=0\r\na=sendrecv\r\n"):
        told.answer = b"answer to " + offer
        peer.ask("INVITE", body=offer)
        answered = await peer.expect_status(200)
        await told.expect("reoffer", offer)
        assert answered.body == told.answer
        peer.ack(answered)
        await told.expect("acknowledged", b"")
    assert session.state is SessionState.CONFIRMED


async def test_a_refused_change_leaves_the_session(node: Node, peer: RawPeer) -> None:
    session, told = await answered_call(node, peer)
    told.answer = Code.NO_COMMON_CODEC
    peer.ask("INVITE", body=OFFER)
    await peer.expect_status(488)
    await told.expect("reoffer", OFFER)
    assert session.state is SessionState.CONFIRMED


async def test_a_reinvite_without_offer_gets_ours(node: Node, peer: RawPeer) -> None:
    _, told = await answered_call(node, peer)
    told.answer = OFFER
    peer.ask("INVITE")
    answered = await peer.expect_status(200)
    await told.expect("reoffer", b"")
    second = peer.ask("INVITE", body=OFFER)
    assert (await peer.expect_status(491)).cseq == second.cseq
    peer.ack(answered, ANSWER)
    await told.expect("acknowledged", ANSWER)


async def test_a_reinvite_moves_the_target(node: Node, peer: RawPeer) -> None:
    session, told = await answered_call(node, peer)
    elsewhere = await RawPeer.create(node.address)
    peer.ask("INVITE", body=OFFER, headers=[("Contact", elsewhere.contact)])
    peer.ack(await peer.expect_status(200))
    await told.expect("reoffer", OFFER)
    await told.expect("acknowledged", b"")
    session.end(Code.FLOW_ENDED)
    assert (await elsewhere.expect("BYE")).uri == elsewhere.contact.strip("<>")
    elsewhere.close()


async def test_a_reinvite_whose_predecessors_ack_was_lost(node: Node, peer: RawPeer) -> None:
    peer.ask("INVITE", body=OFFER)
    session, told = await node.session()
    session.accept(ANSWER)
    peer.remote_to = str((await peer.expect_status(200)).to)
    second = peer.ask("INVITE", body=OFFER)
    answered = await peer.expect_status(200)
    assert answered.cseq == second.cseq
    peer.ack(answered)
    await told.expect("reoffer", OFFER)
    await told.expect("acknowledged", b"")


async def test_a_second_invite_before_the_first_is_answered(node: Node, peer: RawPeer) -> None:
    peer.ask("INVITE", body=OFFER)
    session, _ = await node.session()
    session.ring()
    peer.remote_to = str((await peer.expect_status(180)).to)
    peer.ask("INVITE", body=OFFER)
    refused = await peer.expect_status(500)
    assert 0 <= int(refused.headers.get("Retry-After") or "-1") <= 10
    session.accept(ANSWER)
    await peer.expect_status(200)


async def test_glare(node: Node, peer: RawPeer) -> None:
    session, told = await answered_call(node, peer)
    session.reinvite(b"v=0\r\nours\r\n")
    ours = await peer.expect("INVITE")
    peer.ask("INVITE", body=OFFER)
    await peer.expect_status(491)
    peer.reply(ours, 491)
    await peer.expect("ACK")
    again = await peer.expect("INVITE")
    assert again.body == ours.body
    assert again.cseq[0] > ours.cseq[0]
    peer.reply(again, 200, body=ANSWER)
    await peer.expect("ACK")
    await told.expect("answered", ANSWER)


async def test_no_ack_for_a_reinvite_ends_the_session(node: Node, peer: RawPeer) -> None:
    _, told = await answered_call(node, peer)
    peer.ask("INVITE", body=OFFER)
    await peer.expect_status(200)
    await told.expect("reoffer", OFFER)
    peer.reply(await peer.expect("BYE"), 200)
    assert (await told.end()).code is Code.ACK_MISSING


async def test_other_requests_of_the_dialog(node: Node, peer: RawPeer) -> None:
    _, told = await answered_call(node, peer)
    peer.ask("INFO", body=b"Signal=5", content_type="application/dtmf-relay")
    await peer.expect_status(200)
    await told.expect("info", "application/dtmf-relay", b"Signal=5")
    peer.ask("NOTIFY", headers=[("Event", "talk")])
    await peer.expect_status(200)
    await told.expect("talk")
    peer.ask("NOTIFY", headers=[("Event", "refer")])
    assert (await peer.expect_status(489)).headers.get("Allow-Events") == "talk"
    peer.ask("OPTIONS")
    assert "INVITE" in (await peer.expect_status(200)).headers.get_all("Allow")
    peer.ask("REFER")
    assert "INVITE" in (await peer.expect_status(405)).headers.get_all("Allow")
    peer.ask("INVITE", body=b"<x/>", content_type="application/xml")
    assert (await peer.expect_status(415)).headers.get("Accept") == "application/sdp"


async def test_requests_out_of_order_or_of_others(node: Node, peer: RawPeer) -> None:
    await answered_call(node, peer)
    peer.ask("INFO", cseq=1)
    await peer.expect_status(500)
    tag, peer.tag = peer.tag, "stranger"
    peer.ask("BYE")
    await peer.expect_status(481)
    peer.tag = tag
    peer.remote_to = "<sip:95598@127.0.0.1>;tag=unknown"
    peer.ask("BYE")
    await peer.expect_status(481)
    assert node.agent.session_count == 1


async def test_after_our_bye_only_a_crossing_bye_is_taken(node: Node, peer: RawPeer) -> None:
    session, told = await answered_call(node, peer)
    session.end(Code.FLOW_ENDED)
    ours = await peer.expect("BYE")
    peer.ask("INVITE", body=OFFER)
    await peer.expect_status(481)
    peer.ask("BYE")
    await peer.expect_status(200)
    peer.reply(ours, 200)
    await told.end()
    await node.forgotten()


async def test_a_bye_that_nobody_answers(node: Node, peer: RawPeer) -> None:
    session, told = await answered_call(node, peer)
    session.end(Code.FLOW_ENDED)
    await told.end()
    await node.forgotten()


async def test_loose_and_strict_routes(node: Node, peer: RawPeer) -> None:
    here = f"{peer.host}:{peer.port}"
    for route, uri, routes in [
        (f"<sip:{here};lr>", "sip:raw@10.0.0.1", [f"<sip:{here};lr>", "<sip:10.9.9.9;lr>"]),
        (f"<sip:{here}>", f"sip:{here}", ["<sip:10.9.9.9;lr>", "<sip:raw@10.0.0.1>"]),
        (f"<sip:{here}?X=1>", f"sip:{here}", ["<sip:10.9.9.9;lr>", "<sip:raw@10.0.0.1>"]),
    ]:
        peer.call_id += "x"
        peer.remote_to = ""
        peer.ask(
            "INVITE",
            body=OFFER,
            headers=[
                ("Record-Route", f"{route}, <sip:10.9.9.9;lr>"),
                ("Contact", "<sip:raw@10.0.0.1>"),
            ],
        )
        session, told = await node.session()
        session.accept(ANSWER)
        peer.ack(await peer.expect_status(200))
        await told.expect("acknowledged", b"")
        session.end(Code.FLOW_ENDED)
        bye = await peer.expect("BYE")
        assert bye.uri == uri
        assert bye.headers.get_all("Route") == routes
        peer.reply(bye, 200)


@pytest.mark.parametrize("header", ["Supported", "Allow"])
async def test_an_open_quotation_mark_in_a_list_of_tokens_stops_no_call(
    node: Node, peer: RawPeer, header: str
) -> None:
    peer.ask("INVITE", body=OFFER, headers=[(header, 'a, "b, c')])
    session, told = await node.session()
    session.accept(ANSWER)
    peer.ack(await peer.expect_status(200))
    await told.expect("acknowledged", b"")
    session.end(Code.FLOW_ENDED)
    peer.reply(await peer.expect("BYE"), 200)


async def test_a_semicolon_after_the_to_is_no_parameter(node: Node, peer: RawPeer) -> None:
    peer.remote_to = "<sip:95598@127.0.0.1>;"
    peer.ask("INVITE", body=OFFER)
    session, told = await node.session()
    session.accept(ANSWER)
    peer.ack(await peer.expect_status(200))
    await told.expect("acknowledged", b"")
    session.end(Code.FLOW_ENDED)
    bye = await peer.expect("BYE")
    assert (bye.from_.uri_text, list(bye.from_.params)) == ("sip:95598@127.0.0.1", ["tag"])
    peer.reply(bye, 200)


@pytest.mark.parametrize("rport", [";rport", ""])
async def test_a_caller_behind_nat_is_reached_where_it_sends_from(
    node: Node, peer: RawPeer, rport: str
) -> None:
    via = f"SIP/2.0/UDP 10.1.2.3:5060{rport};branch=z9hG4bK-nat{peer.port}"
    peer.ask("INVITE", body=OFFER, headers=[("Via", via), ("Contact", "<sip:raw@10.1.2.3>")])
    session, told = await node.session()
    session.accept(ANSWER)
    peer.ack(await peer.expect_status(200))
    await told.expect("acknowledged", b"")
    session.end(Code.FLOW_ENDED)
    assert (await peer.expect("BYE")).uri == "sip:raw@10.1.2.3"


async def test_our_change_is_answered_refused_or_the_end(node: Node, peer: RawPeer) -> None:
    session, told = await answered_call(node, peer)
    session.reinvite(b"v=0\r\nhold\r\n")
    change = await peer.expect("INVITE")
    assert change.body == b"v=0\r\nhold\r\n"
    session.reinvite(b"v=0\r\nresume\r\n")  # waits for the one before it
    peer.reply(change, 200, body=ANSWER)
    assert (await peer.expect("ACK")).cseq == (change.cseq[0], "ACK")
    await told.expect("answered", ANSWER)
    change = await peer.expect("INVITE")
    assert change.body == b"v=0\r\nresume\r\n"
    peer.reply(change, 488)
    await peer.expect("ACK")
    await told.expect("reoffer_refused", Code.NO_COMMON_CODEC)
    session.reinvite(b"v=0\r\n")
    change = await peer.expect("INVITE")
    peer.reply(change, 481)
    await peer.expect("ACK")
    peer.reply(await peer.expect("BYE"), 481)
    assert (await told.end()).code is Code.FAR_END_REFUSED
    await node.forgotten()
