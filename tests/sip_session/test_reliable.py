"""Reliable provisional responses, both ways (RFC 3262)."""

from __future__ import annotations

import pytest

from cti.sip.messages.message import Request, Response
from cti.sip.sessions.session import InviteSession, SessionState
from cti.sip.sessions.session_policy import Reliability, SessionPolicy
from domain.failures import Code
from tests.sip_session.peer import ANSWER, OFFER
from tests.sip_session.virtual import VirtualPeer, World, passed, play, virtual

REQUIRED = [("Require", "100rel")]
SUPPORTED = [("Supported", "timer-not, 100REL")]


def prack(peer: VirtualPeer, response: Response, *, shift: int = 0, body: bytes = b"") -> Request:
    peer.remote_to = str(response.to)
    number, method = response.cseq
    rseq = int(response.headers.get("RSeq") or 0) + shift
    return peer.ask("PRACK", headers=[("RAck", f"{rseq} {number} {method}")], body=body)


def is_reliable(response: Response) -> bool:
    assert ("RSeq" in response.headers) == (response.headers.get("Require") == "100rel")
    return "RSeq" in response.headers


@pytest.mark.parametrize(
    ("headers", "sdp", "policy", "expected"),
    [
        ([], b"", Reliability.ALWAYS, False),
        ([], ANSWER, Reliability.ALWAYS, False),
        (SUPPORTED, b"", Reliability.ALWAYS, True),
        (SUPPORTED, b"", Reliability.EARLY_MEDIA, False),
        (SUPPORTED, ANSWER, Reliability.EARLY_MEDIA, True),
        (SUPPORTED, ANSWER, Reliability.REQUIRED, False),
        (SUPPORTED, ANSWER, Reliability.OFF, False),
        (REQUIRED, b"", Reliability.EARLY_MEDIA, True),
        (REQUIRED, b"", Reliability.REQUIRED, True),
    ],
)
def test_when_a_response_is_sent_reliably(
    headers: list[tuple[str, str]], sdp: bytes, policy: Reliability, expected: bool
) -> None:
    async def scenario() -> None:
        world = World(SessionPolicy(reliability=policy))
        invite, session, _ = await world.incoming(headers=headers)
        session.ring(sdp)
        response = await world.peer.expect_status(183 if sdp else 180)
        assert is_reliable(response) is expected
        assert response.body == sdp
        world.peer.follow(invite, "CANCEL")
        await world.over()

    play(scenario)


def test_who_requires_what_is_switched_off_is_refused() -> None:
    async def scenario() -> None:
        world = World(SessionPolicy(reliability=Reliability.OFF))
        world.peer.ask("INVITE", body=OFFER, headers=REQUIRED)
        refused = await world.peer.expect_status(420)
        assert refused.headers.get_all("Unsupported") == ["100rel"]
        await world.over()

    play(scenario)


@virtual
async def test_repeated_at_growing_intervals_until_its_prack(world: World) -> None:
    _, session, told = await world.incoming(headers=REQUIRED)
    session.ring(ANSWER)
    progress = await world.peer.expect_status(183)
    await passed(7.7)  # 0.5 + 1 + 2 + 4
    assert world.peer.times_seen(b"SIP/2.0 183") == 5
    prack(world.peer, progress)
    await world.peer.expect_status(200)
    await passed(30)
    assert world.peer.times_seen(b"SIP/2.0 183") == 5
    session.accept(ANSWER)
    answered = await world.peer.expect_status(200)
    assert answered.body == b""  # it was answered in the 183
    world.peer.ack(answered)
    await told.expect("acknowledged", b"")
    session.end(Code.FLOW_ENDED)
    await world.over()


@virtual
async def test_without_a_prack_the_call_is_refused(world: World) -> None:
    _, session, told = await world.incoming(headers=REQUIRED)
    session.ring(ANSWER)
    await world.peer.expect_status(183)
    await world.peer.expect_status(504)
    assert (await told.end()).code is Code.SIP_TIMEOUT
    assert world.peer.times_seen(b"SIP/2.0 183") == 7
    await world.over()


@virtual
async def test_the_200_waits_for_the_prack_of_a_description(world: World) -> None:
    _, session, _ = await world.incoming(headers=SUPPORTED)
    session.ring(ANSWER)
    progress = await world.peer.expect_status(183)
    session.accept(ANSWER)
    session.ring()
    assert session.state is SessionState.EARLY
    await passed(3)
    assert world.peer.inbox.empty()
    prack(world.peer, progress)
    statuses = [await world.peer.expect_status(200) for _ in range(2)]
    assert [each.cseq[1] for each in statuses] == ["PRACK", "INVITE"]
    await world.over()


@virtual
async def test_the_200_does_not_wait_for_the_prack_of_a_ring(world: World) -> None:
    _, session, told = await world.incoming(headers=REQUIRED)
    session.ring()
    ringing = await world.peer.expect_status(180)
    session.accept(ANSWER)
    answered = await world.peer.expect_status(200)
    assert answered.body == ANSWER
    prack(world.peer, ringing)  # it still finds its response
    assert (await world.peer.expect_status(200)).cseq[1] == "PRACK"
    prack(world.peer, ringing)
    await world.peer.expect_status(481)
    world.peer.ack(answered)
    await told.expect("acknowledged", b"")
    assert world.peer.times_seen(b"SIP/2.0 180") == 1
    world.peer.ask("BYE")
    await world.over()


@virtual
async def test_one_after_the_other(world: World) -> None:
    _, session, _ = await world.incoming(headers=REQUIRED)
    session.ring()
    session.ring(ANSWER)
    session.ring()
    first = await world.peer.expect_status(180)
    numbers = [int(first.headers.get("RSeq") or 0)]
    await passed(0.2)
    assert world.peer.inbox.empty()
    prack(world.peer, first)
    await world.peer.expect_status(200)
    for status in (183, 180):
        response = await world.peer.expect_status(status)
        numbers.append(int(response.headers.get("RSeq") or 0))
        prack(world.peer, response)
        await world.peer.expect_status(200)
    assert numbers == [numbers[0], numbers[0] + 1, numbers[0] + 2]
    assert 1 <= numbers[0] < 2**31
    session.end(Code.BUSY)
    await world.peer.expect_status(486)
    await world.over()


@virtual
async def test_pracks_of_nothing(world: World) -> None:
    _, session, _ = await world.incoming(headers=REQUIRED)
    session.ring()
    ringing = await world.peer.expect_status(180)
    prack(world.peer, ringing, shift=1)
    await world.peer.expect_status(481)
    world.peer.ask("PRACK")
    await world.peer.expect_status(481)
    for rack in ("", "x y z", "1 2", "²³ 1 INVITE", f"{ringing.headers.get('RSeq')} 9 INVITE"):
        world.peer.ask("PRACK", headers=[("RAck", rack)])
        await world.peer.expect_status(481)
    prack(world.peer, ringing)
    await world.peer.expect_status(200)
    session.end(Code.BUSY)
    await world.peer.expect_status(486)
    await world.over()


@virtual
async def test_a_change_of_what_was_agreed_follows_the_200(world: World) -> None:
    _, session, told = await world.incoming(headers=REQUIRED)
    session.ring(ANSWER)
    prack(world.peer, await world.peer.expect_status(183))
    await world.peer.expect_status(200)
    session.accept(b"v=0\r\nnot asked for\r\n")
    session.reinvite(b"v=0\r\nanother\r\n")
    answered = await world.peer.expect_status(200)
    assert answered.body == b""
    world.peer.ack(answered)
    await told.expect("acknowledged", b"")
    assert (await world.peer.expect("INVITE")).body == b"v=0\r\nanother\r\n"


@virtual
async def test_an_offer_in_the_prack(world: World) -> None:
    _, session, told = await world.incoming(headers=REQUIRED)
    session.ring(ANSWER)
    prack(world.peer, await world.peer.expect_status(183), body=OFFER)
    assert (await world.peer.expect_status(200)).body == told.answer
    await told.expect("reoffer", OFFER)
    told.answer = Code.NO_COMMON_CODEC
    session.ring(ANSWER)
    progress = await world.peer.expect_status(183)
    assert progress.body == b""
    prack(world.peer, progress, body=OFFER)
    await world.peer.expect_status(488)
    session.accept(ANSWER)
    await world.peer.expect_status(200)


@virtual
async def test_an_offer_in_the_prack_before_our_answer(world: World) -> None:
    _, session, told = await world.incoming(headers=REQUIRED)
    session.ring()
    prack(world.peer, await world.peer.expect_status(180), body=OFFER)
    assert "Retry-After" in (await world.peer.expect_status(500)).headers
    session.accept(ANSWER)
    assert (await world.peer.expect_status(200)).body == ANSWER
    assert told.events.empty()


@virtual
async def test_an_offer_of_ours_is_answered_in_the_prack(world: World) -> None:
    _, session, told = await world.incoming(body=b"", headers=REQUIRED)
    session.ring()  # nothing can be sent: the first reliable response has to carry an offer
    await passed(0.5)
    assert world.peer.inbox.empty()
    session.ring(OFFER)
    progress = await world.peer.expect_status(183)
    assert progress.body == OFFER
    session.accept(OFFER)
    prack(world.peer, progress, body=ANSWER)
    assert (await world.peer.expect_status(200)).cseq[1] == "PRACK"
    await told.expect("early_answer", ANSWER)
    answered = await world.peer.expect_status(200)
    assert answered.body == b""
    world.peer.ack(answered)
    await told.expect("acknowledged", b"")
    session.end(Code.FLOW_ENDED)
    await world.over()


@virtual
async def test_a_prack_that_owes_an_answer(world: World) -> None:
    _, session, told = await world.incoming(body=b"", headers=REQUIRED)
    session.ring(OFFER)
    prack(world.peer, await world.peer.expect_status(183))
    await world.peer.expect_status(200)
    await world.peer.expect_status(400)
    assert (await told.end()).code is Code.SDP_MALFORMED
    await world.over()


@virtual
async def test_without_an_offer_nothing_is_described_unreliably(world: World) -> None:
    _, session, _ = await world.incoming(body=b"")
    session.ring(OFFER)
    assert (await world.peer.expect_status(180)).body == b""
    session.accept(OFFER)
    assert (await world.peer.expect_status(200)).body == OFFER


@virtual
async def test_cancelled_before_the_prack(world: World) -> None:
    invite, session, told = await world.incoming(headers=REQUIRED)
    session.ring(ANSWER)
    await world.peer.expect_status(183)
    session.accept(ANSWER)
    world.peer.follow(invite, "CANCEL")
    assert {(await world.peer.next()).status for _ in range(2)} == {200, 487}  # type: ignore[union-attr]
    assert (await told.end()).code is Code.CALLER_ABANDONED
    assert world.peer.times_seen(b"SIP/2.0 183") == 1
    await world.over()


# As client


def reliable(number: int | str) -> list[tuple[str, str]]:
    return [("Require", "100rel"), ("RSeq", str(number))]


async def rung(world: World) -> tuple[Request, InviteSession]:
    invite, session, _ = await world.outgoing()
    return invite, session


@virtual
async def test_each_response_in_order_is_acknowledged_once(world: World) -> None:
    invite, session, told = await world.outgoing()
    assert "100rel" in invite.headers.get_all("Supported")
    peer = world.peer
    peer.reply(invite, 180, headers=reliable(7))
    first = await peer.expect("PRACK")
    assert first.headers.get("RAck") == "7 1 INVITE"
    peer.reply(first, 200)
    await told.expect("progress", 180, b"")
    for number in (7, 9, 6, "x", 0, 2**31):  # again, too early, too late, nonsense
        peer.reply(invite, 183, headers=reliable(number), body=ANSWER)
    await passed(0.2)
    assert peer.inbox.empty()
    peer.reply(invite, 183, headers=reliable(8), body=ANSWER)
    second = await peer.expect("PRACK")
    assert second.headers.get("RAck") == "8 1 INVITE"
    assert second.cseq[0] == first.cseq[0] + 1
    peer.reply(second, 200)
    await told.expect("progress", 183, ANSWER)
    peer.reply(invite, 200)
    await peer.expect("ACK")
    await told.expect("answered", ANSWER)  # without a description in the 200
    session.end(Code.FLOW_ENDED)
    peer.reply(await peer.expect("BYE"), 200)
    await world.over()


@virtual
async def test_the_first_reliable_answer_counts(world: World) -> None:
    invite, _, told = await world.outgoing()
    world.peer.reply(invite, 183, headers=reliable(1), body=ANSWER)
    await told.expect("progress", 183, ANSWER)
    world.peer.reply(invite, 183, body=OFFER)
    await told.expect("progress", 183, b"")
    world.peer.reply(invite, 200, body=OFFER)
    await told.expect("answered", ANSWER)


@virtual
async def test_a_preview_stands_in_for_a_200_that_forgot_its_answer(world: World) -> None:
    invite, _, told = await world.outgoing()
    world.peer.reply(invite, 183, body=ANSWER)
    await told.expect("progress", 183, ANSWER)
    world.peer.reply(invite, 200)
    await told.expect("answered", ANSWER)


@virtual
async def test_forks_have_numbers_of_their_own(world: World) -> None:
    invite, _, told = await world.outgoing()
    for tag, number in (("one", 100), ("two", 5), ("one", 101), ("two", 6)):
        world.peer.reply(invite, 180, tag=tag, headers=reliable(number))
        request = await world.peer.expect("PRACK")
        assert request.to.tag == tag
        assert request.headers.get("RAck") == f"{number} 1 INVITE"
        world.peer.reply(request, 200)
        await told.expect("progress", 180, b"")


@virtual
async def test_a_failed_fork_does_not_ring(world: World) -> None:
    invite, session, told = await world.outgoing()
    world.peer.reply(invite, 199, tag="gone", headers=reliable(1))
    await world.peer.expect("PRACK")
    assert told.events.empty()
    assert session.state is SessionState.CALLING


@pytest.mark.parametrize("answer", [ANSWER, Code.NO_COMMON_CODEC])
def test_an_offer_in_a_reliable_response(answer: bytes | Code) -> None:
    async def scenario() -> None:
        world = World()
        invite, session, told = await world.outgoing(sdp=b"")
        told.answer = answer
        world.peer.reply(invite, 183, headers=reliable(1), body=OFFER)
        request = await world.peer.expect("PRACK")
        await told.expect("reoffer", OFFER)
        if isinstance(answer, bytes):
            assert request.body == answer
            await told.expect("progress", 183, b"")
            world.peer.reply(invite, 200)
            assert (await world.peer.expect("ACK")).body == b""
            await told.expect("answered", b"")
            session.end(Code.FLOW_ENDED)
        else:
            assert request.body == b""
            await world.peer.expect("CANCEL")
            world.peer.reply(invite, 487)
        await world.over()

    play(scenario)


@virtual
async def test_nobody_answers_a_prack(world: World) -> None:
    invite, session, told = await world.outgoing()
    world.peer.reply(invite, 183, headers=reliable(1), body=ANSWER)
    await passed(40)
    assert world.peer.times_seen(b"PRACK") == 11
    world.peer.reply(invite, 200)
    await told.expect("progress", 183, ANSWER)
    await told.expect("answered", ANSWER)
    session.end(Code.FLOW_ENDED)
    await world.over()
