"""A phone registered at one node is called from another, through the first (RFC 5626 5)."""

from __future__ import annotations

import asyncio

import pytest

from cti.shared.ways import Way
from cti.sip.sessions.session import InviteSession
from cti.sip.transports.transport import TransportName
from domain.failures import Code
from tests.routing.redis_process import until
from tests.sip_edge.platform import Phone, PlatformNode
from tests.sip_session.observer import Recorder
from tests.sip_session.peer import ANSWER, OFFER, PATIENCE_S

pytestmark = pytest.mark.stores


class Talk:
    """Both ends of a call that was answered."""

    def __init__(
        self, caller: tuple[InviteSession, Recorder], callee: tuple[InviteSession, Recorder]
    ) -> None:
        self.caller, self.told_caller = caller
        self.callee, self.told_callee = callee


async def ringing(phone: Phone, caller: PlatformNode, way: Way | None = None) -> Talk:
    (binding,) = await caller.phones()
    calling = caller.ring(way or binding.ways[0])
    talk = Talk(calling, await phone.session())
    talk.callee.ring()
    event = await talk.told_caller.next()
    assert event[:2] == ("progress", 180)
    return talk


async def answered(phone: Phone, caller: PlatformNode, way: Way | None = None) -> Talk:
    talk = await ringing(phone, caller, way)
    talk.callee.accept(ANSWER)
    await talk.told_caller.expect("answered", ANSWER)
    await talk.told_callee.expect("acknowledged", b"")
    return talk


@pytest.mark.parametrize("transport", ["tcp", "udp"])
async def test_the_caller_hangs_up(
    main: PlatformNode, standby: PlatformNode, phone: Phone, transport: TransportName
) -> None:
    await register(phone, main, transport)
    talk = await answered(phone, standby)
    talk.caller.end(Code.FLOW_ENDED)
    assert (await talk.told_callee.end()).by_peer
    await standby.forgotten()
    await phone.forgotten()
    assert main.agent.session_count == 0
    assert main.endpoint.transaction_count <= 3  # those of the registration


@pytest.mark.parametrize("transport", ["tcp", "udp"])
async def test_the_phone_hangs_up(
    main: PlatformNode, standby: PlatformNode, phone: Phone, transport: TransportName
) -> None:
    await register(phone, main, transport)
    talk = await answered(phone, standby)
    talk.callee.end(Code.FLOW_ENDED)
    assert (await talk.told_caller.end()).by_peer
    await standby.forgotten()
    await phone.forgotten()


@pytest.mark.parametrize("transport", ["tcp", "udp"])
async def test_both_sides_offer_again(
    main: PlatformNode, standby: PlatformNode, phone: Phone, transport: TransportName
) -> None:
    await register(phone, main, transport)
    talk = await answered(phone, standby)
    talk.caller.reinvite(OFFER)
    await talk.told_callee.expect("reoffer", OFFER)
    assert (await talk.told_caller.next())[0] == "answered"
    await talk.told_callee.expect("acknowledged", b"")
    talk.callee.reinvite(OFFER)
    await talk.told_caller.expect("reoffer", OFFER)
    assert (await talk.told_callee.next())[0] == "answered"


async def test_the_caller_gives_up(main: PlatformNode, standby: PlatformNode, phone: Phone) -> None:
    await register(phone, main, "tcp")
    talk = await ringing(phone, standby)
    talk.caller.end(Code.CALLER_HUNG_UP)
    assert (await talk.told_callee.end()).by_peer
    assert (await talk.told_caller.end()).status == 487
    await standby.forgotten()
    await phone.forgotten()


async def test_the_phone_declines(main: PlatformNode, standby: PlatformNode, phone: Phone) -> None:
    await register(phone, main, "tcp")
    talk = await ringing(phone, standby)
    talk.callee.reject(Code.BUSY)
    assert (await talk.told_caller.end()).status == 486
    await phone.forgotten()  # the ACK came too, over the edge


async def test_a_flow_that_is_gone_is_told_at_once(
    main: PlatformNode, standby: PlatformNode, phone: Phone
) -> None:
    await register(phone, main, "tcp")
    (binding,) = await standby.phones()
    await phone.hang_up_connections()
    _, told = standby.ring(binding.ways[0])
    assert (await told.end()).status == 430
    # Its registration goes with the connection.
    async with asyncio.timeout(PATIENCE_S):
        while await standby.phones():
            pass


async def test_a_phone_at_both_nodes_is_rung_once(
    main: PlatformNode, standby: PlatformNode, phone: Phone
) -> None:
    await register(phone, main, "tcp")
    await register(phone, standby, "tcp")
    for node, other in ((main, standby), (standby, main)):
        (binding,) = await node.phones()
        assert [way.route == () for way in binding.ways] == [True, False]
        talk = await answered(phone, node)
        assert phone.incoming.empty()
        talk.caller.end(Code.FLOW_ENDED)
        await talk.told_callee.end()
        # The other way leads to the same phone, through the other node.
        assert binding.ways[1].hop.port == other.address[1]
        talk = await answered(phone, node, binding.ways[1])
        talk.callee.end(Code.FLOW_ENDED)
        await talk.told_caller.end()


async def test_the_other_way_serves_when_a_connection_is_dead(
    main: PlatformNode, standby: PlatformNode, phone: Phone
) -> None:
    await register(phone, main, "tcp")
    await register(phone, standby, "tcp")
    (before,) = await standby.phones()
    lost = before.ways[0]
    standby.endpoint._transports._pool._connections[lost.hop.connection].abort()
    await until(lambda: not standby.endpoint.stands(lost.hop.connection))
    assert not standby.endpoint.stands(lost.hop.connection)
    async with asyncio.timeout(PATIENCE_S):
        while len((await standby.phones())[0].ways) > 1:
            pass
    (after,) = await standby.phones()
    assert after.ways == before.ways[1:]
    talk = await answered(phone, standby, after.ways[0])
    assert phone.incoming.empty()
    talk.caller.end(Code.FLOW_ENDED)
    await talk.told_callee.end()


async def test_a_phone_that_listens_is_reached_by_a_new_connection(
    main: PlatformNode, standby: PlatformNode, phone: Phone
) -> None:
    await phone.endpoint.listen("tcp", "127.0.0.1", 0)
    await register(phone, main, "tcp")
    pool = main.endpoint._transports._pool
    for connection in list(pool._connections.values()):
        connection.abort()
    await until(lambda: not pool._connections)
    talk = await answered(phone, standby)
    talk.callee.end(Code.FLOW_ENDED)
    await talk.told_caller.end()


async def register(phone: Phone, node: PlatformNode, transport: TransportName) -> None:
    """Register as from behind NAT, so that only this node reaches the phone."""
    if transport == "udp":
        # The Contact is of an address that nobody reaches.
        phone.endpoint.local_address = lambda *_: ("192.0.2.1", 5060)  # type: ignore[method-assign]
    await phone.register(node, transport)
