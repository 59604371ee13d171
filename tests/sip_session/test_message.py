"""MESSAGE: texts between phones, and inside calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cti.shared.contacts import Binding, Way
from cti.sip.events.message_relay import MessageRelay
from cti.sip.events.page_message import MAX_TEXT_BYTES, MessageService, PageMessage, text_of
from cti.sip.messages.message import Request, Response
from cti.sip.sessions.session import InviteSession
from cti.sip.transports.transport import Hop
from domain.failures import Code, PlatformError
from domain.ids import TenantId
from tests.sip_session.conftest import Node
from tests.sip_session.peer import ANSWER, OFFER, PATIENCE_S, RawPeer
from tests.sip_session.phones import QUICK, TENANT, Directory, PhonePeer, authenticator

TEXT = "您好 95598"
PLAIN = "text/plain;charset=UTF-8"


class Contacts:
    """Where the phones of the tests are."""

    def __init__(self) -> None:
        self.bindings: dict[tuple[TenantId, str], list[Binding]] = {}
        self.away = False

    async def lookup(self, tenant: TenantId, user: str) -> list[Binding]:
        if self.away:
            raise PlatformError(Code.STORE_UNAVAILABLE)
        return self.bindings.get((tenant, user), [])

    def bind(self, user: str, *peers: RawPeer) -> None:
        """One phone, with a way over each peer."""
        ways = tuple(
            Way(Hop("udp", each.host, each.port), ("<sip:10.1.1.1;lr>",), f"sip:{user}@10.9.9.9")
            for each in peers
        )
        self.bindings.setdefault((TENANT, user), []).append(Binding(ways, 0))


class PagingNode(Node):
    """A node that relays texts."""

    def __init__(self) -> None:
        super().__init__(QUICK)
        self.contacts = Contacts()
        self.relay = MessageRelay(self.agent, Directory(), self.contacts)
        self.told: list[str] = []
        self.service = MessageService(
            self.agent,
            phones=authenticator(),
            on_message=self.relay.deliver,
            on_session_message=self._take,
        )

    def _take(self, _session: InviteSession, text: str) -> int:
        self.told.append(text)
        return 200

    async def idle(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self.endpoint.transaction_count or self.service._pending or self.relay._sending:
                turn = asyncio.get_running_loop().create_future()
                asyncio.get_running_loop().call_later(0.01, turn.set_result, None)
                await turn


@pytest.fixture
async def paging() -> AsyncIterator[PagingNode]:
    node = PagingNode()
    await node.listen()
    yield node
    await node.service.aclose()
    await node.relay.aclose()
    await node.agent.aclose()
    await node.endpoint.aclose()


@pytest.fixture
async def sender(paging: PagingNode) -> AsyncIterator[PhonePeer]:
    peer = await PhonePeer.create(paging.address)
    assert isinstance(peer, PhonePeer)
    yield peer
    peer.close()


@pytest.fixture
async def receivers(paging: PagingNode) -> AsyncIterator[list[RawPeer]]:
    peers = [await RawPeer.create(paging.address) for _ in range(2)]
    yield peers
    for peer in peers:
        peer.close()


async def say(
    sender: PhonePeer, text: str = TEXT, *, to: str = "1002", content_type: str = PLAIN
) -> Response:
    body = text.encode()
    return await sender.asked(
        "MESSAGE", uri=f"sip:{to}@127.0.0.1", body=body, content_type=content_type
    )


async def test_to_all_phones_of_a_user(
    paging: PagingNode, sender: PhonePeer, receivers: list[RawPeer]
) -> None:
    for each in receivers:
        paging.contacts.bind("1002", each)
    saying = asyncio.ensure_future(say(sender))
    came = [await each.expect("MESSAGE") for each in receivers]
    for message in came:
        assert message.body.decode() == TEXT
        assert message.headers.get("Content-Type") == PLAIN
        assert message.uri == "sip:1002@10.9.9.9"
        assert message.headers.get_all("Route") == ["<sip:10.1.1.1;lr>"]
        assert message.from_.uri_text == "sip:1001@127.0.0.1"
        assert message.to.uri_text == "sip:1002@127.0.0.1"
        assert message.call_id != sender.call_id
        assert message.from_.tag != sender.tag
        assert "Contact" not in message.headers
    receivers[0].reply(came[0], 415)
    receivers[1].reply(came[1], 200)
    assert (await saying).status == 200
    await paging.idle()


async def test_the_first_phone_that_has_it_is_enough(
    paging: PagingNode, sender: PhonePeer, receivers: list[RawPeer]
) -> None:
    for each in receivers:
        paging.contacts.bind("1002", each)
    saying = asyncio.ensure_future(say(sender))
    receivers[0].reply(await receivers[0].expect("MESSAGE"), 202)
    assert (await saying).status == 200
    await receivers[1].saw(b"MESSAGE", times=3)  # it is still tried
    await paging.idle()


async def test_over_the_next_way(
    paging: PagingNode, sender: PhonePeer, receivers: list[RawPeer]
) -> None:
    paging.contacts.bind("1002", *receivers)
    saying = asyncio.ensure_future(say(sender))
    receivers[0].reply(await receivers[0].expect("MESSAGE"), 430)
    receivers[1].reply(await receivers[1].expect("MESSAGE"), 200)
    assert (await saying).status == 200


@pytest.mark.parametrize(("answer", "status"), [(415, 415), (486, 486), (404, 480), (503, 480)])
async def test_the_phone_refuses(
    paging: PagingNode, sender: PhonePeer, receivers: list[RawPeer], answer: int, status: int
) -> None:
    paging.contacts.bind("1002", receivers[0])
    saying = asyncio.ensure_future(say(sender))
    receivers[0].reply(await receivers[0].expect("MESSAGE"), answer)
    assert (await saying).status == status


async def test_a_phone_without_a_network(
    paging: PagingNode, sender: PhonePeer, receivers: list[RawPeer]
) -> None:
    paging.contacts.bind("1002", receivers[0])
    assert (await say(sender)).status == 480
    await paging.idle()


@pytest.mark.parametrize(("to", "status"), [("1002", 480), ("nobody", 404)])
async def test_nobody_is_there(paging: PagingNode, sender: PhonePeer, to: str, status: int) -> None:
    assert (await say(sender, to=to)).status == status
    await paging.idle()


async def test_another_tenant(paging: PagingNode, sender: PhonePeer) -> None:
    sender.domain = "other.example"
    assert (await say(sender)).status == 404


async def test_without_the_store(paging: PagingNode, sender: PhonePeer) -> None:
    paging.contacts.away = True
    assert (await say(sender)).status == 503


async def test_strangers_are_challenged(paging: PagingNode, sender: PhonePeer) -> None:
    sender.password = "wrong"
    assert (await say(sender)).status == 401


async def test_a_handler_that_fails(paging: PagingNode, sender: PhonePeer) -> None:
    async def fail(_message: PageMessage) -> int:
        raise RuntimeError

    paging.service._on_message = fail
    assert (await say(sender)).status == 500


@pytest.mark.parametrize(
    ("text", "content_type", "status"),
    [
        (TEXT, "text/html", 415),
        (TEXT, "text/plain;charset=gb2312", 415),
        (TEXT, "message/cpim", 415),
        ("x" * (MAX_TEXT_BYTES + 1), PLAIN, 413),
    ],
)
async def test_texts_that_are_not_taken(
    paging: PagingNode, sender: PhonePeer, text: str, content_type: str, status: int
) -> None:
    response = await say(sender, text, content_type=content_type)
    assert response.status == status
    assert response.headers.get("Accept") == (PLAIN if status == 415 else None)


async def test_the_dialog_of_nobody(paging: PagingNode, sender: PhonePeer) -> None:
    sender.remote_to = "<sip:1002@127.0.0.1>;tag=gone"
    assert (await say(sender)).status == 481
    await paging.idle()


async def in_a_call(node: Node, peer: RawPeer) -> InviteSession:
    peer.ask("INVITE", body=OFFER)
    session, told = await node.session()
    session.accept(ANSWER)
    peer.ack(await peer.expect_status(200))
    await told.expect("acknowledged", b"")
    return session


async def test_inside_a_call(paging: PagingNode, sender: PhonePeer) -> None:
    await in_a_call(paging, sender)
    sender.ask("MESSAGE", body=TEXT.encode(), content_type="text/plain")
    await sender.expect_status(200)
    sender.ask("MESSAGE", body=b"<p>", content_type="text/html")
    await sender.expect_status(415)
    assert paging.told == [TEXT]


async def test_where_nobody_reads(node: Node, peer: RawPeer) -> None:
    peer.ask("MESSAGE", body=b"x", content_type="text/plain")
    await peer.expect_status(405)

    async def take(_message: PageMessage) -> int:
        return 200

    MessageService(node.agent, phones=authenticator(), on_message=take)
    await in_a_call(node, peer)
    peer.ask("MESSAGE", body=b"x", content_type="text/plain")
    await peer.expect_status(405)


async def test_many_at_once(paging: PagingNode, sender: PhonePeer) -> None:
    pending = [asyncio.ensure_future(asyncio.Event().wait()) for _ in range(1_000)]
    paging.service._pending = set(pending)  # type: ignore[arg-type]
    response = await say(sender)
    assert response.status == 503
    assert response.headers.get("Retry-After")


@given(st.text(), st.text(), st.binary(max_size=2 * MAX_TEXT_BYTES))
def test_any_body(content_type: str, encoding: str, body: bytes) -> None:
    try:
        headers = [
            ("Via", "SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK1"), ("From", "<sip:a@b>;tag=1"),
            ("To", "<sip:a@b>"), ("Call-ID", "1"), ("CSeq", "1 MESSAGE"),
            ("Content-Type", content_type), ("Content-Encoding", encoding),
        ]  # fmt: skip
        request = Request("MESSAGE", "sip:a@b", headers, body)
    except ValueError:
        return  # a line break
    text = text_of(request)
    assert isinstance(text, Response) or text.encode() == body
