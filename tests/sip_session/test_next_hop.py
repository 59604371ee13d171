"""Requests inside dialogs: to names by DNS, and on by a new connection when the old one is gone."""

from __future__ import annotations

import asyncio

import pytest

from cti.sip.location.next_hop import NameLookups
from cti.sip.location.resolver import Resolver
from cti.sip.messages.message import Request, parse_message, response_to
from cti.sip.messages.uri import SipUri
from cti.sip.transports.transport import Hop
from domain.failures import Code, PlatformError
from tests.sip_session.conftest import Node
from tests.sip_session.observer import Recorder
from tests.sip_session.peer import ANSWER, OFFER, PATIENCE_S, RawPeer


class Names:
    """Knows one name, once the test lets it answer."""

    def __init__(self, name: str, hop: Hop) -> None:
        self.name = name
        self.hop = hop
        self.answered = asyncio.Event()
        self.asked: list[str] = []

    def cached(self, uri: SipUri) -> list[Hop] | None:
        return [self.hop] if self.answered.is_set() and uri.host == self.name else None

    async def locate(self, uri: SipUri) -> list[Hop]:
        self.asked.append(uri.host)
        await self.answered.wait()
        if uri.host != self.name:
            raise PlatformError(Code.DNS_FAILED, uri.host)
        return [self.hop]


@pytest.fixture
async def names(node: Node, second: RawPeer) -> Names:
    names = Names("sbc.example", Hop("udp", second.host, second.port))
    node.endpoint.names = NameLookups(names)
    return names


@pytest.fixture
async def second(node: Node, peer: RawPeer) -> RawPeer:
    """Another address of the same far end."""
    second = await RawPeer.create(node.address)
    second.call_id, second.tag = peer.call_id, peer.tag
    return second


@pytest.mark.parametrize("place", ["Contact", "Record-Route"])
async def test_ack_and_bye_of_ours_go_where_a_name_leads(
    node: Node, peer: RawPeer, second: RawPeer, names: Names, place: str
) -> None:
    session, told = node.call(peer)
    invite = await peer.expect("INVITE")
    headers = [(place, "<sip:sbc.example;lr>")]
    if place == "Record-Route":
        headers.append(("Contact", peer.contact))
    peer.reply(invite, 200, headers=headers, body=ANSWER)
    await told.expect("answered", ANSWER)
    assert names.asked == ["sbc.example"]
    assert peer.inbox.empty()
    names.answered.set()
    await second.expect("ACK")
    session.end(Code.FLOW_ENDED)  # the name is known by now
    second.reply(await second.expect("BYE"), 200)
    assert names.asked == ["sbc.example"]
    await node.forgotten()
    second.close()


async def test_a_name_that_leads_nowhere_leaves_the_way_as_it_was(
    node: Node, peer: RawPeer, names: Names, second: RawPeer
) -> None:
    peer.ask("INVITE", body=OFFER, headers=[("Contact", "<sip:raw@gone.example>")])
    session, told = await node.session()
    session.accept(ANSWER)
    peer.ack(await peer.expect_status(200))
    await told.expect("acknowledged", b"")
    session.end(Code.FLOW_ENDED)
    names.answered.set()
    bye = await peer.expect("BYE")
    assert bye.uri == "sip:raw@gone.example"
    assert names.asked == ["gone.example"]
    peer.reply(bye, 200)
    await node.forgotten()
    second.close()


async def test_a_change_that_waits_for_dns_is_withdrawn_with_its_call(
    node: Node, peer: RawPeer, names: Names, second: RawPeer
) -> None:
    peer.ask("INVITE", body=OFFER, headers=[("Contact", "<sip:raw@sbc.example>")])
    session, told = await node.session()
    session.accept(ANSWER)
    peer.ack(await peer.expect_status(200))
    await told.expect("acknowledged", b"")
    session.reinvite(OFFER)
    session.end(Code.FLOW_ENDED)
    names.answered.set()
    change = await second.expect("INVITE")
    bye = await second.expect("BYE")
    second.reply(bye, 200)
    second.send(response_to(change, 100))
    second.reply(await second.expect("CANCEL"), 200)
    second.reply(change, 487)
    await second.expect("ACK")
    await node.forgotten()
    second.close()


async def test_a_redirection_to_a_name(
    node: Node, peer: RawPeer, names: Names, second: RawPeer
) -> None:
    session, told = node.call(peer, follow_redirects=True)
    invite = await peer.expect("INVITE")
    names.answered.set()
    peer.reply(invite, 302, headers=[("Contact", "<sip:raw@sbc.example>")])
    await peer.expect("ACK")
    again = await second.expect("INVITE")
    second.reply(again, 200, body=ANSWER, headers=[("Contact", second.contact)])
    await second.expect("ACK")
    await told.expect("answered", ANSWER)
    assert session.hop == names.hop
    session.end(Code.FLOW_ENDED)
    second.reply(await second.expect("BYE"), 200)
    await node.forgotten()
    second.close()


async def test_a_trunk_called_by_name_is_followed_to_the_address_of_its_contact(
    node: Node, peer: RawPeer, second: RawPeer
) -> None:
    told = Recorder()
    session = node.agent.invite(
        "sip:1@carrier.example",
        from_="sip:95598@127.0.0.1",
        hop=Hop("udp", peer.host, peer.port),
        sdp=OFFER,
        observer=told,
    )
    invite = await peer.expect("INVITE")
    peer.reply(invite, 200, headers=[("Contact", second.contact)], body=ANSWER)
    await second.expect("ACK")
    session.end(Code.FLOW_ENDED)
    second.reply(await second.expect("BYE"), 200)
    await node.forgotten()
    second.close()


async def test_addresses_cost_no_question(node: Node, peer: RawPeer) -> None:
    resolver = Resolver(["127.0.0.1:9"])
    node.endpoint.names = NameLookups(resolver)
    session, _ = node.call(peer)
    peer.reply(await peer.expect("INVITE"), 200, body=ANSWER)
    await peer.expect("ACK")
    session.end(Code.FLOW_ENDED)
    peer.reply(await peer.expect("BYE"), 200)
    assert not node.endpoint.names._tasks
    await resolver.aclose()


async def test_a_connection_that_is_gone_is_replaced_by_one_to_the_contact(
    node: Node, peer: RawPeer
) -> None:
    """The Via names the port that the phone connected from, its Contact where it listens."""
    node.address = await node.endpoint.listen("tcp", "127.0.0.1", 0)
    lost: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    node.endpoint.on_flow_lost = lost.set_result
    arrived: asyncio.Queue[Request] = asyncio.Queue()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        message = parse_message(await reader.readuntil(b"\r\n\r\n"))
        assert isinstance(message, Request)
        writer.write(response_to(message, 200).to_bytes())
        arrived.put_nowait(message)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    listening = server.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection(*node.address)
    own_port = writer.get_extra_info("sockname")[1]
    via = f"SIP/2.0/TCP 127.0.0.1:{own_port};branch=z9hG4bKlost"
    contact = f"<sip:raw@127.0.0.1:{listening};transport=tcp>"
    invite = peer.request("INVITE", headers=[("Via", via), ("Contact", contact)], body=OFFER)
    writer.write(invite.to_bytes())
    session, told = await node.session()
    session.accept(ANSWER)
    while b"SIP/2.0 200" not in await asyncio.wait_for(reader.readline(), PATIENCE_S):
        pass
    ack = peer.request("ACK", cseq=invite.cseq[0])
    ack.headers.set("To", f"<sip:95598@127.0.0.1>;tag={session.local_tag}")
    ack.headers.set("Via", via.replace("lost", "ack"))
    writer.write(ack.to_bytes())
    await told.expect("acknowledged", b"")
    writer.close()
    await asyncio.wait_for(lost, PATIENCE_S)
    session.end(Code.FLOW_ENDED)
    assert (await asyncio.wait_for(arrived.get(), PATIENCE_S)).method == "BYE"
    await node.forgotten()
    server.close()
