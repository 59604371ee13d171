"""Session timers, both ways (RFC 4028)."""

from __future__ import annotations

import pytest

from cti.sip.messages.message import Request, Response
from cti.sip.sessions.session import InviteSession
from cti.sip.sessions.session_policy import SessionPolicy
from domain.failures import Code
from tests.sip_session.observer import Recorder
from tests.sip_session.peer import ANSWER, OFFER
from tests.sip_session.virtual import World, passed, play, virtual

TIMER = ("Supported", "timer")
UPDATE = ("Allow", "INVITE, ACK, BYE, UPDATE")


def now_s(world: World) -> float:
    return world.node.endpoint._now_s()


async def called(
    world: World, *headers: tuple[str, str]
) -> tuple[InviteSession, Recorder, Response]:
    """Let the peer call with these headers, and be answered."""
    _, session, told = await world.incoming(headers=headers)
    session.accept(ANSWER)
    answered = await world.peer.expect_status(200)
    world.peer.ack(answered)
    await told.expect("acknowledged", b"")
    return session, told, answered


async def calling(
    world: World, *headers: tuple[str, str]
) -> tuple[InviteSession, Recorder, Request]:
    """Call the peer; its 200 has these headers."""
    invite, session, told = await world.outgoing()
    world.peer.reply(invite, 200, headers=headers, body=ANSWER)
    await world.peer.expect("ACK")
    await told.expect("answered", ANSWER)
    return session, told, invite


@pytest.mark.parametrize(
    ("headers", "stated", "required"),
    [
        ([], None, False),
        ([TIMER], "1800;refresher=uac", True),
        ([("Session-Expires", "600")], "600;refresher=uas", False),
        ([TIMER, ("Session-Expires", "600")], "600;refresher=uac", True),
        ([TIMER, ("Session-Expires", "600;refresher=uas")], "600;refresher=uas", False),
        ([TIMER, ("Session-Expires", "600 ; Refresher=UAC")], "600;refresher=uac", True),
        ([TIMER, ("Session-Expires", "600;refresher=both")], "600;refresher=uac", True),
        ([TIMER, ("Session-Expires", "7200")], "1800;refresher=uac", True),
        ([TIMER, ("Session-Expires", "7200"), ("Min-SE", "3600")], "3600;refresher=uac", True),
        ([("Session-Expires", "30")], "90;refresher=uas", False),
        ([TIMER, ("Session-Expires", "soon")], "1800;refresher=uac", True),
    ],
)
def test_what_a_200_says(
    headers: list[tuple[str, str]], stated: str | None, required: bool
) -> None:
    async def scenario() -> None:
        world = World()
        session, _, answered = await called(world, *headers)
        assert answered.headers.get("Session-Expires") == stated
        assert (answered.headers.get("Require") == "timer") is required
        session.end(Code.FLOW_ENDED)
        await world.over()

    play(scenario)


def test_switched_off() -> None:
    async def scenario() -> None:
        world = World(SessionPolicy(session_expires_s=0))
        session, _, answered = await called(world, TIMER, ("Session-Expires", "600"))
        assert "Session-Expires" not in answered.headers
        assert "timer" not in answered.headers.get_all("Supported")
        session.end(Code.FLOW_ENDED)
        await world.peer.expect("BYE")
        await world.over()
        session, _, invite = await calling(world, ("Session-Expires", "90;refresher=uas"))
        assert "Session-Expires" not in invite.headers
        assert "Min-SE" not in invite.headers
        await passed(10_000)
        session.end(Code.FLOW_ENDED)

    play(scenario)


@virtual
async def test_too_short_a_session_is_refused(world: World) -> None:
    world.peer.ask("INVITE", body=OFFER, headers=[TIMER, ("Session-Expires", "89")])
    refused = await world.peer.expect_status(422)
    assert refused.headers.get("Min-SE") == "90"
    await world.over()
    session, told, _ = await called(world, TIMER, ("Session-Expires", "90"))
    for method in ("INVITE", "UPDATE"):
        world.peer.ask(method, body=OFFER, headers=[TIMER, ("Session-Expires", "30")])
        await world.peer.expect_status(422)
    assert told.events.empty()
    session.end(Code.FLOW_ENDED)
    await world.over()


@virtual
async def test_a_caller_that_refreshes_keeps_the_call(world: World) -> None:
    session, told, _ = await called(world, TIMER, ("Session-Expires", "90"))
    for method in ("UPDATE", "INVITE", "UPDATE"):
        await passed(50)
        headers = [TIMER, ("Session-Expires", "90;refresher=uac")]
        world.peer.ask(method, headers=headers, body=OFFER if method == "INVITE" else b"")
        response = await world.peer.expect_status(200)
        assert response.headers.get("Session-Expires") == "90;refresher=uac"
        if method == "INVITE":
            await told.expect("reoffer", OFFER)
            world.peer.ack(response)
            await told.expect("acknowledged", b"")
    begun_s = now_s(world)
    bye = await world.peer.expect("BYE")
    assert now_s(world) - begun_s == pytest.approx(60, abs=0.5)
    assert bye.headers.get("Reason") == "Q.850;cause=102"
    assert (await told.end()).code is Code.SIP_TIMEOUT
    assert session.is_over
    await world.over()


@virtual
async def test_a_refresh_without_the_extension_ends_the_timer(world: World) -> None:
    session, told, _ = await called(world, TIMER, ("Session-Expires", "90"))
    world.peer.ask("UPDATE")
    assert "Session-Expires" not in (await world.peer.expect_status(200)).headers
    await passed(1000)
    assert told.events.empty()
    session.end(Code.FLOW_ENDED)
    await world.over()


@virtual
async def test_we_refresh_by_update(world: World) -> None:
    begun_s = now_s(world)
    session, told, _ = await called(world, TIMER, UPDATE, ("Session-Expires", "600;refresher=uas"))
    for _ in range(3):
        update = await world.peer.expect("UPDATE")
        assert now_s(world) - begun_s == pytest.approx(300, abs=0.5)
        begun_s = now_s(world)
        assert update.body == b""
        assert update.headers.get("Session-Expires") == "600;refresher=uac"
        assert "Min-SE" not in update.headers  # 90 s is what it means
        headers = [("Session-Expires", "600;refresher=uac"), ("Require", "timer")]
        world.peer.reply(update, 200, headers=headers)
    assert told.events.empty()
    session.end(Code.FLOW_ENDED)
    await world.over()


@virtual
async def test_we_refresh_by_reinvite_where_update_is_unknown(world: World) -> None:
    session, told, invite = await calling(world, ("Session-Expires", "600;refresher=uac"))
    assert invite.headers.get("Session-Expires") == "1800"
    for body in (ANSWER, ANSWER, b"v=0\r\nmoved\r\n"):
        again = await world.peer.expect("INVITE")
        assert again.body == invite.body
        world.peer.reply(again, 200, headers=[("Session-Expires", "600")], body=body)
        await world.peer.expect("ACK")
    # Only what differs is told.
    await told.expect("answered", b"v=0\r\nmoved\r\n")
    session.end(Code.FLOW_ENDED)
    await world.over()


@virtual
async def test_the_far_end_refuses_update_after_all(world: World) -> None:
    session, told, _ = await calling(world, UPDATE, ("Session-Expires", "600;refresher=uac"))
    world.peer.reply(await world.peer.expect("UPDATE"), 501)
    again = await world.peer.expect("INVITE")
    world.peer.reply(again, 200, headers=[("Session-Expires", "600")], body=ANSWER)
    await world.peer.expect("ACK")
    await world.peer.expect("INVITE")
    session.end(Code.FLOW_ENDED)
    assert (await told.end()).code is Code.FLOW_ENDED


@pytest.mark.parametrize("status", [0, 403, 408, 481, 500])
def test_a_refresh_that_fails(status: int) -> None:
    async def scenario() -> None:
        world = World()
        begun_s = now_s(world)
        _, told, _ = await calling(world, UPDATE, ("Session-Expires", "600;refresher=uac"))
        update = await world.peer.expect("UPDATE")
        if status:
            world.peer.reply(update, status)
        assert not (await told.end()).by_peer
        # At once where the dialog is gone, else shortly before the session expires.
        expected_s = {0: 332, 408: 300, 481: 300}.get(status, 568)
        assert now_s(world) - begun_s == pytest.approx(expected_s, abs=1)
        await world.peer.expect("BYE")
        await world.over()

    play(scenario)


@virtual
async def test_a_refresh_meets_glare(world: World) -> None:
    session, told, _ = await calling(world, UPDATE, ("Session-Expires", "600;refresher=uac"))
    for _ in range(2):
        world.peer.reply(await world.peer.expect("UPDATE"), 491)
    headers = [("Session-Expires", "600;refresher=uac")]
    world.peer.reply(await world.peer.expect("UPDATE"), 200, headers=headers)
    await passed(290)
    assert told.events.empty()
    session.end(Code.FLOW_ENDED)


@virtual
async def test_the_far_end_wants_longer_sessions(world: World) -> None:
    invite, session, told = await world.outgoing()
    world.peer.reply(invite, 422, headers=[("Min-SE", "3600")])
    await world.peer.expect("ACK")
    again = await world.peer.expect("INVITE")
    assert again.call_id == invite.call_id
    assert again.cseq == (2, "INVITE")
    assert again.body == invite.body
    assert again.headers.rows("Session-Expires") == ["3600"]
    assert again.headers.rows("Min-SE") == ["3600"]
    headers = [UPDATE, ("Session-Expires", "3600;refresher=uac")]
    world.peer.reply(again, 200, headers=headers, body=ANSWER)
    await world.peer.expect("ACK")
    await told.expect("answered", ANSWER)
    update = await world.peer.expect("UPDATE")
    world.peer.reply(update, 422, headers=[("Min-SE", "7200")])
    update = await world.peer.expect("UPDATE")
    assert update.headers.get("Session-Expires") == "7200;refresher=uac"
    world.peer.reply(update, 200, headers=[("Session-Expires", "7200;refresher=uas")])
    begun_s = now_s(world)
    await world.peer.expect("BYE")
    assert now_s(world) - begun_s == pytest.approx(7168, abs=1)
    assert session.is_over
    await world.over()


@pytest.mark.parametrize("min_se", [[], [("Min-SE", "90")], [("Min-SE", "x")]])
def test_a_422_that_gives_no_reason(min_se: list[tuple[str, str]]) -> None:
    async def scenario() -> None:
        world = World()
        invite, _, told = await world.outgoing()
        world.peer.reply(invite, 422, headers=min_se)
        await world.peer.expect("ACK")
        assert (await told.end()).status == 422
        await world.over()

    play(scenario)
