"""The state of trunks as plain data, for the node's gateway and the command that shows it."""

from __future__ import annotations

from dataclasses import dataclass

from cti.sip.messages.syntax import format_host_port
from cti.sip.transports.transport import Hop
from cti.trunks.health import HealthState, HopHealth
from cti.trunks.registration import Registration, RegistrationState
from domain.ids import TenantId


@dataclass(frozen=True, slots=True)
class HopStatus:
    """One address of a carrier. Times are seconds ago."""

    server: str
    address: str
    state: HealthState
    is_suspect: bool = False
    rests_for_s: float = 0.0
    probed_ago_s: float | None = None
    last_failure: str = ""
    last_failure_ago_s: float | None = None

    @classmethod
    def of(cls, server: str, hop: Hop, health: HopHealth, now: float) -> HopStatus:
        """Read the health of an address."""
        rests_for_s = max(0.0, health.busy_until_s - now)
        return cls(
            server=server,
            address=f"{hop.transport} {format_host_port(hop.host, hop.port)}",
            state=health.state,
            is_suspect=health.is_suspect,
            rests_for_s=round(rests_for_s, 1),
            probed_ago_s=_ago(health.probed_s, now),
            last_failure=health.last_failure,
            last_failure_ago_s=_ago(health.last_failure_s, now),
        )

    @classmethod
    def unresolved(cls, server: str, why: str) -> HopStatus:
        """A server without an address."""
        state = HealthState.DOWN if why else HealthState.UNKNOWN
        return cls(server=server, address="", state=state, last_failure=why)


@dataclass(frozen=True, slots=True)
class RegistrationStatus:
    """One of our registrations."""

    registrar: str
    state: RegistrationState
    for_s: float
    granted_s: int
    next_attempt_s: float
    last_failure: str

    @classmethod
    def of(cls, registrar: str, registration: Registration, now: float) -> RegistrationStatus:
        """Read a registration."""
        return cls(
            registrar=registrar,
            state=registration.state(now),
            for_s=round(now - registration.since_s, 1),
            granted_s=registration.granted_s,
            next_attempt_s=round(max(0.0, registration.next_attempt_s - now), 1),
            last_failure=registration.last_failure,
        )


@dataclass(frozen=True, slots=True)
class TrunkStatus:
    """One trunk."""

    tenant: TenantId
    trunk: str
    is_outbound: bool
    """Whether it has servers to send to; else nothing is probed."""
    state: HealthState
    for_s: float | None
    calls: int
    outbound_calls: int
    max_calls: int
    calls_per_second: float
    max_calls_per_second: int
    hops: list[HopStatus]
    registrations: list[RegistrationStatus]


def _ago(moment_s: float | None, now: float) -> float | None:
    return None if moment_s is None else round(now - moment_s, 1)
