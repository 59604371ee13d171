"""Registration of phones in a process: digest, registrar, and how other nodes reach the phones."""

from __future__ import annotations

import contextlib

from redis.asyncio import Redis

from cti.contacts import RedisContactStore
from cti.nodes import Address, NodeAddresses, hop_of_route
from cti.settings import SipSettings
from cti.shared_secrets import SharedSecrets
from cti.sip.digest import DigestServer
from cti.sip.edge import Edge
from cti.sip.endpoint import SipEndpoint
from cti.sip.nat_keepalive import NatKeepAlive
from cti.sip.phone_auth import FailureHook, PhoneAuthenticator, PhoneDirectory
from cti.sip.registrar import Registrar, RegistrarEvents
from cti.sip.transport import Hop, TransportName
from domain.failures import PlatformError
from domain.ids import NodeId

# Nodes talk to each other over what needs no certificate; of each address family one socket.
_BETWEEN_NODES: tuple[TransportName, ...] = ("udp", "tcp")
_FAMILIES = ("127.0.0.1", "::1")


class Registration:
    """What a node needs to let phones register and to call those of other nodes."""

    def __init__(
        self,
        settings: SipSettings,
        *,
        endpoint: SipEndpoint,
        redis: Redis,
        node: NodeId,
        phones: PhoneDirectory,
        contacts: RedisContactStore,
        events: RegistrarEvents,
        on_failure: FailureHook,
    ) -> None:
        self._endpoint = endpoint
        self._secrets = SharedSecrets(redis, purpose="digest")
        self._nodes = NodeAddresses(redis, node=node)
        self._edge = endpoint.edge = Edge(endpoint, is_node=self._nodes.is_node)
        contacts.is_alive = self._nodes.is_alive
        contacts.hop_of_route = hop_of_route
        self.digest = DigestServer(
            settings.realm, algorithms=settings.digest_algorithms, secret_of=self._secrets.of
        )
        """Judges all who authenticate with this node, over any node's challenge."""
        self.authenticator = PhoneAuthenticator(phones, self.digest, on_failure=on_failure)
        keep_alive = None
        if settings.nat_keepalive_s:
            keep_alive = NatKeepAlive(
                endpoint, interval_s=settings.nat_keepalive_s, branch=self._edge.new_branch
            )
        self.registrar = Registrar(
            authenticator=self.authenticator,
            store=contacts,
            events=events,
            keep_alive=keep_alive,
            route_of=self._edge.route_of,
            default_expires_s=settings.register_expires_default_s,
            min_expires_s=settings.register_expires_min_s,
            max_expires_s=settings.register_expires_max_s,
        )
        endpoint.on_flow_lost = self.registrar.on_connection_lost

    async def start(self) -> None:
        """Learn the shared secrets; to be called before the endpoint listens."""
        await self._secrets.start()

    async def publish(self) -> None:
        """Tell the other nodes where this one listens."""
        addresses: list[Address] = []
        for transport in _BETWEEN_NODES:
            for family in _FAMILIES:
                with contextlib.suppress(PlatformError):
                    found = self._endpoint.local_address(transport, Hop(transport, family, 0))
                    addresses.append((transport, *found))
        if addresses:
            self._edge.take_from(*addresses[0])
        await self._nodes.start(addresses)

    async def aclose(self) -> None:
        """Leave the other nodes."""
        self.registrar.close()
        await self._nodes.aclose()
        await self._secrets.aclose()
