"""The health of all servers of all trunks, by server and address; trunks of one server share it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cti.sip.transports.transport import Hop
from cti.trunks.health import HealthState, HopHealth, ProbeResult
from cti.trunks.settings import ProbeSettings


class ServerHealth:
    """The addresses of one server URI."""

    def __init__(self, uri: str, probe: ProbeSettings, now: float) -> None:
        self.uri = uri
        self.probe = probe
        self.since_s = now
        self.hops: dict[Hop, HopHealth] = {}
        self.unresolved = ""
        """Why no address was found when it was last looked for."""
        self.wake = asyncio.Event()
        """Set when an address should be probed at once."""

    @property
    def state(self) -> HealthState:
        """The best that any address is."""
        states = {health.state for health in self.hops.values()}
        if not states:
            return HealthState.DOWN if self.unresolved else HealthState.UNKNOWN
        for state in (HealthState.UP, HealthState.UNKNOWN):
            if state in states:
                return state
        return HealthState.DOWN

    def is_fit(self, now: float) -> bool:
        """Tell whether new calls should go to any of its addresses."""
        if not self.hops:
            return not self.unresolved
        return any(health.is_fit(now) for health in self.hops.values())

    def resolved(self, hops: list[Hop], now: float) -> None:
        """Take the addresses that DNS gives now; those that stay keep their health."""
        self.unresolved = ""
        self.hops = {hop: self.hops.get(hop) or HopHealth(self.probe, now) for hop in hops}

    def not_resolved(self, why: str) -> None:
        """Note that no address was found; those of the last time stay in use."""
        self.unresolved = why


class HealthBook:
    """What calls and probes know of the servers."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._servers: dict[str, ServerHealth] = {}
        self.on_change: Callable[[str], None] = _nobody_listens
        """Told the URI of a server whose state has changed."""

    @property
    def servers(self) -> dict[str, ServerHealth]:
        """All servers by URI."""
        return self._servers

    def watch(self, uri: str, probe: ProbeSettings) -> ServerHealth:
        """Keep a server's health; the same again unless its probing is to change."""
        server = self._servers.get(uri)
        if server is None or server.probe != probe:
            server = self._servers[uri] = ServerHealth(uri, probe, self._clock())
        return server

    def forget(self, uri: str) -> None:
        """Keep a server's health no more."""
        self._servers.pop(uri, None)

    def hops_of(self, uri: str) -> list[Hop]:
        """Return the addresses that were found last."""
        server = self._servers.get(uri)
        return [] if server is None else list(server.hops)

    def is_server_fit(self, uri: str, now: float) -> bool:
        """Tell whether new calls should go to a server; one that nobody watches may be tried."""
        server = self._servers.get(uri)
        return server is None or server.is_fit(now)

    def is_fit(self, uri: str, hop: Hop, now: float) -> bool:
        """Tell whether new calls should go to an address."""
        health = self._health(uri, hop)
        return health is None or health.is_fit(now)

    def call_taken(self, uri: str, hop: Hop) -> None:
        """An address took a call, or refused it for the callee."""
        health = self._health(uri, hop)
        if health is not None:
            health.call_taken()

    def call_failed(
        self, uri: str, hop: Hop, *, is_silent: bool, detail: str, retry_after_s: float
    ) -> None:
        """An address failed a call."""
        health = self._health(uri, hop)
        if health is not None and health.call_failed(
            self._clock(), is_silent=is_silent, detail=detail, retry_after_s=retry_after_s
        ):
            self._servers[uri].wake.set()

    def probed(self, server: ServerHealth, hop: Hop, result: ProbeResult) -> None:
        """Take the result of a probe."""
        health = server.hops.get(hop)
        if health is None:
            return
        before = server.state
        health.probed(result, self._clock())
        self.compare(server, before)

    def compare(self, server: ServerHealth, before: HealthState) -> None:
        """Tell of a server's state if it has changed."""
        if server.state is not before:
            server.since_s = self._clock()
            self.on_change(server.uri)

    def _health(self, uri: str, hop: Hop) -> HopHealth | None:
        server = self._servers.get(uri)
        return None if server is None else server.hops.get(hop)


def _nobody_listens(_uri: str) -> None:
    """Take news that nobody asked for."""
