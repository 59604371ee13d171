"""All trunks and access codes of a configuration, indexed for look-ups at the rate of calls.

Thousands of tenants may share a carrier's addresses. A call is found by source network and called
number, in time that depends on neither the number of tenants nor of codes.
"""

from __future__ import annotations

from collections.abc import Iterable

from cti.numbers import normalised_number, without_separators
from cti.settings import IpNetwork
from cti.trunks.rewriting import Rewritings, rewritten
from cti.trunks.tenant_access import TenantAccess
from cti.trunks.trunk import AccessCode, Trunk, address_of
from domain.failures import Code, PlatformError
from domain.ids import TenantId

_MAX_REMEMBERED_SOURCES = 4096

Found = tuple[Trunk, AccessCode]


class _Door:
    """The trunks of one network that rewrite called numbers in the same way."""

    __slots__ = ("tenant_of", "trunk_of")

    def __init__(self) -> None:
        self.trunk_of: dict[TenantId, Trunk] = {}
        self.tenant_of: dict[str, TenantId] = {}
        """By number; filled only where several tenants share the door."""


class _Network:
    """Who sends from one network."""

    __slots__ = ("doors", "trunks")

    def __init__(self) -> None:
        self.trunks: list[Trunk] = []
        self.doors: dict[Rewritings, _Door] = {}


class TrunkDirectory:
    """Look-ups by source address and called number, by name, and by digest user."""

    def __init__(self, tenants: Iterable[TenantAccess] = ()) -> None:
        """Raise PlatformError CONFIG_INVALID where trunks and codes leave a call ambiguous."""
        self.trunks: dict[tuple[TenantId, str], Trunk] = {}
        self.by_digest_user: dict[str, Trunk] = {}
        self.has_roaming_trunks = False
        """Whether any trunk is known by its password alone, from wherever it sends."""
        self.by_contact: dict[str, Trunk] = {}
        self.access: dict[TenantId, TenantAccess] = {}
        self.codes: dict[TenantId, dict[str, AccessCode]] = {}
        self.trunks_of_tenant: dict[TenantId, list[Trunk]] = {}
        self._networks: dict[IpNetwork, _Network] = {}
        self._networks_of_source: dict[str, tuple[_Network, ...]] = {}
        for access in tenants:
            self.access[access.tenant] = access
            self._add_codes(access)
            self._add_trunks(access)
        self._by_size = {4: self._sizes(4), 6: self._sizes(6)}

    def take_over(self, before: TrunkDirectory) -> None:
        """Keep the counts of the trunks and codes that were there before a reload."""
        for key, trunk in self.trunks.items():
            if (old := before.trunks.get(key)) is not None:
                trunk.take_over(old)
        for tenant, codes in self.codes.items():
            known = {code.settings.code: code for code in before.codes.get(tenant, {}).values()}
            for code in set(codes.values()):
                if (old_code := known.get(code.settings.code)) is not None:
                    code.take_over(old_code)

    def find(self, source_ip: str, called: str) -> Found | None:
        """Return trunk and access code of a call, by the narrowest network that has the number."""
        plain = without_separators(called)
        number = normalised_number(plain)
        for network in self._networks_of(source_ip):
            for rules, door in network.doors.items():
                form = normalised_number(rewritten(rules, plain)) if rules else number
                found = self._behind(door, form)
                if found is not None:
                    return found
        return None

    def code_of(self, trunk: Trunk, called: str) -> AccessCode | None:
        """Return the access code that a number is to a trunk that is known already."""
        number = normalised_number(rewritten(trunk.called_in, without_separators(called)))
        return self.codes.get(trunk.tenant, {}).get(number)

    def trunks_of(self, source_ip: str) -> tuple[Trunk, ...]:
        """Return the trunks an address belongs to, the narrowest network first."""
        return tuple(trunk for net in self._networks_of(source_ip) for trunk in net.trunks)

    def knows(self, source_ip: str) -> bool:
        """Tell whether any trunk sends from an address."""
        return bool(self._networks_of(source_ip))

    def first_trunk_of(self, source_ip: str) -> Trunk | None:
        """Return the trunk with the narrowest network that holds the address."""
        networks = self._networks_of(source_ip)
        return networks[0].trunks[0] if networks else None

    def _behind(self, door: _Door, number: str) -> Found | None:
        if len(door.trunk_of) > 1:
            tenant = door.tenant_of.get(number)
            if tenant is None:
                return None
        else:
            tenant = next(iter(door.trunk_of))
        code = self.codes[tenant].get(number)
        return None if code is None else (door.trunk_of[tenant], code)

    def _networks_of(self, source_ip: str) -> tuple[_Network, ...]:
        networks = self._networks_of_source.get(source_ip)
        if networks is None:
            networks = self._match(source_ip)
            if len(self._networks_of_source) >= _MAX_REMEMBERED_SOURCES:
                self._networks_of_source.clear()  # a flood from many addresses must not grow it
            self._networks_of_source[source_ip] = networks
        return networks

    def _match(self, source_ip: str) -> tuple[_Network, ...]:
        address = address_of(source_ip)
        if address is None:
            return ()
        found = (
            table.get(int(address) >> (address.max_prefixlen - bits))
            for bits, table in self._by_size[address.version]
        )
        return tuple(network for network in found if network is not None)

    def _sizes(self, version: int) -> list[tuple[int, dict[int, _Network]]]:
        """Return the networks of an IP version by the length of their prefix, longest first."""
        tables: dict[int, dict[int, _Network]] = {}
        for network, entry in self._networks.items():
            if network.version == version:
                bits = network.prefixlen
                key = int(network.network_address) >> (network.max_prefixlen - bits)
                tables.setdefault(bits, {})[key] = entry
        return sorted(tables.items(), reverse=True)

    # Filling

    def _add_codes(self, access: TenantAccess) -> None:
        codes = self.codes.setdefault(access.tenant, {})
        for settings in access.access_codes:
            code = AccessCode(settings)
            for form in (settings.code, *settings.aliases):
                number = normalised_number(form)
                other = codes.setdefault(number, code)
                if other is not code:
                    raise _invalid(
                        f"tenant {access.tenant}: number {number} belongs to the access codes "
                        f"{other.settings.code} and {settings.code}"
                    )

    def _add_trunks(self, access: TenantAccess) -> None:
        of_tenant = self.trunks_of_tenant.setdefault(access.tenant, [])
        for settings in access.trunks:
            key = (access.tenant, settings.name)
            if key in self.trunks:
                raise _invalid(f"tenant {access.tenant}: trunk {settings.name} is there twice")
            trunk = self.trunks[key] = Trunk(access.tenant, settings)
            of_tenant.append(trunk)
            self.by_contact[trunk.contact_user] = trunk
            if trunk.needs_digest:
                self.has_roaming_trunks |= not settings.addresses
                other = self.by_digest_user.setdefault(settings.user, trunk)
                if other is not trunk:
                    raise _invalid(
                        f"user {settings.user} is of the trunks {other.name} of tenant "
                        f"{other.tenant} and {settings.name} of tenant {access.tenant}"
                    )
            for network in settings.addresses:
                self._add_network(network, trunk)

    def _add_network(self, address: IpNetwork, trunk: Trunk) -> None:
        network = self._networks.setdefault(address, _Network())
        network.trunks.append(trunk)
        door = network.doors.setdefault(trunk.called_in, _Door())
        if trunk.tenant in door.trunk_of:
            return
        door.trunk_of[trunk.tenant] = trunk
        if len(door.trunk_of) == 2:
            first = next(iter(door.trunk_of))
            door.tenant_of = dict.fromkeys(self.codes[first], first)
        if len(door.trunk_of) >= 2:
            self._share(door, trunk.tenant)

    def _share(self, door: _Door, tenant: TenantId) -> None:
        for number in self.codes[tenant]:
            owner = door.tenant_of.setdefault(number, tenant)
            if owner != tenant:
                raise _invalid(
                    f"number {number} is an access code of the tenants {owner} and {tenant}, and "
                    "the same addresses are trunks of both"
                )


def _invalid(detail: str) -> PlatformError:
    return PlatformError(Code.CONFIG_INVALID, detail)
