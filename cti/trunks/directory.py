"""All trunks and access codes of a configuration, indexed for look-ups at the rate of calls.

Thousands of tenants may share a carrier's addresses. A call is found by source network and called
number, in time that depends on neither the number of tenants nor of codes.
"""

from __future__ import annotations

from collections.abc import Iterable

from cti.media_policy import MediaPolicy
from cti.numbers import normalised_number, without_separators
from cti.settings import IpNetwork
from cti.trunks.claims import Claim, Claims
from cti.trunks.rewriting import Rewritings, rewritten
from cti.trunks.tenant_access import TenantAccess
from cti.trunks.trunk import AccessCode, Trunk, address_of
from domain.failures import Code, PlatformError
from domain.ids import TenantId
from domain.words import Words
from domain.yaml_source import Place

_MAX_REMEMBERED_SOURCES = 4096

Found = tuple[Trunk, AccessCode]


class AmbiguousError(PlatformError):
    """Trunks and codes that leave it open where a call belongs."""

    def __init__(self, place: Place, other: Place, reason: Words) -> None:
        """Places are those in the list of tenants."""
        super().__init__(Code.CONFIG_INVALID, reason.en)
        self.place = place
        self.other = other
        self.reason = reason


class _Door:
    """The trunks of one network that rewrite called numbers in the same way."""

    __slots__ = ("tenant_of", "trunk_of")

    def __init__(self) -> None:
        self.trunk_of: dict[TenantId, Trunk] = {}
        self.tenant_of: dict[str, TenantId] = {}
        """By number; filled only where several tenants share the door."""

    def trunk_with(self, number: str) -> Trunk | None:
        """Return the trunk that calls to a number come over, or its tenant's only."""
        if len(self.trunk_of) == 1:
            return next(iter(self.trunk_of.values()))
        tenant = self.tenant_of.get(number)
        return None if tenant is None else self.trunk_of[tenant]


class _Network:
    """Who sends from one network."""

    __slots__ = ("claims", "doors", "trunks")

    def __init__(self) -> None:
        self.trunks: list[Trunk] = []
        self.doors: dict[Rewritings, _Door] = {}
        self.claims: Claims | None = None
        """Instead of the doors, where there are several."""


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
        self._certified: dict[str, _Network] = {}
        """By name in the certificate, instead of an address."""
        self._networks_of_source: dict[str, tuple[_Network, ...]] = {}
        self._place_of: dict[TenantId, int] = {}
        for at, access in enumerate(tenants):
            self.access[access.tenant] = access
            self._place_of[access.tenant] = at
            self._add_codes(access)
            self._add_trunks(access)
        for address, network in (*self._networks.items(), *self._certified.items()):
            if len(network.doors) > 1:
                network.claims = self._claims(address, network)
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
        for network in self._networks_of(source_ip):
            found = self._within(network, plain)
            if found is not None:
                return found
        return None

    def find_certified(
        self, names: Iterable[str], called: str
    ) -> tuple[Trunk, AccessCode | None] | None:
        """Return trunk and access code of a call over a connection whose peer proved its names."""
        networks = [self._certified[name] for name in sorted(names) if name in self._certified]
        for network in networks:
            found = self._within(network, without_separators(called))
            if found is not None:
                return found
        return (networks[0].trunks[0], None) if networks else None

    def _within(self, network: _Network, called: str) -> Found | None:
        if network.claims is not None:
            claim = network.claims.find(called)
            return None if claim is None else (claim.trunk, self._code(claim))
        if not network.doors:
            return None
        ((rules, door),) = network.doors.items()
        number = normalised_number(rewritten(rules, called))
        trunk = door.trunk_with(number)
        code = None if trunk is None else self.codes[trunk.tenant].get(number)
        return None if trunk is None or code is None else (trunk, code)

    def _code(self, claim: Claim) -> AccessCode:
        return self.codes[claim.trunk.tenant][claim.number]

    def code_of(self, trunk: Trunk, called: str) -> AccessCode | None:
        """Return the access code that a number is to a trunk that is known already."""
        number = normalised_number(rewritten(trunk.called_in, without_separators(called)))
        return self.codes.get(trunk.tenant, {}).get(number)

    def trunks_of(self, source_ip: str) -> tuple[Trunk, ...]:
        """Return the trunks an address belongs to, the narrowest network first."""
        return tuple(trunk for net in self._networks_of(source_ip) for trunk in net.trunks)

    def media_of(self, tenant: TenantId, trunk: str = "") -> MediaPolicy:
        """Return the rules of a trunk's media, or of the tenant's phones without one."""
        access = self.access.get(tenant)
        of_phones = access.media if access is not None else MediaPolicy()
        found = self.trunks.get((tenant, trunk)) if trunk else None
        return of_phones if found is None else found.media

    def knows(self, source_ip: str) -> bool:
        """Tell whether any trunk sends from an address."""
        return bool(self._networks_of(source_ip))

    def first_trunk_of(self, source_ip: str) -> Trunk | None:
        """Return the trunk with the narrowest network that holds the address, if that is enough."""
        return next((one for one in self.trunks_of(source_ip) if not one.needs_certificate), None)

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

    @property
    def has_certified_trunks(self) -> bool:
        """Whether any trunk is known by its certificate."""
        return bool(self._certified)

    # Filling

    def _add_codes(self, access: TenantAccess) -> None:
        codes = self.codes.setdefault(access.tenant, {})
        for at, settings in enumerate(access.access_codes):
            code = AccessCode(settings)
            for form in (settings.code, *settings.aliases):
                number = normalised_number(form)
                other = codes.setdefault(number, code)
                if other is not code:
                    one, two = other.settings.code, settings.code
                    raise AmbiguousError(
                        (self._place_of[access.tenant], "access_codes", at),
                        self._code_place(access.tenant, number),
                        Words(
                            f"号码 {number} 既属于接入码 {one} 又属于 {two}",
                            f"number {number} belongs to the access codes {one} and {two}",
                        ),
                    )

    def _add_trunks(self, access: TenantAccess) -> None:
        of_tenant = self.trunks_of_tenant.setdefault(access.tenant, [])
        for settings in access.trunks:
            key = (access.tenant, settings.name)
            if (other := self.trunks.get(key)) is not None:
                raise AmbiguousError(
                    self._trunk_place(key, last=True),
                    self._trunk_place(key),
                    Words(f"中继“{settings.name}”写了两次", f"trunk {other.name!r} is there twice"),
                )
            trunk = self.trunks[key] = Trunk(access.tenant, settings, access.media)
            of_tenant.append(trunk)
            self.by_contact[trunk.contact_user] = trunk
            if trunk.needs_digest:
                self._add_digest_user(trunk)
            for address in settings.addresses:
                network = self._networks.setdefault(address, _Network())
                network.trunks.append(trunk)
                if not trunk.needs_certificate:
                    self._open_door(address, network, trunk)
            for name in map(str.lower, settings.certificate_names):
                network = self._certified.setdefault(name, _Network())
                network.trunks.append(trunk)
                self._open_door(name, network, trunk)

    def _add_digest_user(self, trunk: Trunk) -> None:
        user = trunk.settings.user
        self.has_roaming_trunks |= not trunk.settings.addresses
        other = self.by_digest_user.setdefault(user, trunk)
        if other is not trunk:
            one, two = (f"{each.tenant}/{each.name}" for each in (other, trunk))
            raise AmbiguousError(
                (*self._trunk_place((trunk.tenant, trunk.name)), "user"),
                (*self._trunk_place((other.tenant, other.name)), "user"),
                Words(
                    f"中继 {one} 和 {two} 的用户 {user} 相同",
                    f"user {user} is of the trunks {one} and {two}",
                ),
            )

    def _open_door(self, address: IpNetwork | str, network: _Network, trunk: Trunk) -> None:
        door = network.doors.setdefault(trunk.called_in, _Door())
        if trunk.tenant in door.trunk_of:
            return
        door.trunk_of[trunk.tenant] = trunk
        if len(door.trunk_of) == 2:
            first = next(iter(door.trunk_of))
            door.tenant_of = dict.fromkeys(self.codes[first], first)
        if len(door.trunk_of) >= 2:
            self._share(address, door, trunk.tenant)

    def _share(self, address: IpNetwork | str, door: _Door, tenant: TenantId) -> None:
        for number in self.codes[tenant]:
            owner = door.tenant_of.setdefault(number, tenant)
            if owner != tenant:
                raise AmbiguousError(
                    self._code_place(tenant, number),
                    self._code_place(owner, number),
                    Words(
                        f"租户 {owner} 和 {tenant} 都有号码 {number},中继地址 {address} 也相同",
                        f"number {number} is an access code of the tenants {owner} and {tenant}, "
                        f"and {address} is a trunk of both",
                    ),
                )

    def _claims(self, address: IpNetwork | str, network: _Network) -> Claims:
        claims = Claims()
        for door in network.doors.values():
            for tenant, trunk in door.trunk_of.items():
                for number in self.codes[tenant]:
                    met = claims.add(trunk, number)
                    if met is not None:
                        raise self._rivals(address, (trunk, number), *met)
        return claims

    def _rivals(
        self, address: IpNetwork | str, own: tuple[Trunk, str], rival: Claim, called: str
    ) -> AmbiguousError:
        (trunk, number), other = own, rival.trunk
        return AmbiguousError(
            self._code_place(trunk.tenant, number),
            self._code_place(other.tenant, rival.number),
            Words(
                f"从 {address} 打 {called},按各自的 called_in,既到租户 {other.tenant} 的 "
                f"{rival.number}(中继 {other.name}),又到租户 {trunk.tenant} 的 {number}"
                f"(中继 {trunk.name})",
                f"a call to {called} from {address} is, by the called_in of each, one to "
                f"{rival.number} of tenant {other.tenant} (trunk {other.name}) and to {number} of "
                f"tenant {trunk.tenant} (trunk {trunk.name})",
            ),
        )

    # Where things stand in the list of tenants

    def _code_place(self, tenant: TenantId, number: str) -> Place:
        codes = self.access[tenant].access_codes
        at = next(
            nth
            for nth, code in enumerate(codes)
            if number in map(normalised_number, (code.code, *code.aliases))
        )
        return self._place_of[tenant], "access_codes", at

    def _trunk_place(self, key: tuple[TenantId, str], *, last: bool = False) -> Place:
        tenant, name = key
        names = [trunk.name for trunk in self.access[tenant].trunks]
        at = len(names) - 1 - names[::-1].index(name) if last else names.index(name)
        return self._place_of[tenant], "trunks", at
