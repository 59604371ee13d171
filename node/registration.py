"""Registration of phones in a process: digest, registrar, and how other nodes reach the phones."""

from __future__ import annotations

import contextlib
from ipaddress import ip_address

from redis.asyncio import Redis

from cti.settings import SipSettings
from cti.shared.contacts import RedisContactStore
from cti.shared.nodes import Address, NodeAddresses, hop_of_route
from cti.shared.shared_secrets import SharedSecrets
from cti.sip.authentication.digest import DigestServer
from cti.sip.authentication.phone_auth import (
    FailureHook,
    PhoneAuthenticator,
    PhoneDirectory,
    SuccessHook,
)
from cti.sip.edge import Edge
from cti.sip.endpoint import SipEndpoint
from cti.sip.registration.nat_keepalive import NatKeepAlive
from cti.sip.registration.registrar import Registrar, RegistrarEvents
from cti.sip.transports.transport import Hop, TransportName, address_family
from domain.failures import PlatformError
from domain.ids import NodeId

# Nodes talk to each other over what needs no certificate.
_BETWEEN_NODES: tuple[TransportName, ...] = ("udp", "tcp")


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
        on_success: SuccessHook | None = None,
    ) -> None:
        self._settings = settings
        self._endpoint = endpoint
        self._secrets = SharedSecrets(redis, purpose="digest")
        self._nodes = NodeAddresses(redis, node=node)
        self._edge = endpoint.edge = Edge(endpoint, is_node=self._nodes.is_node)
        contacts.is_alive = self._nodes.is_alive
        contacts.is_alone = self._nodes.is_alone
        contacts.hop_of_route = hop_of_route
        self.digest = DigestServer(
            settings.realm, algorithms=settings.digest_algorithms, secret_of=self._secrets.of
        )
        """Judges all who authenticate with this node, over any node's challenge."""
        self.authenticator = PhoneAuthenticator(
            phones, self.digest, on_failure=on_failure, on_success=on_success
        )
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
            identities_of=endpoint.identities_of,
            default_expires_s=settings.register_expires_default_s,
            min_expires_s=settings.register_expires_min_s,
            max_expires_s=settings.register_expires_max_s,
        )
        endpoint.on_flow_lost = self.registrar.on_connection_lost

    async def start(self) -> None:
        """Learn the shared secrets; to be called before the endpoint listens."""
        self._addresses()  # the first phone that registers is reached through us already
        await self._secrets.start()

    async def publish(self) -> None:
        """Tell the other nodes where this one listens."""
        await self._nodes.start(self._addresses())

    def _addresses(self) -> list[Address]:
        """Return where other nodes reach this one, as listeners are bound: no name, no NAT."""
        addresses: list[Address] = []
        for transport in _BETWEEN_NODES:
            for one in self._settings.listen:
                if one.transport != transport:
                    continue
                host = one.host
                if host in {"0.0.0.0", "::"}:
                    host = one.advertised_host or self._settings.advertised_host or ""
                port = one.port or self._port_taken(transport, one.host)
                if port and address_family(host) is not None:
                    addresses.append((transport, host, port))
        # Behind a loopback address nobody else is reached; the first of the others serves.
        addresses.sort(key=lambda each: ip_address(each[1]).is_loopback)
        if addresses:
            self._edge.take_from(*addresses[0])
        return addresses

    def _port_taken(self, transport: TransportName, host: str) -> int:
        """Return the port that took the place of 0."""
        with contextlib.suppress(PlatformError):
            return self._endpoint.local_address(transport, Hop(transport, host, 0))[1]
        return 0

    async def aclose(self) -> None:
        """Leave the other nodes."""
        self.registrar.close()
        await self._nodes.aclose()
        await self._secrets.aclose()
