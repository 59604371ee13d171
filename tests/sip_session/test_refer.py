"""REFER inside a call: what is answered, and what the NOTIFYs tell."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cti.sip.events.refer import ReferService
from cti.sip.events.refer_to import ReferTo, refer_to_of, referred_by_of
from cti.sip.events.replaces import Replaces
from cti.sip.messages.message import Request, Response
from cti.sip.messages.syntax import SipSyntaxError
from cti.sip.sessions.session import InviteSession, Referral
from domain.failures import Code
from tests.sip_session.conftest import Node
from tests.sip_session.observer import Recorder
from tests.sip_session.peer import ANSWER, PATIENCE_S, RawPeer
from tests.sip_session.phones import QUICK

TARGET = [("Refer-To", "<sip:1002@127.0.0.1>")]


class Desk(Recorder):
    """Keeps the referrals of its session."""

    def __init__(self) -> None:
        super().__init__()
        self.referrals: asyncio.Queue[Referral] = asyncio.Queue()

    def on_refer(self, referral: Referral) -> None:
        self.referrals.put_nowait(referral)

    async def referral(self) -> Referral:
        return await asyncio.wait_for(self.referrals.get(), PATIENCE_S)


class Phone:
    """A raw peer inside a call with a node that takes REFER."""

    def __init__(self, node: Node, peer: RawPeer, session: InviteSession, desk: Desk) -> None:
        self.node = node
        self.peer = peer
        self.session = session
        self.desk = desk

    def refer(self, headers: Iterable[tuple[str, str]] = TARGET) -> Request:
        return self.peer.ask("REFER", headers=[("Contact", self.peer.contact), *headers])

    async def notified(self, fragment: bytes, state: str, event: str = "refer") -> Request:
        notify = await self.peer.expect("NOTIFY")
        assert notify.body == fragment + b"\r\n"
        assert notify.headers.get("Content-Type") == "message/sipfrag;version=2.0"
        assert (notify.headers.get("Subscription-State") or "").startswith(state)
        assert notify.headers.get("Event") == event
        assert notify.uri == f"sip:raw@{self.peer.host}:{self.peer.port}"
        return notify

    async def told(self, fragment: bytes, state: str, event: str = "refer") -> None:
        self.peer.reply(await self.notified(fragment, state, event), 200)

    async def referred(self, event: str = "refer") -> Referral:
        """Ask for a transfer and have it taken."""
        self.refer()
        referral = await self.desk.referral()
        referral.accept()
        await self.peer.expect_status(202)
        await self.told(b"SIP/2.0 100 Trying", "active;expires=", event)
        return referral

    async def hang_up(self) -> None:
        self.peer.ask("BYE")
        await self.peer.expect_status(200)


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    node = Node(QUICK)
    await node.listen()
    yield node
    await node.agent.aclose()
    await node.endpoint.aclose()


@pytest.fixture
async def phone(node: Node, peer: RawPeer) -> Phone:
    ReferService(node.agent)
    peer.ask("INVITE", body=ANSWER)
    session, _ = await node.session()
    session.observer = desk = Desk()
    session.accept(ANSWER)
    peer.ack(await peer.expect_status(200))
    await desk.expect("acknowledged", b"")
    return Phone(node, peer, session, desk)


async def idle(node: Node) -> None:
    """Wait until no transaction is left."""
    async with asyncio.timeout(PATIENCE_S):
        while node.endpoint.transaction_count:
            turn = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(0.02, turn.set_result, None)
            await turn


async def test_a_transfer_that_succeeds(phone: Phone) -> None:
    phone.refer([
        ("Refer-To", "Sales <sip:1002@127.0.0.1;method=INVITE?User-To-User=a%3Bb&X-Evil=1>"),
        ("Referred-By", "<sip:1001@127.0.0.1>"),
    ])  # fmt: skip
    referral = await phone.desk.referral()
    assert referral.target == "sip:1002@127.0.0.1"
    assert referral.replaces is None
    assert referral.referred_by == "<sip:1001@127.0.0.1>"
    referral.progress(180)  # nothing before it is accepted
    referral.accept()
    accepted = await phone.peer.expect_status(202)
    assert accepted.headers.get("Contact")
    await phone.told(b"SIP/2.0 100 Trying", "active;expires=180")
    referral.progress(180)
    await phone.told(b"SIP/2.0 180 Ringing", "active;expires=180")
    referral.progress(180)
    referral.finish(200)
    await phone.told(b"SIP/2.0 200 OK", "terminated;reason=noresource")
    referral.progress(183)
    referral.finish(500)
    referral.accept()
    await phone.hang_up()
    await phone.node.forgotten()
    await idle(phone.node)
    assert phone.peer.inbox.empty()


async def test_a_phone_that_hangs_up_still_hears_the_outcome(phone: Phone) -> None:
    phone.refer()
    referral = await phone.desk.referral()
    referral.accept()
    await phone.peer.expect_status(202)
    trying = await phone.notified(b"SIP/2.0 100 Trying", "active")
    await phone.hang_up()
    phone.peer.reply(trying, 200)
    await phone.node.forgotten()
    referral.progress(180)
    await phone.told(b"SIP/2.0 180 Ringing", "active")
    referral.finish(486)
    await phone.told(b"SIP/2.0 486 Busy Here", "terminated;reason=noresource")
    await idle(phone.node)


async def test_the_newest_status_waits_for_the_answer_to_the_last(phone: Phone) -> None:
    phone.refer()
    referral = await phone.desk.referral()
    referral.accept()
    await phone.peer.expect_status(202)
    trying = await phone.notified(b"SIP/2.0 100 Trying", "active")
    referral.progress(180)
    referral.progress(183)
    await phone.peer.saw(b"NOTIFY", times=3)  # the first one, lost twice
    phone.peer.reply(trying, 200)
    await phone.notified(b"SIP/2.0 183 Session Progress", "active")
    referral.finish(603)
    assert phone.peer.inbox.empty()


@pytest.mark.parametrize("status", [481, 408, 489])
async def test_a_phone_that_wants_no_more(phone: Phone, status: int) -> None:
    phone.refer()
    referral = await phone.desk.referral()
    referral.accept()
    await phone.peer.expect_status(202)
    phone.peer.reply(await phone.notified(b"SIP/2.0 100 Trying", "active"), status)
    await idle(phone.node)
    referral.finish(200)
    await idle(phone.node)
    assert phone.peer.inbox.empty()


async def test_a_notify_that_fails_for_the_moment_does_not_end_it(phone: Phone) -> None:
    phone.refer()
    referral = await phone.desk.referral()
    referral.accept()
    await phone.peer.expect_status(202)
    phone.peer.reply(await phone.notified(b"SIP/2.0 100 Trying", "active"), 500)
    referral.finish(200)
    await phone.told(b"SIP/2.0 200 OK", "terminated")


async def test_a_phone_that_never_answers(phone: Phone) -> None:
    phone.refer()
    referral = await phone.desk.referral()
    referral.accept()
    await phone.peer.expect_status(202)
    await phone.notified(b"SIP/2.0 100 Trying", "active")
    referral.finish(200)
    await idle(phone.node)
    assert phone.peer.inbox.empty()


async def test_refused_by_the_call(phone: Phone) -> None:
    phone.refer()
    (await phone.desk.referral()).refuse(Code.TRANSFER_FORBIDDEN)
    await phone.peer.expect_status(403)
    phone.refer()
    (await phone.desk.referral()).refuse(Code.TRANSFER_TARGET_UNKNOWN)
    await phone.peer.expect_status(404)
    referral = await phone.referred("refer;id=4")
    referral.finish(200)
    await phone.told(b"SIP/2.0 200 OK", "terminated", "refer;id=4")


async def test_nobody_decides(phone: Phone) -> None:
    phone.refer()
    referral = await phone.desk.referral()
    await phone.peer.expect_status(500)
    referral.accept()
    assert phone.peer.inbox.empty()


async def test_one_after_the_other(phone: Phone) -> None:
    first = await phone.referred()
    phone.refer()
    refused = await phone.peer.expect_status(491)
    assert refused.reason == "Another Transfer Is Under Way"
    first.finish(486)
    await phone.told(b"SIP/2.0 486 Busy Here", "terminated")
    third = await phone.referred("refer;id=4")
    third.finish(200)
    await phone.told(b"SIP/2.0 200 OK", "terminated", "refer;id=4")


async def test_without_notifies(phone: Phone) -> None:
    phone.refer([*TARGET, ("Refer-Sub", "false"), ("Require", "norefersub")])
    referral = await phone.desk.referral()
    referral.accept()
    response = await phone.peer.expect_status(200)
    assert response.headers.get("Refer-Sub") == "false"
    referral.progress(180)
    referral.finish(200)
    await phone.hang_up()
    await idle(phone.node)
    assert phone.peer.inbox.empty()


async def subscribe(phone: Phone, status: int, event: str, expires: str) -> Response:
    phone.peer.ask("SUBSCRIBE", headers=[("Event", event), ("Expires", expires)])
    return await phone.peer.expect_status(status)


async def test_the_phone_ends_the_subscription(phone: Phone) -> None:
    referral = await phone.referred()
    await subscribe(phone, 489, "presence", "0")
    await subscribe(phone, 481, "refer;id=9", "0")
    await subscribe(phone, 400, "refer", "soon")
    assert (await subscribe(phone, 200, "refer", "999")).headers.get("Expires") == "180"
    await phone.told(b"SIP/2.0 100 Trying", "active;expires=180")
    assert (await subscribe(phone, 200, "refer", "0")).headers.get("Expires") == "0"
    await phone.told(b"SIP/2.0 100 Trying", "terminated;reason=timeout")
    referral.finish(200)
    await subscribe(phone, 481, "refer", "0")
    assert phone.peer.inbox.empty()


async def test_the_subscription_ends_by_itself(phone: Phone) -> None:
    await phone.referred()
    assert (await subscribe(phone, 200, "refer", "1")).headers.get("Expires") == "1"
    await phone.told(b"SIP/2.0 100 Trying", "active;expires=1")
    await phone.told(b"SIP/2.0 100 Trying", "terminated;reason=timeout")
    await idle(phone.node)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([], 400),
        ([("Refer-To", "<sip:1002@127.0.0.1>, <sip:1003@127.0.0.1>")], 400),
        ([("Refer-To", "<sip:1002@>")], 400),
        ([("Refer-To", "<http://127.0.0.1/>")], 416),
        ([("Refer-To", "<sip:1002@127.0.0.1;method=BYE>")], 403),
        ([("Refer-To", "<sip:1002@127.0.0.1?Require=foo>")], 403),
        ([("Refer-To", "<sip:1002@127.0.0.1?Replaces=a>")], 400),
        ([*TARGET, ("Referred-By", "nobody")], 400),
        ([*TARGET, ("Require", "tdialog")], 420),
    ],
)
async def test_refused_at_once(phone: Phone, headers: list[tuple[str, str]], status: int) -> None:
    phone.refer(headers)
    await phone.peer.expect_status(status)
    assert phone.desk.referrals.empty()


async def test_before_the_call_is_answered(node: Node, peer: RawPeer) -> None:
    ReferService(node.agent)
    peer.ask("INVITE")
    session, _ = await node.session()
    session.ring()
    ringing = await peer.expect_status(180)
    peer.remote_to = str(ringing.to)
    peer.ask("REFER", headers=TARGET)
    await peer.expect_status(403)
    session.reject(Code.BUSY)


async def test_outside_of_calls(node: Node, peer: RawPeer) -> None:
    ReferService(node.agent)
    peer.ask("REFER", headers=TARGET)
    await peer.expect_status(403)
    peer.remote_to = "<sip:95598@127.0.0.1>;tag=gone"
    peer.ask("REFER", headers=TARGET)
    await peer.expect_status(481)
    peer.ask("OPTIONS", uri="sip:127.0.0.1", headers=[("To", "<sip:127.0.0.1>")])
    offered = (await peer.expect_status(200)).headers
    assert "REFER" in offered.get_all("Allow")
    assert "refer" in offered.get_all("Allow-Events")
    assert "norefersub" in offered.get_all("Supported")


async def test_calls_that_are_over_leave_nothing(phone: Phone) -> None:
    service = ReferService(phone.node.agent)
    referral = await phone.referred()
    referral.finish(200)
    await phone.told(b"SIP/2.0 200 OK", "terminated")
    await phone.hang_up()
    await phone.node.forgotten()
    await idle(phone.node)
    del phone.session
    gc.collect()
    assert not service._of_session


def request_of(*headers: tuple[str, str]) -> Request:
    return Request("REFER", "sip:95598@127.0.0.1", headers)


def test_an_attended_transfer_names_the_call() -> None:
    request = request_of((
        "r",
        "<sips:1002@127.0.0.1?Replaces=12%40h%3Bto-tag%3Da%3Bfrom-tag%3Db%3Bearly-only&Require=replaces>",
    ))  # fmt: skip
    assert refer_to_of(request) == ReferTo(
        "sips:1002@127.0.0.1", Replaces("12@h", "a", "b", early_only=True), ()
    )


@pytest.mark.parametrize(
    ("value", "target"),
    [
        ("sip:1002@127.0.0.1", "sip:1002@127.0.0.1"),
        ("<tel:+86-10-95598;phone-context=example.com>", "tel:+86-10-95598"),
        ("<sip:1002:secret@127.0.0.1;user=phone>", "sip:1002@127.0.0.1;user=phone"),
        ("<sip:1002@127.0.0.1?body=x&Route=%3Csip:a%3E>", "sip:1002@127.0.0.1"),
    ],
)
def test_targets(value: str, target: str) -> None:
    assert refer_to_of(request_of(("Refer-To", value))) == ReferTo(target, None, ())


@pytest.mark.parametrize(
    "value",
    [
        "<tel:>", "<tel:1;2>x", "<tel:call me>", "<sip:a@b?Subject=%0d%0aRoute:x>",
        "<sip:a@b?Subject=%ff>", "<sip:a@b?Replaces>", "<sip:a@b?Replaces=%3B&Replaces=%3B>",
    ],
)  # fmt: skip
def test_what_cannot_be_called(value: str) -> None:
    with pytest.raises(SipSyntaxError):
        refer_to_of(request_of(("Refer-To", value)))


@given(st.text(max_size=80))
def test_any_text(text: str) -> None:
    try:
        request = request_of(("Refer-To", f"<sip:1002@127.0.0.1{text}>"), ("Referred-By", text))
    except ValueError:
        return  # a line break
    try:
        asked = refer_to_of(request)
        referred_by_of(request)
    except SipSyntaxError:
        return
    assert "?" not in asked.target
    Request("INVITE", asked.target, asked.headers)  # it can be written
