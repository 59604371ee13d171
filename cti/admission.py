"""Who may call whom: trunk by source address, access code by called number, limits.

Pure: time comes in as monotonic seconds. One object holds the counts of live calls of a node.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cti.settings import (
    AccessCodeSettings,
    CallLimitSettings,
    IpNetwork,
    LandingCodeSource,
    TrunkSettings,
)
from domain.failures import Code, PlatformError
from domain.ids import TenantId

# RFC 3966 section 5.1.1: visual separators of telephone numbers.
_SEPARATORS = str.maketrans("", "", "-.()")
_HOME_COUNTRY_PREFIXES = ("+86", "0086")
_MAX_REMEMBERED_SOURCES = 1024


@dataclass(frozen=True, slots=True)
class TenantAccess:
    """The trunks and access codes of one tenant."""

    tenant: TenantId
    trunks: Sequence[TrunkSettings]
    access_codes: Sequence[AccessCodeSettings]


@dataclass(frozen=True, slots=True)
class Admitted:
    """A call that may come in; give it back with `Admission.release` when it has ended."""

    tenant: TenantId
    trunk: Trunk
    access_code: AccessCodeSettings


@dataclass(frozen=True, slots=True)
class Refused:
    """A call that may not; tenant and trunk are empty where they are not known."""

    code: Code
    tenant: TenantId
    trunk: Trunk | None = None


def normalised_number(user: str) -> str:
    """Return a dialled number without URI parameters, separators and the home country's prefix."""
    number = user.partition(";")[0].translate(_SEPARATORS)
    for prefix in _HOME_COUNTRY_PREFIXES:
        if number.startswith(prefix):
            return number[len(prefix) :]
    return number


class TokenBucket:
    """A rate: holds up to one second's worth, and at least one."""

    __slots__ = ("_capacity", "_last_s", "_rate", "_tokens")

    def __init__(self, per_second: float) -> None:
        self._rate = per_second
        self._capacity = self._tokens = max(1.0, per_second)
        self._last_s = 0.0

    def has_token(self, now: float) -> bool:
        """Tell whether `take` is allowed now."""
        if now > self._last_s:
            refilled = self._tokens + (now - self._last_s) * self._rate
            self._tokens = min(self._capacity, refilled)
            self._last_s = now
        return self._tokens >= 1.0

    def take(self) -> None:
        """Use one token, after `has_token`."""
        self._tokens -= 1.0


class CallLimit:
    """A limit of live calls and of calls a second."""

    __slots__ = ("_bucket", "_max_calls", "calls")

    def __init__(self, max_calls: int, max_calls_per_second: int) -> None:
        self.calls = 0
        self.change(max_calls, max_calls_per_second)

    def change(self, max_calls: int, max_calls_per_second: int) -> None:
        """Set other bounds; live calls stay counted."""
        self._max_calls = max_calls
        self._bucket = TokenBucket(max_calls_per_second)

    def has_room(self, now: float) -> bool:
        """Tell whether one more call fits now."""
        return self._bucket.has_token(now) and self.calls < self._max_calls

    def take(self) -> None:
        """Count one call in, after `has_room`."""
        self._bucket.take()
        self.calls += 1

    def release(self) -> None:
        """Count one call out."""
        self.calls -= 1


class Trunk:
    """A trunk of a tenant with its live calls."""

    __slots__ = ("landing_code", "limit", "name", "networks", "settings", "tenant")

    def __init__(self, tenant: TenantId, settings: TrunkSettings) -> None:
        self.tenant = tenant
        self.settings = settings
        self.name = settings.name
        self.networks: tuple[IpNetwork, ...] = tuple(settings.addresses)
        self.landing_code: LandingCodeSource = settings.landing_code
        self.limit = CallLimit(settings.max_calls, settings.max_calls_per_second)

    def match_bits(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> int:
        """Return the length of the longest network prefix that holds the address, -1 for none."""
        return max((net.prefixlen for net in self.networks if address in net), default=-1)


class Admission:
    """Admits or refuses the calls of one node."""

    def __init__(
        self, tenants: Iterable[TenantAccess], limit: CallLimitSettings | None = None
    ) -> None:
        """Raise PlatformError CONFIG_INVALID where trunks and codes leave a call ambiguous."""
        limit = limit or CallLimitSettings()
        self._limit = CallLimit(limit.max_calls, limit.max_calls_per_second)
        self._fill(tenants)

    def load(self, tenants: Sequence[TenantAccess], limit: CallLimitSettings | None = None) -> None:
        """Take over a new configuration, or raise as at first and keep the present one.

        Calls in progress stay counted: a trunk of the same name keeps its limit's count.
        """
        Admission(tenants)
        limit = limit or CallLimitSettings()
        self._limit.change(limit.max_calls, limit.max_calls_per_second)
        counts = {(trunk.tenant, trunk.name): trunk.limit for trunk in self._trunks}
        self._fill(tenants)
        for trunk in self._trunks:
            count = counts.get((trunk.tenant, trunk.name))
            if count is not None:
                count.change(trunk.settings.max_calls, trunk.settings.max_calls_per_second)
                trunk.limit = count

    def _fill(self, tenants: Iterable[TenantAccess]) -> None:
        self._trunks: list[Trunk] = []
        self._codes: dict[tuple[TenantId, str], AccessCodeSettings] = {}
        self._trunks_of_source: dict[str, tuple[Trunk, ...]] = {}
        for access in tenants:
            self._add_trunks(access)
            self._add_codes(access)

    @property
    def calls(self) -> int:
        """Admitted calls that were not released yet."""
        return self._limit.calls

    def admit(self, source_ip: str, called: str, now: float) -> Admitted | Refused:
        """Decide on a call; `called` is the user part of the Request-URI, in any form."""
        trunks = self.trunks_of(source_ip)
        if not trunks:
            return Refused(Code.TRUNK_UNKNOWN, TenantId(""))
        number = normalised_number(called)
        for trunk in trunks:
            access_code = self._codes.get((trunk.tenant, number))
            if access_code is not None:
                break
        else:
            return Refused(Code.ACCESS_CODE_UNKNOWN, trunks[0].tenant, trunks[0])
        if not trunk.limit.has_room(now):
            return Refused(Code.TRUNK_BUSY, trunk.tenant, trunk)
        if not self._limit.has_room(now):
            return Refused(Code.OVERLOADED, trunk.tenant, trunk)
        trunk.limit.take()
        self._limit.take()
        return Admitted(trunk.tenant, trunk, access_code)

    def release(self, admitted: Admitted) -> None:
        """Give back an admitted call, once."""
        admitted.trunk.limit.release()
        self._limit.release()

    def trunks_of(self, source_ip: str) -> tuple[Trunk, ...]:
        """Return the trunks an address belongs to, the narrowest network first."""
        trunks = self._trunks_of_source.get(source_ip)
        if trunks is None:
            trunks = self._match(source_ip)
            if len(self._trunks_of_source) >= _MAX_REMEMBERED_SOURCES:
                self._trunks_of_source.clear()  # a flood from many addresses must not grow it
            self._trunks_of_source[source_ip] = trunks
        return trunks

    def _match(self, source_ip: str) -> tuple[Trunk, ...]:
        try:
            address = ipaddress.ip_address(source_ip)
        except ValueError:
            return ()
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        matches = [(trunk.match_bits(address), trunk) for trunk in self._trunks]
        matches.sort(key=lambda match: -match[0])
        return tuple(trunk for bits, trunk in matches if bits >= 0)

    def _add_trunks(self, access: TenantAccess) -> None:
        names = {trunk.name for trunk in self._trunks if trunk.tenant == access.tenant}
        for settings in access.trunks:
            if settings.name in names:
                raise _invalid(f"tenant {access.tenant}: trunk {settings.name} is there twice")
            names.add(settings.name)
            self._trunks.append(Trunk(access.tenant, settings))

    def _add_codes(self, access: TenantAccess) -> None:
        for settings in access.access_codes:
            for form in (settings.code, *settings.aliases):
                number = normalised_number(form)
                key = (access.tenant, number)
                if key in self._codes and self._codes[key] is not settings:
                    raise _invalid(
                        f"tenant {access.tenant}: number {number} belongs to the access codes "
                        f"{self._codes[key].code} and {settings.code}"
                    )
                owner = self._rival(access, number)
                if owner is not None:
                    raise _invalid(
                        f"number {number} is an access code of the tenants {owner} and "
                        f"{access.tenant}, and the same addresses are trunks of both"
                    )
                self._codes[key] = settings

    def _rival(self, access: TenantAccess, number: str) -> TenantId | None:
        """Return another tenant that would get the same calls to `number`."""
        own = {
            network
            for trunk in self._trunks
            if trunk.tenant == access.tenant
            for network in trunk.networks
        }
        for trunk in self._trunks:
            if (
                trunk.tenant != access.tenant
                and (trunk.tenant, number) in self._codes
                and own.intersection(trunk.networks)
            ):
                return trunk.tenant
        return None


def _invalid(detail: str) -> PlatformError:
    return PlatformError(Code.CONFIG_INVALID, detail)
