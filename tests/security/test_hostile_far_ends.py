"""What a far end that we call may make us keep and send has limits."""

from __future__ import annotations

from cti.sip.messages.message import Request
from domain.failures import Code
from tests.sip_session.conftest import Node
from tests.sip_session.peer import ANSWER, RawPeer

FORKS, MOST = 200, 32


async def test_a_far_end_that_makes_up_forks() -> None:
    node = Node()
    await node.listen()
    peer, victim = [await RawPeer.create(node.address) for _ in range(2)]
    session, told = node.call(peer)
    invite = await peer.expect("INVITE")
    for number in range(FORKS):
        peer.reply(invite, 180, tag=f"ringing-{number}")
    peer.reply(invite, 180, tag="ringing-0", headers=[("X", "last")])
    for _ in range(MOST + 1):  # those above the limit are not told
        await told.expect("progress", 180, b"")
    peer.reply(invite, 200, tag="ringing-1", body=ANSWER)
    await peer.expect("ACK")
    await told.expect("answered", ANSWER)
    elsewhere = [("Contact", victim.contact)]
    for number in range(FORKS):
        peer.reply(invite, 200, tag=f"accepted-{number}", headers=elsewhere, body=ANSWER)
    peer.reply(invite, 200, tag="ringing-1", body=ANSWER)
    await peer.expect("ACK")  # so all before it were read
    session.end(Code.FLOW_ENDED)
    peer.reply(await peer.expect("BYE"), 200)
    await node.aclose()
    hit = {each.to.tag for each in victim.inbox._queue if isinstance(each, Request)}  # type: ignore[attr-defined]
    assert 0 < len(hit) <= MOST
    for each in (peer, victim):
        each.close()
