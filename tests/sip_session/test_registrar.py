"""Registrations (RFC 3261 10.3), judged without a network, then over one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass

import pytest

from cti.sip.authentication.digest import Credentials, DigestServer, authorization, ha1
from cti.sip.authentication.phone_auth import PhoneAccount, PhoneAuthenticator
from cti.sip.endpoint import SipEndpoint
from cti.sip.messages.message import Request, Response, parse_message
from cti.sip.registration.register_request import Lifetimes, RegisterOrder, read_register
from cti.sip.registration.registrar import Registrar, RegistrarEvents
from cti.sip.transports.transport import Hop
from cti.sip.user_agent import UserAgent
from domain.failures import Code, PlatformError
from domain.ids import TenantId
from tests.fakes.contact_store import MemoryContactStore
from tests.fakes.turn import turn
from tests.sip_session.conftest import Node
from tests.sip_session.peer import FAST, RawPeer

REALM = "95598.example"
PASSWORD = "Dianli-95598"
TENANT = TenantId("sx")
SOURCE = Hop("udp", "192.0.2.7", 5060, 3)


class Directory:
    """Phones 1001 and 1002 at two domains of two tenants."""

    def find(self, user: str, domain: str) -> PhoneAccount | None:
        tenant = {"95598.example": "sx", "127.0.0.1": "sx", "other.example": "other"}.get(domain)
        if tenant is None or user not in {"1001", "1002"}:
            return None
        password = PASSWORD if tenant == "sx" else "another"
        stored = {each: ha1(each, user, REALM, password) for each in ("MD5", "SHA-256")}
        return PhoneAccount(TenantId(tenant), user, stored)


class Told(RegistrarEvents):
    def __init__(self) -> None:
        self.events: list[tuple[object, ...]] = []

    def registered(self, tenant: TenantId, user: str, contact_uri: str, expires_s: int) -> None:
        self.events.append(("registered", tenant, user, contact_uri, expires_s))

    def unregistered(self, tenant: TenantId, user: str, contact_uri: str) -> None:
        self.events.append(("unregistered", tenant, user, contact_uri))

    def authentication_failed(self, source: str, user: str) -> None:
        self.events.append(("authentication_failed", user, source))


@dataclass
class Arrived:
    """A REGISTER and where it came from."""

    request: Request
    source: str


def registrar_of(
    store: MemoryContactStore, told: Told, share: Callable[[], float] = lambda: 1.0
) -> Registrar:
    def clock() -> float:
        return store.unix_s

    digest = DigestServer(REALM)
    authenticator = PhoneAuthenticator(
        Directory(), digest, on_failure=told.authentication_failed, unix_clock=clock
    )
    return Registrar(
        authenticator=authenticator,
        store=store,
        events=told,
        route_of=route_of,
        unix_clock=clock,
        share=share,
    )


def route_of(flow: Hop) -> str:
    return f"<sip:flow-{flow.connection}@192.0.2.1;lr>"


class Desk:
    """A registrar and one client of it; each request answers a challenge of its own."""

    def __init__(self) -> None:
        self.store = MemoryContactStore()
        self.told = Told()
        self.share = 1.0
        self.registrar = registrar_of(self.store, self.told, lambda: self.share)
        self.cseq = 0

    def request(
        self,
        *contacts: str,
        user: str = "1001",
        domain: str = REALM,
        call_id: str = "c1",
        headers: Iterable[tuple[str, str]] = (),
    ) -> Request:
        self.cseq += 1
        request = Request(
            "REGISTER",
            f"sip:{domain}",
            [
                ("Via", "SIP/2.0/UDP 192.0.2.7;branch=z9hG4bK1"),
                ("From", f"<sip:{user}@{domain}>;tag=1"),
                ("To", f"<sip:{user}@{domain}>"),
                ("Call-ID", call_id),
                ("CSeq", f"{self.cseq} REGISTER"),
                *(("Contact", each) for each in contacts),
                *headers,
            ],
        )
        parsed = parse_message(request.to_bytes())
        assert isinstance(parsed, Request)
        return parsed

    async def send(self, request: Request, source: Hop = SOURCE) -> Response:
        judged = self.registrar.check(Arrived(request, source.host), source)
        if isinstance(judged, Response):
            return judged
        outcome = self.store.apply(judged.update)
        return self.registrar.answer(judged, outcome)

    async def register(
        self,
        *contacts: str,
        user: str = "1001",
        password: str = PASSWORD,
        source: Hop = SOURCE,
        **options: object,
    ) -> Response:
        request = self.request(*contacts, user=user, **options)  # type: ignore[arg-type]
        return await self.authorized(request, user, password, source)

    async def authorized(
        self,
        request: Request,
        user: str = "1001",
        password: str = PASSWORD,
        source: Hop = SOURCE,
    ) -> Response:
        challenge = await self.send(request)
        assert challenge.status == 401
        value = authorization(
            challenge.headers.get_all("WWW-Authenticate"),
            method="REGISTER",
            uri=request.uri,
            credentials=Credentials(user, password),
        )
        assert value is not None
        request.headers.set("Authorization", value)
        return await self.send(request, source)

    async def hops(self, user: str = "1001", tenant: TenantId = TENANT) -> list[Hop]:
        return [each.hop for each in await self.store.lookup(tenant, user)]


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_bound_listed_refreshed_and_removed(desk: Desk) -> None:
    contact = "<sip:1001@192.0.2.7:5062>"
    response = await desk.register(f"{contact};expires=600")
    assert response.status == 200
    assert response.headers.get_all("Contact") == [f"{contact};expires=600"]
    desk.store.unix_s += 100
    response = await desk.register()
    assert response.headers.get_all("Contact") == [f"{contact};expires=500"]
    response = await desk.register(contact, headers=[("Expires", "300")])
    assert response.headers.get_all("Contact") == [f"{contact};expires=300"]
    response = await desk.register(f"{contact};expires=0")
    assert response.status == 200
    assert response.headers.get_all("Contact") == []
    assert await desk.hops() == []
    uri = contact.strip("<>")
    assert desk.told.events == [
        ("registered", TENANT, "1001", uri, 600),  # its refresh is not told
        ("unregistered", TENANT, "1001", uri),
    ]


async def test_several_phones_of_a_user(desk: Desk) -> None:
    await desk.register("<sip:1001@192.0.2.7>, <sip:1001@192.0.2.8:5070;transport=tcp>")
    response = await desk.register("<sip:1001@192.0.2.9>", call_id="c2")
    assert len(response.headers.get_all("Contact")) == 3
    response = await desk.register("*", headers=[("Expires", "0")])
    assert response.status == 200
    assert await desk.hops() == []
    assert desk.told.events[-1] == ("unregistered", TENANT, "1001", "*")


async def test_lifetimes_have_limits(desk: Desk) -> None:
    response = await desk.register("<sip:1001@192.0.2.7>;expires=30")
    assert response.status == 423
    assert response.headers.get("Min-Expires") == "60"
    for asked in ("99999999999", "9999", "x", "-1"):
        response = await desk.register(f"<sip:1001@192.0.2.7>;expires={asked}")
        assert response.headers.get("Contact") == "<sip:1001@192.0.2.7>;expires=3600"


@pytest.mark.parametrize(
    ("contacts", "headers"),
    [
        (["*"], []),
        (["*"], [("Expires", "60")]),
        (["*", "<sip:1001@192.0.2.7>"], [("Expires", "0")]),
        (["<tel:1001>"], []),
        (["<sip:1001@192.0.2.7?Route=x>"], []),
        (["<sip:1001@"], []),
        (["nonsense"], []),
    ],
)
async def test_malformed(desk: Desk, contacts: list[str], headers: list[tuple[str, str]]) -> None:
    assert (await desk.register(*contacts, headers=headers)).status == 400


async def test_out_of_order(desk: Desk) -> None:
    assert (await desk.register("<sip:1001@192.0.2.7>;expires=600")).status == 200
    desk.cseq = 0
    assert (await desk.register("<sip:1001@192.0.2.7>;expires=0")).status == 500
    assert len(await desk.hops()) == 1
    desk.cseq = 0
    response = await desk.register("<sip:1001@192.0.2.7>;expires=0", call_id="after-restart")
    assert response.status == 200


async def test_wrong_password_and_unknown_user_get_the_same_answer(desk: Desk) -> None:
    answers = [
        await desk.register("<sip:x@192.0.2.7>", password="wrong"),
        await desk.register("<sip:x@192.0.2.7>", user="9999"),
        await desk.register("<sip:x@192.0.2.7>", domain="stranger.example"),
    ]
    assert {each.status for each in answers} == {401}
    assert {tuple(sorted(dict(each.headers.items()))) for each in answers} == {
        ("CSeq", "Call-ID", "From", "To", "Via", "WWW-Authenticate")
    }
    assert desk.told.events == [
        ("authentication_failed", "1001", "192.0.2.7"),
        ("authentication_failed", "9999", "192.0.2.7"),
        ("authentication_failed", "1001", "192.0.2.7"),
    ]


async def test_the_domain_tells_the_tenant(desk: Desk) -> None:
    response = await desk.register(
        "<sip:1001@192.0.2.7>", domain="other.example", password="another"
    )
    assert response.status == 200
    assert await desk.hops(tenant=TENANT) == []
    assert len(await desk.hops(tenant=TenantId("other"))) == 1


async def test_where_a_phone_is_reached(desk: Desk) -> None:
    tcp = Hop("tcp", "192.0.2.7", 40000, 9)
    for contact, source, expected in [
        ("<sip:1001@192.0.2.7:5062>", SOURCE, Hop("udp", "192.0.2.7", 5062, 3)),
        ("<sip:1001@10.0.0.9:5060>", SOURCE, SOURCE),
        ("<sip:1001@phone.invalid>", SOURCE, SOURCE),
        # The connection first; a new one to what the Contact says, should it be gone.
        ("<sip:1001@192.0.2.7:5060;transport=tcp>", tcp, Hop("tcp", "192.0.2.7", 5060, 9)),
        ("<sip:1001@10.0.0.9:5060;transport=tcp>", tcp, tcp),
        ("<sip:1001@192.0.2.7:5060;transport=tcp>", SOURCE, Hop("tcp", "192.0.2.7", 5060)),
    ]:
        await desk.register("*", headers=[("Expires", "0")])
        await desk.register(contact, source=source)
        assert await desk.hops() == [expected]


INSTANCE = '+sip.instance="<urn:uuid:00000000-0000-1000-8000-000A95A0E128>"'
TCP = Hop("tcp", "192.0.2.7", 40000, 9)


async def test_a_path_is_kept_told_and_followed(desk: Desk) -> None:
    contact = "<sip:1001@10.0.0.9:5060>;expires=600"
    path = [("Path", "<sip:edge@192.0.2.7:5080;lr>, <sip:inner.invalid;lr>")]
    response = await desk.register(contact, headers=path)
    assert response.status == 200
    assert response.headers.get_all("Path") == []  # the phone does not know what that is
    response = await desk.register(contact, headers=[*path, ("Supported", "path")])
    assert response.headers.get_all("Path") == [
        "<sip:edge@192.0.2.7:5080;lr>",
        "<sip:inner.invalid;lr>",
    ]
    (binding,) = await desk.store.lookup(TENANT, "1001")
    (way,) = binding.ways
    assert way.hop == Hop("udp", "192.0.2.7", 5080, 3)
    assert way.route == ("<sip:edge@192.0.2.7:5080;lr>", "<sip:inner.invalid;lr>")
    # Nobody has our requests sent to third parties by a Path.
    await desk.register(contact, headers=[("Path", "<sip:198.51.100.1;lr>")])
    assert await desk.hops() == [SOURCE]


@pytest.mark.parametrize("path", ["nonsense", "<tel:1>", f"<sip:{'a' * 600}>", "<sip:a>," * 9])
async def test_a_path_that_leads_nowhere_is_refused(desk: Desk, path: str) -> None:
    response = await desk.register("<sip:1001@192.0.2.7>", headers=[("Path", path)])
    assert response.status == 400


async def test_outbound_is_promised_where_the_flow_is_kept(desk: Desk) -> None:
    contact = f"<sip:1001@10.0.0.9;transport=tcp>;reg-id=1;{INSTANCE};expires=600"
    supported = ("Supported", "path, outbound")
    response = await desk.register(contact, source=TCP, headers=[supported])
    assert response.status == 200
    assert response.headers.get("Require") == "outbound"
    assert response.headers.get("Flow-Timer") == "120"
    told = response.headers.get("Contact") or ""
    assert told.endswith(f";expires=600;{INSTANCE};reg-id=1")
    # Over UDP nobody answers STUN: the phone refreshes as of old.
    response = await desk.register(contact, headers=[supported])
    assert (response.status, response.headers.get("Require")) == (200, None)
    response = await desk.register(contact.replace(";reg-id=1", ""), headers=[supported])
    assert (response.status, response.headers.get("Require")) == (200, None)


async def test_outbound_through_a_proxy_needs_its_help(desk: Desk) -> None:
    contact = f"<sip:1001@10.0.0.9;transport=tcp>;reg-id=1;{INSTANCE};expires=600"
    supported = ("Supported", "path, outbound")
    response = await desk.register(contact, headers=[supported, ("Path", "<sip:192.0.2.7;lr>")])
    assert response.status == 439
    path = ("Path", "<sip:192.0.2.7;lr;ob>")
    response = await desk.register(contact, headers=[supported, path])
    assert response.headers.get("Require") == "outbound"
    assert response.headers.get("Flow-Timer") is None  # that is for the proxy to say


async def test_what_other_nodes_are_told(desk: Desk) -> None:
    for contact, source, expected in [
        ("<sip:1001@10.0.0.9>", SOURCE, "<sip:flow-3@192.0.2.1;lr>"),  # NAT
        ("<sip:1001@192.0.2.7:5062>", SOURCE, ""),  # they reach it by themselves
        ("<sip:1001@10.0.0.9;transport=tcp>", TCP, "<sip:flow-9@192.0.2.1;lr>"),
        ("<sip:1001@192.0.2.7;transport=tcp>", TCP, "<sip:flow-9@192.0.2.1;lr>"),
        ("<sip:1001@192.0.2.7;transport=tcp>", SOURCE, ""),
    ]:
        request = desk.request(contact)
        account = PhoneAccount(TENANT, "1001", {})
        lifetimes = Lifetimes(3600, 60, 3600, lambda asked_s: asked_s)
        order = read_register(
            request, account, source, lifetimes, route_of, lambda _hop: frozenset()
        )
        assert isinstance(order, RegisterOrder)
        (change,) = order.update.changes
        assert change.edge == expected


async def test_preferences_are_kept(desk: Desk) -> None:
    for text, q in [
        ("0.5", 500),
        ("1.000", 1000),
        (".25", 250),
        ("0", 0),
        ("2", 1000),
        ("x", 1000),
    ]:
        await desk.register(f"<sip:1001@192.0.2.7>;q={text}")
        (binding,) = await desk.store.lookup(TENANT, "1001")
        assert binding.q == q
    response = await desk.register("<sip:1001@192.0.2.7>;q=0.7;expires=600")
    assert response.headers.get("Contact") == "<sip:1001@192.0.2.7>;expires=600;q=0.7"


async def test_phones_that_came_at_once_do_not_return_at_once(desk: Desk) -> None:
    for share, expected in ((0.0, 540), (0.5, 570), (1.0, 600)):
        desk.share = share
        response = await desk.register("<sip:1001@192.0.2.7>;expires=600")
        assert response.headers.get("Contact") == f"<sip:1001@192.0.2.7>;expires={expected}"
    desk.share = 0.0
    response = await desk.register("<sip:1001@192.0.2.7>;expires=60")
    assert response.headers.get("Contact") == "<sip:1001@192.0.2.7>;expires=60"  # the minimum


async def test_nobody_registers_for_another(desk: Desk) -> None:
    for sender in ("<sip:1002@95598.example>;tag=1", "<sip:1001@other.example>;tag=1", "<tel:1>"):
        request = desk.request("<sip:1001@192.0.2.7>")
        request.headers.set("From", sender)
        assert (await desk.authorized(request)).status == 403
    assert await desk.hops() == []


async def test_a_moved_phone_names_its_old_contact_too(desk: Desk) -> None:
    await desk.register("<sip:1001@192.0.2.7:5060>")
    response = await desk.register(
        "<sip:1001@192.0.2.7:5070>;expires=600", "<sip:1001@192.0.2.7:5060>;expires=0"
    )
    assert response.headers.get_all("Contact") == ["<sip:1001@192.0.2.7:5070>;expires=600"]


@pytest.mark.parametrize(
    ("contact", "status"),
    [(f"<sip:{'1' * 600}@192.0.2.7>", 400), (", ".join(f"<sip:{n}@a>" for n in range(9)), 403)],
)
async def test_contacts_have_limits(desk: Desk, contact: str, status: int) -> None:
    assert (await desk.register(contact)).status == status


async def test_phones_are_told_the_time(desk: Desk) -> None:
    response = await desk.register("<sip:1001@192.0.2.7>")
    assert response.headers.get("Date") == "Mon, 12 Jan 1970 13:46:40 GMT"


async def test_what_registered_over_a_connection_goes_with_it(desk: Desk) -> None:
    listening = "<sip:1001@192.0.2.7:5070;transport=tcp>"
    await desk.register("<sip:1001@10.0.0.9;transport=tcp>", listening, source=TCP)
    desk.registrar.on_connection_lost(9)
    desk.registrar.on_connection_lost(10)
    await turn()
    # One that listens can be reached by another connection.
    assert await desk.hops() == [Hop("tcp", "192.0.2.7", 5070, 9)]
    assert desk.told.events[-1] == (
        "unregistered", TENANT, "1001", "sip:1001@10.0.0.9;transport=tcp",
    )  # fmt: skip


async def test_a_storm_is_told_when_to_return(registrar_node: RegistrarNode) -> None:
    registrar_node.store.waiting = 1_000_000
    peer = await RawPeer.create(registrar_node.address)
    peer.ask("REGISTER", headers=[("To", "<sip:1001@127.0.0.1>")])
    response = await peer.expect_status(503)
    assert response.headers.get("Retry-After") == "60"
    peer.close()


async def test_while_the_store_is_away(desk: Desk) -> None:
    desk.store.away = True
    response = await desk.register("<sip:1001@192.0.2.7>")
    assert response.status == 503
    assert response.headers.get("Retry-After") == "60"


class RegistrarNode(Node):
    """A node that takes registrations."""

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryContactStore()
        self.told = Told()
        self.agent = type(self.agent)(
            self.endpoint,
            on_invite=self._on_invite,
            registrar=registrar_of(self.store, self.told),
        )


@pytest.fixture
async def registrar_node() -> AsyncIterator[RegistrarNode]:
    node = RegistrarNode()
    await node.listen()
    yield node
    await node.agent.aclose()
    await node.endpoint.aclose()


async def register(
    client: UserAgent, node: RegistrarNode, *, password: str = PASSWORD, expires_s: int = 600
) -> int:
    return await client.register(
        registrar_uri="sip:127.0.0.1",
        aor="sip:1001@127.0.0.1",
        hop=Hop("udp", *node.address),
        credentials=Credentials("1001", password),
        expires_s=expires_s,
    )


async def test_our_own_client_registers(node: Node, registrar_node: RegistrarNode) -> None:
    assert await register(node.agent, registrar_node) == 600
    assert await register(node.agent, registrar_node, expires_s=10) == 60  # Min-Expires
    bindings = await registrar_node.store.lookup(TENANT, "1001")
    assert [each.contact_uri for each in bindings] == [f"sip:1001@127.0.0.1:{node.address[1]}"]
    assert bindings[0].hop.port == node.address[1]
    assert await register(node.agent, registrar_node, expires_s=0) == 0
    assert await registrar_node.store.lookup(TENANT, "1001") == []


async def test_our_own_client_is_refused(node: Node, registrar_node: RegistrarNode) -> None:
    with pytest.raises(PlatformError) as caught:
        await register(node.agent, registrar_node, password="wrong")
    assert caught.value.code is Code.AUTHENTICATION_FAILED
    assert ("authentication_failed", "1001", "127.0.0.1") in registrar_node.told.events
    registrar_node.store.away = True
    with pytest.raises(PlatformError) as caught:
        await register(node.agent, registrar_node)
    assert caught.value.code is Code.FAR_END_REFUSED


async def test_our_own_client_finds_nobody(node: Node) -> None:
    deaf = await RawPeer.create(node.address)
    with pytest.raises(PlatformError) as caught:
        await node.agent.register(
            registrar_uri="sip:127.0.0.1",
            aor="sip:1001@127.0.0.1",
            hop=Hop("udp", deaf.host, deaf.port),
            credentials=None,
            expires_s=60,
        )
    assert caught.value.code is Code.SIP_TIMEOUT
    deaf.close()


async def test_a_broken_register_is_answered_400(registrar_node: RegistrarNode) -> None:
    peer = await RawPeer.create(registrar_node.address)
    peer.ask("REGISTER", headers=[("To", "<tel:1001>")])
    await peer.expect_status(400)
    peer.close()


async def test_a_slow_store_is_not_waited_for_at_the_end() -> None:
    node = RegistrarNode()
    await node.listen()
    asked = asyncio.Event()

    def never(_update: object) -> asyncio.Future[None]:
        asked.set()
        return asyncio.get_running_loop().create_future()

    node.store.apply = never  # type: ignore[method-assign,assignment]
    client = SipEndpoint(user_agent="client", timers=FAST)
    agent = UserAgent(client, on_invite=lambda _session: None)
    await client.listen("udp", "127.0.0.1", 0)
    pending = asyncio.ensure_future(register(agent, node))
    await asyncio.wait_for(asked.wait(), 5)
    await asyncio.wait_for(node.agent.aclose(), 5)
    pending.cancel()
    await asyncio.gather(pending, return_exceptions=True)
    await node.endpoint.aclose()
    await client.aclose()
