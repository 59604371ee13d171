"""What the core answers by itself (RFC 3261 8.2, 11.2, 12.2.2)."""

from __future__ import annotations

import pytest

from cti.sip.sessions.session import InviteSession
from tests.sip_session.conftest import Node
from tests.sip_session.peer import ANSWER, OFFER, RawPeer


async def test_options_tells_what_we_can(node: Node, peer: RawPeer) -> None:
    peer.ask("OPTIONS", headers=[("Max-Forwards", "0")])
    response = await peer.expect_status(200)
    assert response.headers.get_all("Accept") == ["application/sdp"]
    assert "Supported" in response.headers
    allowed = response.headers.get_all("Allow")
    assert set(allowed) == {
        "INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "INFO", "NOTIFY", "PRACK", "UPDATE",
    }  # fmt: skip
    assert response.headers.get_all("Supported") == ["100rel", "timer"]


@pytest.mark.parametrize(
    ("method", "status"),
    [
        ("REGISTER", 405),
        ("SUBSCRIBE", 405),
        ("UPDATE", 481),
        ("PRACK", 481),
        ("FROBNICATE", 501),
        ("BYE", 481),
        ("INFO", 481),
        ("NOTIFY", 481),
    ],
)
async def test_methods_we_do_not_take(node: Node, peer: RawPeer, method: str, status: int) -> None:
    peer.ask(method)
    response = await peer.expect_status(status)
    assert ("Allow" in response.headers) == (status in {405, 501})


@pytest.mark.parametrize(
    ("options", "status", "header", "value"),
    [
        ({"headers": [("Require", "precondition, timer")]}, 420, "Unsupported", "precondition"),
        ({"uri": "mailto:95598"}, 416, None, None),
        ({"content_type": "application/isup"}, 415, "Accept", "application/sdp"),
        ({"headers": [("Content-Encoding", "gzip")]}, 415, "Accept", "application/sdp"),
        ({"headers": [("Max-Forwards", "0")]}, 483, None, None),
        ({"headers": [("Contact", "<tel:1>")]}, 400, None, None),
        ({"headers": [("Record-Route", '"<sip:a>, b')]}, 400, None, None),
    ],
)
async def test_invites_we_do_not_take(
    node: Node,
    peer: RawPeer,
    options: dict[str, object],
    status: int,
    header: str | None,
    value: str | None,
) -> None:
    peer.ask("INVITE", body=OFFER, **options)
    response = await peer.expect_status(status)
    if header is not None:
        assert response.headers.get(header) == value
    assert node.agent.session_count == 0
    assert not node.agent._invites


async def test_a_body_that_the_sender_calls_optional_is_left_alone(
    node: Node, peer: RawPeer
) -> None:
    headers = [("Content-Disposition", "signal;handling=optional")]
    peer.ask("INVITE", body=b"\x01", content_type="application/isup", headers=headers)
    session, _ = await node.session()
    assert session.offer == b""


async def test_an_invite_that_came_twice_is_merged(node: Node, peer: RawPeer) -> None:
    peer.ask("INVITE", body=OFFER, cseq=1)
    session, _ = await node.session()
    peer.ask("INVITE", body=OFFER, cseq=1)
    await peer.expect_status(482)
    session.accept(ANSWER)
    await peer.expect_status(200)
    assert node.incoming.empty()


async def test_a_failing_call_handler_refuses_the_call(
    node: Node, peer: RawPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_session: InviteSession) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(node.agent, "_on_invite", fail)
    peer.ask("INVITE", body=OFFER)
    await peer.expect_status(500)
    assert node.agent.session_count == 0


async def test_a_stray_ack_is_ignored(node: Node, peer: RawPeer) -> None:
    peer.remote_to = "<sip:95598@127.0.0.1>;tag=x"
    peer.ask("ACK")
    peer.remote_to = ""
    peer.ask("OPTIONS")
    await peer.expect_status(200)
