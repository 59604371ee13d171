"""Which servers a SIP URI leads to, and in which order they are tried (RFC 3263, RFC 2782).

Sans-IO: records are looked up by whoever is passed in, chance is passed in too.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Literal, Protocol, cast

from cti.sip.messages.uri import SipUri
from cti.sip.transports.transport import SECURE, Hop, TransportName, address_family, default_port

RecordType = Literal["NAPTR", "SRV", "A", "AAAA"]

_MAX_HOPS = 32
# RFC 3263 4.1, RFC 7118 4.2. WebSocket servers are not for us to connect to.
_SERVICES: dict[str, TransportName] = {"SIP+D2U": "udp", "SIP+D2T": "tcp", "SIPS+D2T": "tls"}
_SRV_PREFIXES: dict[TransportName, str] = {
    "udp": "_sip._udp.", "tcp": "_sip._tcp.", "tls": "_sips._tcp.",
}  # fmt: skip
_HOST_NAME = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?\.)*[a-z][a-z0-9-]*\.?")
_MAX_NAME_CHARACTERS = 253


@dataclass(frozen=True, slots=True)
class Naptr:
    """A NAPTR record (RFC 3403 4.1)."""

    order: int
    preference: int
    flags: str
    service: str
    replacement: str


@dataclass(frozen=True, slots=True)
class Srv:
    """An SRV record (RFC 2782)."""

    priority: int
    weight: int
    port: int
    target: str


Record = Naptr | Srv | str
"""An address is its text."""


class Lookup(Protocol):
    """Looks records up."""

    def __call__(self, name: str, kind: RecordType) -> Awaitable[Sequence[Record]]:
        """Return the records of a name, none where there are none."""


def is_host_name(name: str) -> bool:
    """Whether a name can be looked up."""
    return len(name) <= _MAX_NAME_CHARACTERS and _HOST_NAME.fullmatch(name.lower()) is not None


def hop_of_address(uri: SipUri) -> Hop | None:
    """Return where a URI with an address for its host leads; None for a name."""
    host = uri.params.get("maddr") or uri.host
    if address_family(host) is None:
        return None
    if ":" in host and (mapped := IPv6Address(host).ipv4_mapped) is not None:
        host = str(mapped)  # reached over IPv4
    transport = _stated_transport(uri) or ("tls" if uri.scheme == "sips" else "udp")
    return Hop(transport, host, uri.port or default_port(transport))


def srv_order(records: Iterable[Srv], random: Callable[[], float]) -> list[Srv]:
    """Return records as they are to be tried: by priority, by chance and weight within (2782)."""
    left = sorted(records, key=lambda each: (each.priority, each.weight))
    ordered: list[Srv] = []
    while left:
        same = [each for each in left if each.priority == left[0].priority]
        drawn = random() * sum(each.weight for each in same)
        for each in same:
            drawn -= each.weight
            if drawn <= 0:
                break
        ordered.append(each)
        left.remove(each)
    return ordered


def naptr_order(records: Iterable[Naptr], wanted: Collection[str]) -> list[Naptr]:
    """Return the records that lead to SRV records of a transport we want, the best first."""
    fit = [
        each
        for each in records
        if each.flags.lower() == "s" and _SERVICES.get(each.service.upper()) in wanted
    ]
    return sorted(fit, key=lambda each: (each.order, each.preference))


async def find_servers(
    uri: SipUri,
    lookup: Lookup,
    *,
    transports: Sequence[TransportName],
    families: Sequence[RecordType],
    random: Callable[[], float],
) -> list[Hop]:
    """Return the hops of a URI whose host is a name, in the order in which they are tried.

    `transports` are those we have, the preferred first, and `families` the address records.
    """
    name = (uri.params.get("maddr") or uri.host).rstrip(".").lower()
    secure = uri.scheme == "sips"
    stated = _stated_transport(uri)
    fallback: TransportName = stated or ("tls" if secure else "udp")
    found: list[tuple[TransportName, str, int]] = []
    if uri.port is None:
        wanted = [stated] if stated else [t for t in transports if not secure or t == "tls"]
        found = await _services(name, wanted, lookup, is_stated=stated is not None, random=random)
    if not found:
        found = [(fallback, name, uri.port or default_port(fallback))]
    hops: dict[Hop, None] = {}
    for transport, target, port in found:
        for family in families:
            for address in await lookup(target, family):
                # What the peer must prove is the name we were given, not one that DNS made of it.
                proof = name if transport in SECURE else ""
                hops[Hop(transport, cast("str", address), port, name=proof)] = None
    return list(hops)[:_MAX_HOPS]


async def _services(
    name: str,
    wanted: Sequence[TransportName],
    lookup: Lookup,
    *,
    is_stated: bool,
    random: Callable[[], float],
) -> list[tuple[TransportName, str, int]]:
    """Return transport, host and port of each server that NAPTR and SRV records name."""
    names: list[tuple[TransportName, str]] = []
    if not is_stated:
        pointers = cast("Sequence[Naptr]", await lookup(name, "NAPTR"))
        for pointer in naptr_order(pointers, wanted):
            names.append((_SERVICES[pointer.service.upper()], pointer.replacement))  # noqa: PERF401
    if not names:
        names = [(each, _SRV_PREFIXES[each] + name) for each in wanted if each in _SRV_PREFIXES]
    servers = []
    for transport, service in names:
        records = cast("Sequence[Srv]", await lookup(service, "SRV"))
        # A target of "." says that the service is decidedly not there (RFC 2782).
        usable = [each for each in records if each.target.rstrip(".")]
        servers += [(transport, each.target, each.port) for each in srv_order(usable, random)]
    return servers


def _stated_transport(uri: SipUri) -> TransportName | None:
    """Return the transport a URI asks for; TCP under sips means TLS (RFC 3261 26.2.2)."""
    stated = (uri.params.get("transport") or "").lower()
    if uri.scheme == "sips":
        return {"tcp": "tls", "tls": "tls", "ws": "wss", "wss": "wss"}.get(stated)  # type: ignore[return-value]
    return cast("TransportName", stated) if stated in {"udp", "tcp", "tls", "ws", "wss"} else None
