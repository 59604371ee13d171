"""The Replaces header: which call it names, and what refuses it (RFC 3891 3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cti.sip.events.replaces import Replaces, offer_replaces, replaced_session, replaces_of
from cti.sip.messages.message import Request
from cti.sip.messages.syntax import SipSyntaxError
from domain.failures import Code
from tests.sip_session.conftest import Node
from tests.sip_session.peer import ANSWER, OFFER, RawPeer

_TOKEN = st.text(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.!%*_+`'~", min_size=1
)
_WORD = st.text("abcXYZ019-.!%*_+`'~()<>:\\\"/[]?{}", min_size=1)


def invite(*headers: tuple[str, str]) -> Request:
    return Request("INVITE", "sip:95598@127.0.0.1", headers)


@given(_WORD, st.none() | _WORD, _TOKEN, _TOKEN, st.booleans(), st.randoms())
def test_every_header_of_the_grammar(
    name: str, host: str | None, to_tag: str, from_tag: str, early_only: bool, order: object
) -> None:
    call_id = name if host is None else f"{name}@{host}"
    params = [f"to-tag={to_tag}", f"From-Tag={from_tag}", "x=1", *["early-only"] * early_only]
    order.shuffle(params)  # type: ignore[attr-defined]
    value = f"{call_id} ;{' ; '.join(params)}"
    assert replaces_of(invite(("Replaces", value))) == (call_id, to_tag, from_tag, early_only)


@given(st.text())
def test_any_text(text: str) -> None:
    try:
        call_id, to_tag, from_tag, _ = Replaces.parse(text)
    except SipSyntaxError:
        return
    assert call_id
    assert to_tag
    assert from_tag


@pytest.mark.parametrize(
    "headers",
    [
        [("Replaces", "a;to-tag=b")],
        [("Replaces", "a;to-tag=b;from-tag=c;to-tag=d")],
        [("Replaces", "a;to-tag;from-tag=c")],
        [("Replaces", "a b;to-tag=b;from-tag=c")],
        [("Replaces", "a@b@c;to-tag=b;from-tag=c")],
        [("Replaces", ";to-tag=b;from-tag=c")],
        [("Replaces", "a;to-tag=b;from-tag=c"), ("Replaces", "a;to-tag=b;from-tag=c")],
        [("Replaces", "a;to-tag=b;from-tag=c"), ("Join", "a;to-tag=b;from-tag=c")],
    ],
)
def test_broken_headers(node: Node, headers: list[tuple[str, str]]) -> None:
    assert replaced_session(node.agent, invite(*headers)) == 400


def test_only_invites_replace() -> None:
    with pytest.raises(SipSyntaxError):
        replaces_of(Request("BYE", "sip:a@b", [("Replaces", "a;to-tag=b;from-tag=c")]))


def named(peer: RawPeer, to_tag: str, *, early_only: bool = False) -> Request:
    """An INVITE that names the peer's call: the to-tag is that of the node."""
    end = ";early-only" if early_only else ""
    return invite(("Replaces", f"{peer.call_id};to-tag={to_tag};from-tag={peer.tag}{end}"))


async def test_the_call_of_a_caller(node: Node, peer: RawPeer) -> None:
    peer.ask("INVITE", body=OFFER)
    session, told = await node.session()
    request = named(peer, session.local_tag)
    session.ring()
    ringing = await peer.expect_status(180)
    assert ringing.to.tag == session.local_tag
    assert replaced_session(node.agent, request) == 481  # it rings here
    session.accept(ANSWER)
    peer.ack(await peer.expect_status(200))
    await told.expect("acknowledged", b"")
    assert replaced_session(node.agent, invite()) is None
    assert replaced_session(node.agent, request) is session
    assert replaced_session(node.agent, named(peer, session.local_tag, early_only=True)) == 486
    assert replaced_session(node.agent, named(peer, peer.tag)) == 481
    swapped = f"{peer.call_id};to-tag={peer.tag};from-tag={session.local_tag}"
    assert replaced_session(node.agent, invite(("Replaces", swapped))) == 481
    session.end(Code.FLOW_ENDED)
    bye = await peer.expect("BYE")
    assert replaced_session(node.agent, request) == 603
    peer.reply(bye, 200)
    await node.forgotten()
    assert replaced_session(node.agent, request) == 481


async def test_a_call_of_our_own(node: Node, peer: RawPeer) -> None:
    session, told = node.call(peer)
    ringing = await peer.expect("INVITE")
    peer.reply(ringing, 180)
    await told.expect("progress", 180, b"")
    text = f"{session.call_id};to-tag={session.local_tag};from-tag={peer.tag}"
    assert replaced_session(node.agent, invite(("Replaces", text))) is session
    assert replaced_session(node.agent, invite(("Replaces", f"{text};early-only"))) is session
    session.end(Code.FLOW_ENDED)
    await peer.expect("CANCEL")
    assert replaced_session(node.agent, invite(("Replaces", text))) == 603


async def test_the_option_tag(node: Node, peer: RawPeer) -> None:
    peer.ask("INVITE", headers=[("Require", "replaces")])
    await peer.expect_status(420)
    offer_replaces(node.agent)
    peer.ask("INVITE", headers=[("Require", "replaces")])
    session, _ = await node.session()
    assert "replaces" in dict(node.agent.capabilities)["Supported"].split(", ")
    session.reject(Code.BUSY)
