"""Two nodes that share a Redis, and phones that register with them."""

from __future__ import annotations

import asyncio

from redis.asyncio import Redis

from cti.shared.contacts import Binding, RedisContactStore
from cti.shared.nodes import Address, NodeAddresses, hop_of_route
from cti.shared.ways import Way
from cti.sip.authentication.digest import Credentials, DigestServer, ha1
from cti.sip.authentication.phone_auth import PhoneAccount, PhoneAuthenticator
from cti.sip.edge import Edge
from cti.sip.registration.registrar import Registrar
from cti.sip.sessions.session import InviteSession
from cti.sip.transports.tls_files import Tls
from cti.sip.transports.transport import TRANSPORTS, Hop, TransportName
from cti.sip.user_agent import UserAgent
from domain.ids import NodeId, TenantId
from domain.redis_line import RedisLine
from tests.sip_session.conftest import Node, WatchedAgent
from tests.sip_session.observer import Recorder
from tests.sip_session.peer import OFFER

TENANT = TenantId("sx")
REALM = "127.0.0.1"
PASSWORD = "Dianli-95598"
USER = "1001"


class Directory:
    """One phone."""

    def find(self, user: str, domain: str) -> PhoneAccount | None:
        return PhoneAccount(TENANT, user, {"MD5": ha1("MD5", user, REALM, PASSWORD)})


class PlatformNode(Node):
    """A node with registrar and edge, over UDP, TCP and WS; with a certificate over all."""

    def __init__(self, name: str, redis: Redis, tls: Tls | None = None) -> None:
        super().__init__(tls=tls)
        self.transports: tuple[TransportName, ...] = TRANSPORTS if tls else ("udp", "tcp", "ws")
        self.name = NodeId(name)
        self.contacts = RedisContactStore(RedisLine(redis), node=self.name)
        self.nodes = NodeAddresses(redis, node=self.name)
        self.contacts.is_alive = self.nodes.is_alive
        self.contacts.hop_of_route = hop_of_route
        self.edge = Edge(self.endpoint, is_node=self.nodes.is_node)
        self.endpoint.edge = self.edge
        self.authenticator = PhoneAuthenticator(Directory(), DigestServer(REALM))
        self.registrar = Registrar(
            authenticator=self.authenticator,
            store=self.contacts,
            route_of=self.edge.route_of,
            identities_of=self.endpoint.identities_of,
        )
        self.endpoint.on_flow_lost = self.registrar.on_connection_lost
        self.agent = WatchedAgent(
            self.endpoint, on_invite=self._on_invite, registrar=self.registrar
        )
        self.addresses: dict[TransportName, tuple[str, int]] = {}

    async def start(self) -> None:
        for transport in self.transports:
            address = await self.endpoint.listen(transport, "127.0.0.1", 0)
            self.addresses[transport] = address
        self.address = self.addresses["udp"]
        self.edge.take_from("udp", *self.address)
        published: list[Address] = [(name, *self.addresses[name]) for name in ("udp", "tcp")]
        await self.nodes.start(published)

    def hop(self, transport: TransportName) -> Hop:
        return Hop(transport, *self.addresses[transport])

    async def phones(self) -> list[Binding]:
        return await self.contacts.lookup(TENANT, USER)

    def ring(self, way: Way, sdp: bytes = OFFER) -> tuple[InviteSession, Recorder]:
        told = Recorder()
        session = self.agent.invite(
            way.uri,
            from_="sip:95598@127.0.0.1",
            hop=way.hop,
            route=way.route,
            sdp=sdp,
            observer=told,
        )
        return session, told

    async def aclose(self) -> None:
        await self.nodes.aclose()
        await self.contacts.aclose()
        await self.agent.aclose()
        await self.endpoint.aclose()


class Phone(Node):
    """A phone with a UDP socket, and whatever connections it opens."""

    async def start(self) -> None:
        await self.listen()

    async def register(
        self, node: PlatformNode, transport: TransportName, agent: UserAgent | None = None
    ) -> int:
        return await (agent or self.agent).register(
            registrar_uri=f"sip:127.0.0.1:{node.addresses[transport][1]}",
            aor=f"sip:{USER}@127.0.0.1",
            hop=node.hop(transport),
            credentials=Credentials(USER, PASSWORD),
            expires_s=600,
        )

    async def hang_up_connections(self) -> None:
        """Close all connections, as a phone that restarts does."""
        await self.endpoint.aclose()


async def known_to_each_other(*nodes: PlatformNode) -> None:
    """Have all nodes read where the others are."""
    await asyncio.gather(*(each.nodes.refresh() for each in nodes))
