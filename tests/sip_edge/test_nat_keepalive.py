"""Phones behind NAT are asked for OPTIONS, each once an interval, until they expire."""

from __future__ import annotations

from cti.sip.edge import Edge
from cti.sip.endpoint import SipEndpoint
from cti.sip.messages.message import Request, response_to
from cti.sip.metrics import STRAY_RESPONSES
from cti.sip.registration.nat_keepalive import NatKeepAlive
from cti.sip.transports.transport import Hop
from tests.sip_session.peer import FAST, RawPeer


async def test_each_phone_is_asked_once_an_interval() -> None:
    endpoint = SipEndpoint(user_agent="x", timers=FAST)
    address = await endpoint.listen("udp", "127.0.0.1", 0)
    edge = endpoint.edge = Edge(endpoint, is_node=lambda _hop: False)
    now_s = 1000.0
    keep_alive = NatKeepAlive(
        endpoint, interval_s=4, branch=edge.new_branch, unix_clock=lambda: now_s
    )
    phones = [await RawPeer.create(address) for _ in range(5)]
    for at, phone in enumerate(phones):
        keep_alive.keep(Hop("udp", phone.host, phone.port, 1), 1000 + 100 * (at + 1))
    for _ in range(4):
        keep_alive.tick()
    stray = STRAY_RESPONSES._value.get()
    for phone in phones:
        request = await phone.next()
        assert isinstance(request, Request)
        assert request.method == "OPTIONS"
        phone.send(response_to(request, 200))  # the answer is all that is wanted
    now_s = 1450.0
    for _ in range(4):
        keep_alive.tick()
    await phones[4].next()
    assert all(phone.inbox.empty() for phone in phones[:4])
    assert STRAY_RESPONSES._value.get() == stray
    keep_alive.close()
    for _ in range(4):
        keep_alive.tick()
    for phone in phones:
        assert phone.inbox.empty()
        phone.close()
    await endpoint.aclose()
