"""Forks, redirections, silence and reasons: how a call of ours turns out (RFC 3261 13.2)."""

from __future__ import annotations

import asyncio

import pytest

from cti.sip.authentication.digest import Credentials
from cti.sip.sessions.session import SessionEnd, SessionState
from domain.failures import CATALOGUE, Code, PlatformError
from tests.sip_session.peer import ANSWER, OFFER
from tests.sip_session.virtual import World, passed, play, virtual

CHALLENGE = (
    "Proxy-Authenticate",
    'Digest realm="carrier", nonce="abc", algorithm=MD5, qop="auth"',
)

# Forks


@virtual
async def test_early_media_is_that_of_the_newest_fork(world: World) -> None:
    invite, session, told = await world.outgoing()
    for tag, body in [("one", ANSWER), ("two", OFFER), ("one", OFFER)]:
        world.peer.reply(invite, 183, tag=tag, body=body)
        await told.expect("progress", 183, body)
        assert session.remote_tag == tag


@virtual
async def test_each_fork_keeps_its_own_route(world: World) -> None:
    invite, session, told = await world.outgoing()
    here = f"{world.peer.host}:{world.peer.port}"
    for tag in ("one", "two"):
        headers = [
            ("Record-Route", f"<sip:{here};lr;fork={tag}>"),
            ("Contact", f"<sip:{tag}@127.0.0.1>"),
            ("Require", "100rel"),
            ("RSeq", "1"),
        ]
        world.peer.reply(invite, 180, tag=tag, headers=headers)
        request = await world.peer.expect("PRACK")
        assert request.uri == f"sip:{tag}@127.0.0.1"
        assert request.headers.get_all("Route") == [f"<sip:{here};lr;fork={tag}>"]
        await told.expect("progress", 180, b"")
    # The first fork still has its dialog.
    world.peer.tag = "one"
    world.peer.in_dialog(invite)
    world.peer.ask("INFO")
    await world.peer.expect_status(200)
    assert session.remote_tag == "two"


@virtual
async def test_the_first_200_wins(world: World) -> None:
    invite, session, told = await world.outgoing()
    for tag in ("one", "two", "three"):
        world.peer.reply(invite, 180, tag=tag)
        await told.expect("progress", 180, b"")
    world.peer.reply(invite, 200, tag="two", body=ANSWER)
    assert (await world.peer.expect("ACK")).to.tag == "two"
    await told.expect("answered", ANSWER)
    world.peer.tag = "one"
    world.peer.in_dialog(invite)
    world.peer.ask("INFO")
    await world.peer.expect_status(481)
    world.peer.reply(invite, 200, tag="three", body=ANSWER)
    assert (await world.peer.expect("ACK")).to.tag == "three"
    bye = await world.peer.expect("BYE")
    assert bye.to.tag == "three"
    world.peer.reply(bye, 200)
    world.peer.reply(invite, 200, tag="three", body=ANSWER)
    assert (await world.peer.expect("ACK")).to.tag == "three"
    await passed(1)
    assert world.peer.inbox.empty()
    session.end(Code.FLOW_ENDED)
    assert (await world.peer.expect("BYE")).to.tag == "two"
    await world.over()


@virtual
async def test_a_bye_in_the_early_dialog_withdraws_our_invite(world: World) -> None:
    invite, _, told = await world.outgoing()
    world.peer.reply(invite, 180)
    await told.expect("progress", 180, b"")
    world.peer.ask("BYE")
    assert {type(await world.peer.next()).__name__ for _ in range(2)} == {"Request", "Response"}
    assert (await told.end()).by_peer
    world.peer.reply(invite, 487)
    await world.over()


# Redirections


@virtual
async def test_a_redirection_that_is_not_followed(world: World) -> None:
    invite, _, told = await world.outgoing()
    contacts = (
        "<sip:later@127.0.0.1>;q=0.2, <mailto:a@b>, <sip:first@127.0.0.1?Subject=x>;q=0.9, "
        "<tel:+8610>;q=0.5, <sip:broken, <http://x>"
    )
    world.peer.reply(invite, 302, headers=[("Contact", contacts.replace(", <sip:broken", ""))])
    await world.peer.expect("ACK")
    end = await told.end()
    assert (end.status, end.code) == (302, Code.MOVED)
    assert end.targets == ("sip:first@127.0.0.1", "tel:+8610", "sip:later@127.0.0.1")
    await world.over()


@virtual
async def test_a_redirection_is_followed(world: World) -> None:
    here = f"{world.peer.host}:{world.peer.port}"
    invite, session, told = await world.outgoing(follow_redirects=True, route=[f"<sip:{here};lr>"])
    world.peer.reply(invite, 302, headers=[("Contact", f"<sip:a@{here}>;q=0.5, <sip:b@{here}>")])
    await world.peer.expect("ACK")
    again = await world.peer.expect("INVITE")
    assert again.uri == f"sip:b@{here}"
    assert (again.call_id, again.from_.tag) == (invite.call_id, invite.from_.tag)
    assert again.cseq == (2, "INVITE")
    assert again.to.tag is None
    assert again.body == invite.body
    assert "Route" not in again.headers
    # A loop: only what is new is tried.
    world.peer.reply(again, 301, headers=[("Contact", f"<sip:b@{here}>, <{invite.uri}>")])
    await world.peer.expect("ACK")
    again = await world.peer.expect("INVITE")
    assert again.uri == f"sip:a@{here}"
    world.peer.reply(again, 200, body=ANSWER)
    await world.peer.expect("ACK")
    await told.expect("answered", ANSWER)
    session.end(Code.FLOW_ENDED)
    await world.over()


@virtual
async def test_redirections_without_end(world: World) -> None:
    here = f"{world.peer.host}:{world.peer.port}"
    invite, _, told = await world.outgoing(follow_redirects=True)
    for number in range(5):
        world.peer.reply(invite, 302, headers=[("Contact", f"<sip:{number}@{here}>")])
        await world.peer.expect("ACK")
        invite = await world.peer.expect("INVITE")
    world.peer.reply(invite, 302, headers=[("Contact", f"<sip:more@{here}>")])
    await world.peer.expect("ACK")
    assert (await told.end()).code is Code.MOVED
    await world.over()


@pytest.mark.parametrize("contact", ["", "<mailto:a@b>", "*", '"<sip:x>, y', "<sip:a b@c>"])
def test_redirections_to_nowhere(contact: str) -> None:
    async def scenario() -> None:
        world = World()
        invite, _, told = await world.outgoing(follow_redirects=True)
        world.peer.reply(invite, 302, headers=[("Contact", contact)])
        await world.peer.expect("ACK")
        end = await told.end()
        assert (end.code, end.targets) == (Code.MOVED, ())
        await world.over()

    play(scenario)


# Silence


@pytest.mark.parametrize("late_status", [0, 180, 200, 486])
def test_a_silent_peer_is_given_up(late_status: int) -> None:
    async def scenario() -> None:
        world = World()
        invite, session, told = await world.outgoing(answer_within_s=2.0)
        assert await told.end() == SessionEnd(False, 408, Code.SIP_TIMEOUT)
        if late_status:
            world.peer.reply(invite, late_status, body=ANSWER if late_status == 200 else b"")
            follows = {180: "CANCEL", 200: "ACK", 486: "ACK"}[late_status]
            await world.peer.expect(follows)
            if late_status == 200:
                await world.peer.expect("BYE")
            if late_status == 180:
                world.peer.reply(invite, 487)
        await world.over()
        assert session.state is SessionState.TERMINATED

    play(scenario)


@pytest.mark.parametrize("status", [100, 180, 183])
def test_any_response_ends_the_silence(status: int) -> None:
    async def scenario() -> None:
        world = World()
        invite, session, told = await world.outgoing(answer_within_s=2.0)
        world.peer.reply(invite, status)
        await passed(20)
        assert not told.ends
        session.end(Code.NO_ANSWER)
        await world.peer.expect("CANCEL")
        world.peer.reply(invite, 487)
        await world.over()

    play(scenario)


@virtual
async def test_an_invite_expires(world: World) -> None:
    _, session, told = await world.incoming(headers=[("Expires", "20")])
    session.ring()
    await world.peer.expect_status(180)
    await world.peer.expect_status(487)
    assert (await told.end()).code is Code.NO_ANSWER
    await world.over()


@virtual
async def test_an_answered_invite_does_not_expire(world: World) -> None:
    session, told = await world.answered(headers=[("Expires", "20")])
    await passed(60)
    assert told.events.empty()
    session.end(Code.FLOW_ENDED)
    await world.over()


# Reasons


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ('Q.850;cause=17;text="User busy, really"', 17),
        ("SIP;cause=486", CATALOGUE[Code.BUSY].q850_cause),
        ('SIP;cause=200;text="Call completed elsewhere", Q.850;cause=26', 26),
        ("SIP ;cause=200", 26),
        ("q.850; cause=34", 34),
        ("Q.850;cause=300", 0),
        ("Q.850;cause=x, FOO;cause=1", 0),
        ('Q.850;cause=16;text="open', 0),
        ("", 0),
    ],
)
def test_causes(reason: str, cause: int) -> None:
    assert SessionEnd(True, 200, Code.FLOW_ENDED, reason).q850_cause == cause


@virtual
async def test_a_refusal_is_told_in_full(world: World) -> None:
    invite, _, told = await world.outgoing()
    headers = [("Retry-After", "18000 (busy);duration=60"), ("Reason", "Q.850;cause=42")]
    world.peer.reply(invite, 503, headers=headers)
    await world.peer.expect("ACK")
    end = await told.end()
    assert (end.status, end.retry_after_s, end.q850_cause) == (503, 18000, 42)


@pytest.mark.parametrize(
    ("cause", "code"),
    [(17, Code.BUSY), (19, Code.NO_ANSWER), (21, Code.DECLINED), (1, Code.FAR_END_REFUSED)],
)
def test_a_cause_says_more_than_a_500(cause: int, code: Code) -> None:
    async def scenario() -> None:
        world = World()
        invite, _, told = await world.outgoing()
        world.peer.reply(invite, 500, headers=[("Reason", f"Q.850;cause={cause}")])
        assert (await told.end()).code is code

    play(scenario)


@virtual
async def test_a_488_says_what_about_the_offer(world: World) -> None:
    for body, warning in [(b"v=0\r\nm=audio 1 RTP/AVP 18\r\n", "305"), (OFFER, "304")]:
        world.peer.remote_to = ""
        _, session, _ = await world.incoming(body=body)
        session.reject(Code.NO_COMMON_CODEC)
        refused = await world.peer.expect_status(488)
        assert (refused.headers.get("Warning") or "").startswith(warning)


@pytest.mark.parametrize(("stated", "left"), [("70", 69), ("1", 0), ("255", 70)])
def test_hops_that_are_left_for_the_next_leg(stated: str, left: int) -> None:
    async def scenario() -> None:
        world = World()
        _, session, _ = await world.incoming(headers=[("Max-Forwards", stated)])
        assert session.max_forwards == left
        node_call, _ = world.node.call(world.peer, max_forwards=session.max_forwards)
        assert node_call.request.headers.rows("Max-Forwards") == [str(left)]

    play(scenario)


# Challenges and requests of other kinds


@virtual
async def test_challenges_inside_a_call_are_met(world: World) -> None:
    invite, session, told = await world.outgoing(credentials=Credentials("u", "p"))
    world.peer.reply(invite, 200, body=ANSWER)
    await world.peer.expect("ACK")
    await told.expect("answered", ANSWER)
    session.end(Code.FLOW_ENDED)
    bye = await world.peer.expect("BYE")
    world.peer.reply(bye, 407, headers=[CHALLENGE])
    again = await world.peer.expect("BYE")
    assert again.cseq == (bye.cseq[0] + 1, "BYE")
    assert "Proxy-Authorization" in again.headers
    world.peer.reply(again, 200)
    await world.over()


@virtual
async def test_a_request_outside_of_calls(world: World) -> None:
    task = asyncio.ensure_future(
        world.node.agent.request(
            "MESSAGE",
            f"sip:raw@{world.peer.host}:{world.peer.port}",
            from_="sip:95598@127.0.0.1",
            hop=world.node.call(world.peer)[0].hop,
            headers=[("X-Kind", "test")],
            body=b"hello",
            content_type="text/plain",
            route=[f"<sip:{world.peer.host}:{world.peer.port};lr>"],
            credentials=Credentials("u", "p"),
        )
    )
    await world.peer.expect("INVITE")
    message = await world.peer.expect("MESSAGE")
    assert (message.body, message.headers.get("Content-Type")) == (b"hello", "text/plain")
    assert message.headers.get("X-Kind") == "test"
    assert "Route" in message.headers
    world.peer.reply(message, 407, headers=[CHALLENGE])
    again = await world.peer.expect("MESSAGE")
    assert again.cseq[0] == message.cseq[0] + 1
    world.peer.reply(again, 404)
    assert (await task).status == 404


@virtual
async def test_a_request_that_nobody_answers(world: World) -> None:
    session, _ = world.node.call(world.peer)
    with pytest.raises(PlatformError) as caught:
        await world.node.agent.request(
            "OPTIONS", "sip:x@127.0.0.1", from_="sip:y@127.0.0.1", hop=session.hop
        )
    assert caught.value.code is Code.SIP_TIMEOUT


@virtual
async def test_options_while_no_calls_are_taken(world: World) -> None:
    world.node.agent.is_available = lambda: False
    world.peer.ask("OPTIONS")
    assert int((await world.peer.expect_status(503)).headers.get("Retry-After") or 0) > 0
