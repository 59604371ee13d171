"""A trunk of a tenant: its settings ready to use, and its live calls."""

from __future__ import annotations

import hashlib
import re
from ipaddress import IPv4Address, IPv6Address, ip_address

from cti.identity import CallerIdentity
from cti.media_policy import MediaPolicy
from cti.numbers import number_of
from cti.settings import AccessCodeSettings, TrunkSettings
from cti.sip.messages.message import Request
from cti.trunks.bounded_pattern import found_by
from cti.trunks.limits import CallLimit
from cti.trunks.rewriting import Rewritings
from cti.trunks.settings import LandingCodeSource, TrunkAuthentication, media_policy
from domain.ids import TenantId

_CONTACT_CHARACTERS = 16
_NO_LIMIT = 1_000_000


class AccessCode:
    """An access code of a tenant, with its live calls where it has a limit of its own."""

    __slots__ = ("_landing_prefixes", "limit", "settings")

    def __init__(self, settings: AccessCodeSettings) -> None:
        self.settings = settings
        limited = settings.max_calls is not None or settings.max_calls_per_second is not None
        self.limit = CallLimit(*_bounds(settings)) if limited else None
        self._landing_prefixes = sorted(settings.landing_flows, key=len, reverse=True)

    def flow_of(self, landing_code: str) -> str:
        """Return the flow that serves callers from there (落地码)."""
        for prefix in self._landing_prefixes:
            if landing_code.startswith(prefix):
                return self.settings.landing_flows[prefix]
        return self.settings.flow

    def take_over(self, before: AccessCode) -> None:
        """Keep the counts of the same code before a reload."""
        if self.limit is not None and before.limit is not None:
            self.limit = before.limit
            self.limit.change(*_bounds(self.settings))


def _bounds(settings: AccessCodeSettings) -> tuple[int, int]:
    return settings.max_calls or _NO_LIMIT, settings.max_calls_per_second or _NO_LIMIT


class Trunk:
    """One trunk; a reload makes a new one that takes over the counts of the old."""

    __slots__ = (
        "called_in",
        "called_out",
        "caller_in",
        "caller_out",
        "contact_user",
        "landing_code",
        "limit",
        "media",
        "name",
        "needs_certificate",
        "needs_digest",
        "pattern",
        "service_routes",
        "settings",
        "tenant",
    )  # fmt: skip

    def __init__(
        self, tenant: TenantId, settings: TrunkSettings, media: MediaPolicy | None = None
    ) -> None:
        """`media` are the tenant's rules, for codecs that the trunk does not name."""
        self.tenant = tenant
        self.settings = settings
        self.name = settings.name
        self.needs_digest = settings.authentication is TrunkAuthentication.DIGEST
        self.needs_certificate = settings.authentication is TrunkAuthentication.CERTIFICATE
        self.media = media_policy(
            settings.codecs,
            settings.codec_order,
            settings.srtp,
            settings.digits,
            media or MediaPolicy(),
        )
        self.landing_code: LandingCodeSource = settings.landing_code
        pattern = settings.landing_code_pattern
        self.pattern = re.compile(pattern) if pattern is not None else None
        self.limit = CallLimit(
            settings.max_calls, settings.max_calls_per_second, settings.outbound_reserve
        )
        rules = settings.number_rules
        self.caller_in: Rewritings = tuple(rule.rewriting for rule in rules.caller_in)
        self.called_in: Rewritings = tuple(rule.rewriting for rule in rules.called_in)
        self.caller_out: Rewritings = tuple(rule.rewriting for rule in rules.caller_out)
        self.called_out: Rewritings = tuple(rule.rewriting for rule in rules.called_out)
        self.contact_user = contact_user(tenant, settings.name)
        self.service_routes: dict[str, tuple[str, ...]] = {}
        """What registrars want our calls to pass (RFC 3608), by their URI."""

    def service_route(self, server: str) -> tuple[str, ...]:
        """Return the Route of calls to a server, as the registrar for it wants it."""
        own = self.settings.register_
        if own is None:
            return ()
        registrars = own.registrars or [server]
        routes = (self.service_routes.get(each, ()) for each in registrars)
        return next(filter(None, routes), ())

    def sends_from(self, source_ip: str) -> bool:
        """Tell whether an address is of one of the trunk's networks."""
        address = address_of(source_ip)
        return address is not None and any(
            address in network for network in self.settings.addresses
        )

    def may_come_from(self, source_ip: str) -> bool:
        """Tell whether whoever proved to be the trunk may be at an address."""
        return not self.settings.addresses or self.sends_from(source_ip)

    def take_over(self, before: Trunk) -> None:
        """Keep the counts of the same trunk before a reload, and its registrars' wishes."""
        settings = self.settings
        self.service_routes = before.service_routes
        self.limit = before.limit
        self.limit.change(
            settings.max_calls, settings.max_calls_per_second, settings.outbound_reserve
        )

    def landing_code_of(self, request: Request, identity: CallerIdentity) -> str:
        """Return where the call comes from in the carrier's numbering, empty where it is silent."""
        match self.landing_code:
            case LandingCodeSource.NONE:
                return ""
            case LandingCodeSource.TO_USER:
                text = number_of(request.to.uri)
            case LandingCodeSource.DIVERSION:
                text = identity.diverted_from
            case LandingCodeSource.HISTORY_INFO:
                text = identity.history[0] if identity.history else ""
            case LandingCodeSource.P_CALLED_PARTY_ID:
                text = identity.called_party
            case LandingCodeSource.HEADER:
                name = self.settings.landing_code_header or ""
                text = next(iter(request.headers.rows(name)), "")
        return text if self.pattern is None else found_by(self.pattern, text)


def address_of(text: str) -> IPv4Address | IPv6Address | None:
    """Parse an IP address; one of IPv4 within IPv6 is the one of IPv4. None for anything else."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def contact_user(tenant: TenantId, name: str) -> str:
    """Return the user of the Contact that a trunk registers.

    It is the same after a restart, so that the carrier replaces the binding, and it tells neither
    tenant nor trunk.
    """
    digest = hashlib.sha256(f"{tenant}/{name}".encode()).hexdigest()
    return f"t{digest[:_CONTACT_CHARACTERS]}"
