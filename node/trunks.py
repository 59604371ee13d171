"""Trunks as a node runs them: their passwords, metrics, and the page that operators read."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter
from prometheus_client import REGISTRY
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cti.admission import Admission
from cti.sip.authentication.digest import DigestServer
from cti.sip.location.resolver import Resolver
from cti.sip.user_agent import UserAgent
from cti.trunks.authentication import TrunkAuthenticator
from cti.trunks.health import HealthState
from cti.trunks.operation import TrunkOperation
from cti.trunks.outbound import OutboundTrunks
from domain.events import EventStamp
from node.credentials import Credentials

_LABELS = ("tenant", "trunk")


class NodeTrunks(Collector):
    """The trunks of one node, from the time it listens until it stops."""

    def __init__(
        self,
        *,
        user_agent: UserAgent,
        admission: Admission,
        resolver: Resolver,
        credentials: Callable[[], Credentials],
        events: EventStamp,
        digest: DigestServer,
    ) -> None:
        """`credentials` gives those in use, which change with the configuration."""
        admission.authenticator = TrunkAuthenticator(
            digest,
            lambda tenant, user: credentials().trunk_ha1(tenant, user),
        )
        admission.identities_of = user_agent.endpoint.identities_of
        self._operation = TrunkOperation(
            user_agent=user_agent,
            admission=admission,
            locate=resolver.locate,
            password_of=lambda tenant, trunk: credentials().carrier_password(tenant, trunk),
            events=events,
        )

    @property
    def outbound(self) -> OutboundTrunks:
        """Calls out."""
        return self._operation.outbound

    def start(self) -> None:
        """Probe and register."""
        self._operation.start()
        REGISTRY.register(self)

    def reload(self) -> None:
        """Take over the trunks and passwords of a new configuration."""
        self._operation.reload()

    async def aclose(self) -> None:
        """Stop probing, and take our registrations away."""
        with contextlib.suppress(KeyError):  # a start that did not come so far
            REGISTRY.unregister(self)
        await self._operation.aclose()

    def statuses(self) -> list[dict[str, Any]]:
        """Return the state of all trunks as JSON has it."""
        return [asdict(status) for status in self._operation.statuses()]

    def collect(self) -> Iterator[Metric]:
        """See Collector."""
        up = GaugeMetricFamily("trunk_up", "Whether a trunk's servers answer", labels=_LABELS)
        calls = GaugeMetricFamily("trunk_calls", "Live calls of a trunk", labels=_LABELS)
        for status in self._operation.statuses():
            labels = (status.tenant, status.trunk)
            calls.add_metric(labels, status.calls)
            if status.state is not HealthState.UNKNOWN:
                up.add_metric(labels, float(status.state is HealthState.UP))
        yield up
        yield calls


def trunks_router(statuses: Callable[[], list[dict[str, Any]]]) -> APIRouter:
    """Show the trunks to whoever sees the gateway."""
    router = APIRouter()

    @router.get("/trunks")
    async def trunks() -> list[dict[str, Any]]:
        return statuses()

    return router
