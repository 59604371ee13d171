"""The nodes that share a Redis, and where each takes SIP from the others."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import cast

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from cti.sip.messages.message import SipSyntaxError
from cti.sip.messages.uri import NameAddr, SipUri
from cti.sip.transports.transport import Hop, TransportName, default_port
from domain.ids import NodeId
from domain.tasks import end_tasks

log = structlog.get_logger(__name__)

_KEY = "{cti95598}:sip-nodes"
_REFRESH_S = 5.0
_LEASE_S = 15
_FORGOTTEN_S = 3600
_REDIS_PATIENCE_S = 3.0

Address = tuple[TransportName, str, int]


class NodeAddresses:
    """Publishes the SIP addresses of this node under a lease, and knows those of the others.

    While Redis is away, what was last known stands: nodes do not die of that.
    """

    def __init__(
        self, redis: Redis, *, node: NodeId, unix_clock: Callable[[], float] = time.time
    ) -> None:
        self._redis = redis
        self._node = node
        self._unix_clock = unix_clock
        self._own: tuple[Address, ...] = ()
        self._alive: frozenset[NodeId] = frozenset()
        self._hosts: frozenset[str] = frozenset()
        self._datagram_sources: frozenset[tuple[str, int]] = frozenset()
        self._task: asyncio.Task[None] | None = None

    async def start(self, addresses: Sequence[Address]) -> None:
        """Publish these addresses until the end, the preferred one first."""
        self._own = tuple(addresses)
        await self._try_refresh()
        self._task = asyncio.get_running_loop().create_task(self._keep())

    async def aclose(self) -> None:
        """Withdraw the addresses."""
        if self._task is not None:
            await end_tasks([self._task])
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(_REDIS_PATIENCE_S):
                await self._redis.hdel(_KEY, self._node)

    def is_alive(self, node: NodeId) -> bool:
        """Whether a node published its addresses of late."""
        return node in self._alive

    def is_alone(self) -> bool:
        """Whether no other node is there, as of some seconds ago."""
        return self._alive == {self._node}

    def is_node(self, hop: Hop) -> bool:
        """Whether a hop is a node's: datagrams come from its port, connections from any."""
        if hop.transport == "udp":
            return (hop.host, hop.port) in self._datagram_sources
        return hop.host in self._hosts

    async def refresh(self) -> None:
        """Renew the lease and read those of the others."""
        now_s = int(self._unix_clock())
        own = " ".join(f"{transport},{host},{port}" for transport, host, port in self._own)
        async with asyncio.timeout(_REDIS_PATIENCE_S), self._redis.pipeline() as pipeline:
            pipeline.hset(_KEY, self._node, f"{now_s + _LEASE_S} {own}")
            pipeline.hgetall(_KEY)
            _, stored = await pipeline.execute()
        alive, dead, addresses = set(), [], set(self._own)
        for name, text in stored.items():
            expires, *published = text.decode().split(" ")
            if int(expires) > now_s:
                alive.add(NodeId(name.decode()))
                addresses.update(_address(each) for each in published if each)
            elif int(expires) < now_s - _FORGOTTEN_S:
                dead.append(name)
        self._alive = frozenset(alive)
        self._hosts = frozenset(host for _, host, _ in addresses)
        self._datagram_sources = frozenset(
            (host, port) for transport, host, port in addresses if transport == "udp"
        )
        if dead:
            async with asyncio.timeout(_REDIS_PATIENCE_S):
                await self._redis.hdel(_KEY, *dead)

    async def _try_refresh(self) -> None:
        try:
            await self.refresh()
        except (RedisError, OSError, TimeoutError, ValueError) as error:
            log.debug("node addresses are not renewed", error=str(error))

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(_REFRESH_S)
            await self._try_refresh()


def _address(text: str) -> Address:
    transport, host, port = text.split(",")
    return cast("TransportName", transport), host, int(port)


def hop_of_route(route: str) -> Hop | None:
    """Return where a Route of a node leads; nodes write addresses and not names."""
    try:
        uri = NameAddr.parse(route).uri
    except SipSyntaxError:
        return None
    if not isinstance(uri, SipUri):
        return None
    transport = cast("TransportName", (uri.params.get("transport") or "udp").lower())
    return Hop(transport, uri.host, uri.port or default_port(transport))
