"""Sessions that we start (RFC 3261 13.2, 9.1, 22)."""

from __future__ import annotations

import asyncio

import pytest

from cti.sip.authentication.digest import Credentials, DigestServer, ha1
from cti.sip.messages.message import Request
from cti.sip.messages.uri import NameAddr, SipUri
from cti.sip.sessions.session import SessionEnd, SessionState
from cti.sip.transports.transport import Hop
from domain.failures import Code
from tests.sip_session.conftest import Node
from tests.sip_session.observer import Recorder
from tests.sip_session.peer import ANSWER, OFFER, RawPeer


async def test_ringing_answered_and_ended_by_each_side(node: Node, peer: RawPeer) -> None:
    for ended_by_peer in (True, False):
        session, told = node.call(peer, headers=[("Alert-Info", "<sip:x>;info=alert")])
        invite = await peer.expect("INVITE")
        assert invite.uri == f"sip:raw@{peer.host}:{peer.port}"
        assert invite.body == b"v=0\r\n"
        assert "Alert-Info" in invite.headers
        peer.reply(invite, 180)
        await told.expect("progress", 180, b"")
        assert session.state is SessionState.EARLY
        peer.reply(invite, 183, body=OFFER)
        await told.expect("progress", 183, OFFER)
        peer.reply(invite, 200, body=ANSWER)
        ack = await peer.expect("ACK")
        assert ack.cseq == (1, "ACK")
        await told.expect("answered", ANSWER)
        if ended_by_peer:
            peer.call_id, peer.remote_to = invite.call_id, str(invite.from_)
            request = peer.request("BYE")
            request.headers.set("From", f"{invite.to};tag={peer.tag}")
            peer.send(request)
            await peer.expect_status(200)
        else:
            session.end(Code.FLOW_ENDED)
            bye = await peer.expect("BYE")
            assert bye.cseq == (2, "BYE")
            peer.reply(bye, 200)
        assert (await told.end()).by_peer is ended_by_peer
        await node.forgotten()


async def test_a_lost_ack_is_sent_again(node: Node, peer: RawPeer) -> None:
    _, told = node.call(peer)
    invite = await peer.expect("INVITE")
    peer.reply(invite, 200, body=ANSWER)
    await peer.expect("ACK")
    peer.reply(invite, 200, body=ANSWER)
    await peer.expect("ACK")
    await told.expect("answered", ANSWER)
    assert told.events.empty()


@pytest.mark.parametrize("before_ringing", [True, False])
async def test_cancelled(node: Node, peer: RawPeer, before_ringing: bool) -> None:
    session, told = node.call(peer)
    invite = await peer.expect("INVITE")
    if before_ringing:
        session.end(Code.CALLER_ABANDONED)
        peer.reply(invite, 180)
    else:
        peer.reply(invite, 180)
        await told.expect("progress", 180, b"")
        session.end(Code.NO_ANSWER)
    cancel = await peer.expect("CANCEL")
    assert cancel.headers.get("Via") == invite.headers.get("Via")
    cause = 16 if before_ringing else 19
    assert cancel.headers.get("Reason") == f"Q.850;cause={cause}"
    peer.reply(cancel, 200)
    peer.reply(invite, 487)
    await peer.expect("ACK")
    code = Code.CALLER_ABANDONED if before_ringing else Code.NO_ANSWER
    assert await told.end() == SessionEnd(False, 487, code)
    await node.forgotten()


async def test_a_200_that_crosses_the_cancel_is_ended(node: Node, peer: RawPeer) -> None:
    session, told = node.call(peer)
    invite = await peer.expect("INVITE")
    peer.reply(invite, 180)
    await told.expect("progress", 180, b"")
    session.end(Code.CALLER_ABANDONED)
    await peer.expect("CANCEL")
    peer.reply(invite, 200, body=ANSWER)
    await peer.expect("ACK")
    peer.reply(await peer.expect("BYE"), 200)
    await told.end()
    await node.forgotten()


async def test_a_cancel_that_nobody_answers(node: Node, peer: RawPeer) -> None:
    session, told = node.call(peer)
    peer.reply(await peer.expect("INVITE"), 180)
    await told.expect("progress", 180, b"")
    session.end(Code.CALLER_ABANDONED)
    await told.end()
    await node.forgotten()


async def test_other_branches_of_a_forked_call_are_ended(node: Node, peer: RawPeer) -> None:
    session, told = node.call(peer)
    invite = await peer.expect("INVITE")
    peer.reply(invite, 180, tag="one")
    await told.expect("progress", 180, b"")
    peer.reply(invite, 180, tag="two", headers=[("X", "2")])
    await told.expect("progress", 180, b"")
    peer.reply(invite, 200, tag="one", body=ANSWER)
    assert (await peer.expect("ACK")).to.tag == "one"
    peer.reply(invite, 200, tag="two", body=ANSWER)
    assert (await peer.expect("ACK")).to.tag == "two"
    bye = await peer.expect("BYE")
    assert bye.to.tag == "two"
    peer.reply(bye, 200)
    peer.reply(invite, 200, tag="two", body=ANSWER)
    assert (await peer.expect("ACK")).to.tag == "two"
    await told.expect("answered", ANSWER)
    session.end(Code.FLOW_ENDED)
    assert (await peer.expect("BYE")).to.tag == "one"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (302, Code.MOVED),
        (401, Code.AUTHENTICATION_FAILED),
        (404, Code.FAR_END_REFUSED),
        (408, Code.SIP_TIMEOUT),
        (480, Code.NO_ANSWER),
        (486, Code.BUSY),
        (488, Code.NO_COMMON_CODEC),
        (503, Code.FAR_END_REFUSED),
        (600, Code.BUSY),
        (603, Code.DECLINED),
    ],
)
async def test_refused(node: Node, peer: RawPeer, status: int, code: Code) -> None:
    _, told = node.call(peer)
    peer.reply(await peer.expect("INVITE"), status)
    await peer.expect("ACK")
    end = await told.end()
    assert (end.by_peer, end.status, end.code) == (True, status, code)
    assert node.agent.session_count == 0


async def test_nobody_there(node: Node, peer: RawPeer) -> None:
    _, told = node.call(peer)
    assert await told.end() == SessionEnd(False, 408, Code.SIP_TIMEOUT)
    assert node.agent.session_count == 0


async def test_no_connection(node: Node) -> None:
    await node.endpoint.listen("tcp", "127.0.0.1", 0)
    told = Recorder()
    node.agent.invite(
        "sip:a@127.0.0.1:9;transport=tcp",
        from_="sip:b@127.0.0.1",
        hop=Hop("tcp", "127.0.0.1", 9),
        sdp=OFFER,
        observer=told,
    )
    assert (await told.end()).code is Code.SIP_TRANSPORT
    assert node.agent.session_count == 0


def challenged(
    peer: RawPeer, server: DigestServer, request: Request, *, stale: bool = False
) -> None:
    now = asyncio.get_running_loop().time()
    challenges = server.challenges(now, stale=stale)
    peer.reply(request, 407, headers=[("Proxy-Authenticate", each) for each in challenges])


async def test_a_challenge_is_met(node: Node, peer: RawPeer) -> None:
    server = DigestServer("carrier")
    stored = {"MD5": ha1("MD5", "95598", "carrier", "right")}
    _, told = node.call(peer, credentials=Credentials("95598", "right"))
    first = await peer.expect("INVITE")
    challenged(peer, server, first)
    await peer.expect("ACK")
    second = await peer.expect("INVITE")
    assert second.call_id == first.call_id
    assert second.from_ == first.from_
    assert second.cseq == (2, "INVITE")
    assert second.top_via.branch != first.top_via.branch
    result = server.judge(
        second.headers.get_all("Proxy-Authorization"),
        method="INVITE",
        user="95598",
        stored=stored,
        now=asyncio.get_running_loop().time(),
    )
    assert result == "accepted"
    challenged(peer, server, second, stale=True)
    await peer.expect("ACK")
    third = await peer.expect("INVITE")
    peer.reply(third, 200, body=ANSWER)
    ack = await peer.expect("ACK")
    assert ack.headers.get("Proxy-Authorization") == third.headers.get("Proxy-Authorization")
    await told.expect("answered", ANSWER)


async def test_wrong_credentials_are_not_tried_again(node: Node, peer: RawPeer) -> None:
    server = DigestServer("carrier")
    _, told = node.call(peer, credentials=Credentials("95598", "wrong"))
    challenged(peer, server, await peer.expect("INVITE"))
    await peer.expect("ACK")
    challenged(peer, server, await peer.expect("INVITE"))
    await peer.expect("ACK")
    assert (await told.end()).code is Code.AUTHENTICATION_FAILED
    assert node.agent.session_count == 0


async def test_a_challenged_change(node: Node, peer: RawPeer) -> None:
    server = DigestServer("carrier")
    session, told = node.call(peer, credentials=Credentials("95598", "right"))
    peer.reply(await peer.expect("INVITE"), 200, body=ANSWER)
    await peer.expect("ACK")
    await told.expect("answered", ANSWER)
    session.reinvite(OFFER)
    challenged(peer, server, await peer.expect("INVITE"))
    await peer.expect("ACK")
    again = await peer.expect("INVITE")
    assert again.cseq == (3, "INVITE")
    assert "Proxy-Authorization" in again.headers
    assert again.body == OFFER
    peer.reply(again, 200, body=ANSWER)
    assert (await peer.expect("ACK")).cseq == (3, "ACK")
    await told.expect("answered", ANSWER)


async def test_talk_is_asked_for_while_ringing(node: Node, peer: RawPeer) -> None:
    session, told = node.call(peer)
    results: asyncio.Queue[bool] = asyncio.Queue()
    session.notify_talk(results.put_nowait)
    assert results.get_nowait() is False  # there is no dialog yet
    invite = await peer.expect("INVITE")
    peer.reply(invite, 180)
    await told.expect("progress", 180, b"")
    for status, taken in [(200, True), (489, False)]:
        session.notify_talk(results.put_nowait)
        notify = await peer.expect("NOTIFY")
        assert notify.headers.get("Event") == "talk"
        assert notify.to.tag == peer.tag
        peer.reply(notify, status)
        assert await asyncio.wait_for(results.get(), 5) is taken
    peer.reply(invite, 200, body=ANSWER)
    assert (await peer.expect("ACK")).cseq == (1, "ACK")
    await told.expect("answered", ANSWER)
    session.end(Code.FLOW_ENDED)
    assert (await peer.expect("BYE")).cseq == (4, "BYE")


async def test_routes_of_a_proxy(node: Node, peer: RawPeer) -> None:
    proxy = f"sip:{peer.host}:{peer.port};lr"
    told = Recorder()
    session = node.agent.invite(
        "sip:1001@example.invalid",
        from_=NameAddr(SipUri(user="95598", host="127.0.0.1"), "国网"),
        to="sip:1001@example.invalid",
        hop=Hop("udp", peer.host, peer.port),
        sdp=OFFER,
        observer=told,
        route=[f"<{proxy}>"],
    )
    invite = await peer.expect("INVITE")
    assert invite.headers.get_all("Route") == [f"<{proxy}>"]
    assert invite.from_.display == "国网"
    routes = [("Record-Route", f"<sip:10.0.0.2;lr>, <{proxy}>"), ("Contact", "<sip:a@10.0.0.1>")]
    peer.reply(invite, 200, body=ANSWER, headers=routes)
    ack = await peer.expect("ACK")
    assert ack.uri == "sip:a@10.0.0.1"
    assert ack.headers.get_all("Route") == [f"<{proxy}>", "<sip:10.0.0.2;lr>"]
    session.end(Code.FLOW_ENDED)
    await peer.expect("BYE")


@pytest.mark.parametrize(
    "headers",
    [
        [("Contact", "<sip:broken"), ("Record-Route", '"<sip:x>, y')],
        [("Contact", "<tel:95598>")],
        [("Contact", "*")],
        [("Contact", "<sip:a b@127.0.0.1>")],
    ],
)
async def test_a_broken_200_is_still_acknowledged(
    node: Node, peer: RawPeer, headers: list[tuple[str, str]]
) -> None:
    session, told = node.call(peer)
    peer.reply(await peer.expect("INVITE"), 200, body=ANSWER, headers=headers)
    await peer.expect("ACK")
    await told.expect("answered", ANSWER)
    session.end(Code.FLOW_ENDED)
    peer.reply(await peer.expect("BYE"), 200)
    await node.forgotten()


async def test_a_repeated_200_does_not_hide_the_change_under_way(node: Node, peer: RawPeer) -> None:
    session, told = node.call(peer)
    invite = await peer.expect("INVITE")
    peer.reply(invite, 200, body=ANSWER)
    await peer.expect("ACK")
    await told.expect("answered", ANSWER)
    for body in (b"v=0\r\none\r\n", b"v=0\r\ntwo\r\n"):
        session.reinvite(body)
        change = await peer.expect("INVITE")
        peer.reply(invite, 200, body=ANSWER)
        assert (await peer.expect("ACK")).cseq[0] == invite.cseq[0]
        peer.call_id, peer.remote_to = invite.call_id, str(invite.from_)
        glaring = peer.request("INVITE", body=OFFER)
        glaring.headers.set("From", f"{invite.to};tag={peer.tag}")
        peer.send(glaring)
        await peer.expect_status(491)
        peer.reply(change, 200, body=body)
        assert (await peer.expect("ACK")).cseq[0] == change.cseq[0]
        await told.expect("answered", body)
        invite = change
        invite.headers.set("To", str(invite.to).partition(";tag")[0])
