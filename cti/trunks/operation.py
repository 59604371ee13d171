"""The trunks of a node at work: probes, registrations, calls out, and what operators see."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator

import structlog

from cti.admission import Admission
from cti.sip.transports.transport import Hop
from cti.sip.user_agent import UserAgent
from cti.trunks.health import HealthState
from cti.trunks.health_book import HealthBook
from cti.trunks.outbound import Locate, OutboundTrunks, PasswordOf
from cti.trunks.probing import Prober
from cti.trunks.registering import CarrierRegistrations
from cti.trunks.registration import Registration
from cti.trunks.settings import ProbeSettings
from cti.trunks.status import HopStatus, RegistrationStatus, TrunkStatus
from cti.trunks.target import Target, targets_of
from cti.trunks.trunk import Trunk
from cti95598.events.v1.events_pb2 import TrunkStateChanged
from domain.events import EventStamp
from domain.ids import TenantId

_log = structlog.get_logger(__name__)

_BEST_FIRST = (HealthState.UP, HealthState.UNKNOWN, HealthState.DOWN)


class TrunkOperation:
    """Starts after the node listens; `reload` after the admission has a new configuration."""

    def __init__(
        self,
        *,
        user_agent: UserAgent,
        admission: Admission,
        locate: Locate,
        password_of: PasswordOf,
        events: EventStamp,
        first_wait_s: float | None = None,
    ) -> None:
        """`first_wait_s` is the wait after a registration's first failure."""
        self._admission = admission
        self._events = events
        self._clock = asyncio.get_running_loop().time
        self._book = HealthBook(self._clock)
        self._book.on_change = self._server_changed
        self._prober = Prober(user_agent, self._book, locate)
        self._prober.on_located = self._located
        self._registrations = CarrierRegistrations(
            user_agent.endpoint, locate, password_of, first_wait_s=first_wait_s
        )
        self._registrations.on_located = admission.learn
        self._registrations.on_service_route = self._routed
        self._trunks_of_server: dict[str, list[Trunk]] = {}
        self._told: dict[tuple[TenantId, str], tuple[HealthState, float]] = {}
        self.outbound = OutboundTrunks(lambda: admission.directory, self._book, locate, password_of)

    def start(self) -> None:
        """Begin to probe and to register."""
        self.reload()

    def reload(self) -> None:
        """Take over the trunks that the admission has now; calls are not touched."""
        self._watch()
        self._registrations.keep(self._admission.directory.trunks.values())

    def _watch(self) -> None:
        """Probe all that calls may go to, and nothing else."""
        of_server: dict[str, list[Trunk]] = defaultdict(list)
        probes: dict[Target, ProbeSettings] = {}
        for trunk in self._admission.directory.trunks.values():
            for target in targets_of(trunk):
                of_server[str(target)].append(trunk)
                probes[target] = _stricter(probes.get(target), trunk.settings.probe)
        self._trunks_of_server = dict(of_server)
        self._told = {key: told for key, told in self._told.items() if key in self._all_keys()}
        self._prober.watch(probes)

    async def aclose(self) -> None:
        """Stop probing, and take the registrations away."""
        await self._prober.aclose()
        await self._registrations.aclose()

    # What operators see

    def statuses(self) -> Iterator[TrunkStatus]:
        """Yield the state of each trunk."""
        now = self._clock()
        registrations = self._registrations.by_trunk()
        for key, trunk in self._admission.directory.trunks.items():
            yield self._status(trunk, registrations.get(key, []), now)

    def _status(
        self, trunk: Trunk, registrations: list[tuple[str, Registration]], now: float
    ) -> TrunkStatus:
        hops = []
        for uri in map(str, targets_of(trunk)):
            server = self._book.servers.get(uri)
            if server is not None:
                hops += [HopStatus.of(uri, hop, health, now) for hop, health in server.hops.items()]
                if not server.hops:
                    hops.append(HopStatus.unresolved(uri, server.unresolved))
        state, since_s = self._told.get(
            (trunk.tenant, trunk.name), (self._state(trunk), self._since_s(trunk))
        )
        limit = trunk.limit
        return TrunkStatus(
            tenant=trunk.tenant,
            trunk=trunk.name,
            is_outbound=bool(trunk.settings.server),
            state=state,
            for_s=max(0.0, now - since_s) if since_s is not None else None,
            calls=limit.calls,
            outbound_calls=limit.outbound_calls,
            max_calls=limit.max_calls,
            calls_per_second=round(limit.calls_per_second(now), 1),
            max_calls_per_second=limit.max_calls_per_second,
            hops=hops,
            registrations=[
                RegistrationStatus.of(registrar, registration, now)
                for registrar, registration in registrations
            ],
        )

    # What the parts tell

    def _server_changed(self, uri: str) -> None:
        server = self._book.servers[uri]
        reason = server.unresolved or next(
            (health.last_failure for health in server.hops.values() if health.last_failure), ""
        )
        log = _log.warning if server.state is HealthState.DOWN else _log.info
        log("trunk_server", server=uri, state=server.state, reason=reason)
        for trunk in self._trunks_of_server.get(uri, ()):
            self._tell(trunk, reason)

    def _tell(self, trunk: Trunk, reason: str) -> None:
        key = (trunk.tenant, trunk.name)
        now = self._clock()
        before, since_s = self._told.get(key, (HealthState.UNKNOWN, now))
        state = self._state(trunk)
        if state is before:
            return
        self._told[key] = (state, now)
        self._events.publish(
            trunk.tenant,
            TrunkStateChanged(
                trunk=trunk.name,
                from_state=before,
                to_state=state,
                reason="" if state is HealthState.UP else reason,
                previous_ms=round((now - since_s) * 1000),
            ),
        )

    def _state(self, trunk: Trunk) -> HealthState:
        states = {
            server.state
            for uri in map(str, targets_of(trunk))
            if (server := self._book.servers.get(uri)) is not None
        }
        return next((state for state in _BEST_FIRST if state in states), HealthState.UNKNOWN)

    def _since_s(self, trunk: Trunk) -> float | None:
        since = [
            server.since_s
            for uri in map(str, targets_of(trunk))
            if (server := self._book.servers.get(uri)) is not None
        ]
        return min(since, default=None)

    def _located(self, uri: str, hops: list[Hop]) -> None:
        """Calls of a registered trunk come from its servers too."""
        for trunk in self._trunks_of_server.get(uri, ()):
            if trunk.settings.register_ is not None:
                self._admission.learn(trunk.contact_user, uri, {hop.host for hop in hops})

    def _routed(self, tenant: TenantId, name: str, registrar: str, route: tuple[str, ...]) -> None:
        """Calls of a registered trunk pass the proxies that its registrar names."""
        trunk = self._admission.directory.trunks.get((tenant, name))
        if trunk is not None and trunk.service_routes.get(registrar, ()) != route:
            trunk.service_routes[registrar] = route
            self._watch()

    def _all_keys(self) -> set[tuple[TenantId, str]]:
        return set(self._admission.directory.trunks)


def _stricter(one: ProbeSettings | None, other: ProbeSettings) -> ProbeSettings:
    """Return how a server that trunks share is probed: as the one who asks most often wants."""
    if one is None or not one.interval_s:
        return other
    return other if 0 < other.interval_s < one.interval_s else one
