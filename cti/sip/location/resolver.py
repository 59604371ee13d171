"""SIP URIs to hops (RFC 3263) by DNS, with a cache that outlives the name servers."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import dns.asyncresolver
import dns.exception
import dns.message
import dns.name
import dns.nameserver
import dns.resolver
import structlog
from dns.rdtypes.ANY.SOA import SOA
from dns.rdtypes.IN.NAPTR import NAPTR
from dns.rdtypes.IN.SRV import SRV
from prometheus_client import Counter

from cti.sip.location.server_location import (
    Naptr,
    Record,
    RecordType,
    Srv,
    find_servers,
    hop_of_address,
    is_host_name,
)
from cti.sip.messages.uri import SipUri
from cti.sip.seldom import Seldom
from cti.sip.transports.transport import Hop, TransportName
from domain.failures import Code, PlatformError

log = structlog.get_logger(__name__)

_QUERY_S = 3.0
_LEAST_TTL_S, _MOST_TTL_S = 1.0, 3600.0
_NEGATIVE_S, _MOST_NEGATIVE_S = 30.0, 300.0
_STALE_AFTER_S = 0.5
"""How long an answer is waited for before the last one is used."""
_RETRY_S = 5.0
"""How long absent name servers are left alone where the last answer does."""
_KEPT_S = 86_400.0
_MAX_NAMES = 4096
_DNS_PORT = 53
_HOSTS = Path("/etc/hosts")

_LOOKUPS = Counter("sip_dns_lookups", "Questions to name servers", ["outcome"])
_ANSWERED, _EMPTY, _FAILED, _STALE = (
    _LOOKUPS.labels(each) for each in ("answered", "empty", "failed", "stale")
)

_Key = tuple[str, RecordType]
_ADDRESSES: tuple[RecordType, ...] = ("A", "AAAA")


@dataclass(slots=True)
class _Known:
    records: tuple[Record, ...]
    fresh_until_s: float
    kept_until_s: float


class RecordCache:
    """Records by name and type; sans-IO."""

    def __init__(self, max_names: int = _MAX_NAMES) -> None:
        self._max_names = max_names
        self._known: OrderedDict[_Key, _Known] = OrderedDict()

    def fresh(self, key: _Key, now_s: float) -> tuple[Record, ...] | None:
        """Return what may be used without a question, None where one is due."""
        known = self._known.get(key)
        return known.records if known is not None and now_s < known.fresh_until_s else None

    def keep(self, key: _Key, records: tuple[Record, ...], ttl_s: float, now_s: float) -> None:
        """Remember an answer; one without records is forgotten sooner."""
        if records:
            ttl_s = min(max(ttl_s, _LEAST_TTL_S), _MOST_TTL_S)
        else:
            ttl_s = min(max(ttl_s, _LEAST_TTL_S), _MOST_NEGATIVE_S)
        self._known[key] = _Known(records, now_s + ttl_s, now_s + ttl_s + _KEPT_S)
        self._known.move_to_end(key)
        if len(self._known) > self._max_names:
            self._known.popitem(last=False)

    def stale(self, key: _Key, now_s: float) -> tuple[Record, ...] | None:
        """Return what was known before, for times when the name servers are away (RFC 8767)."""
        known = self._known.get(key)
        return known.records if known is not None and now_s < known.kept_until_s else None


class _UnknownError(Exception):
    """A record is not known without a question."""


class Resolver:
    """Finds the servers of SIP URIs."""

    def __init__(
        self,
        servers: Sequence[str] = (),
        *,
        transports: Sequence[TransportName] = ("udp", "tcp", "tls"),
        ipv4: bool = True,
        ipv6: bool = True,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`servers` are addresses of name servers, with a port if it is not 53.

        Without them the system's are asked, after its file of hosts.

        `transports` are those that requests can be sent over, the preferred first.
        """
        self._transports = tuple(each for each in transports if each in {"udp", "tcp", "tls"})
        usable = zip(_ADDRESSES, (ipv4, ipv6), strict=True)
        self._families = tuple(family for family, is_usable in usable if is_usable)
        self._chance = chance
        self._cache = RecordCache()
        self._asked: dict[_Key, asyncio.Task[tuple[Record, ...]]] = {}
        self._hosts: dict[str, tuple[str, ...]] = {}
        self._away_until_s = 0.0
        self._seldom = Seldom()
        self._dns: dns.asyncresolver.Resolver | None = None
        if servers:
            self._dns = dns.asyncresolver.Resolver(configure=False)
            self._dns.nameservers = [_name_server(each) for each in servers]
        else:
            self._hosts = hosts_of(_HOSTS.read_text(errors="replace")) if _HOSTS.exists() else {}
            with contextlib.suppress(dns.resolver.NoResolverConfiguration):
                self._dns = dns.asyncresolver.Resolver()
        if self._dns is not None:
            self._dns.lifetime = _QUERY_S
            self._dns.timeout = _QUERY_S / 2

    async def locate(self, uri: SipUri) -> list[Hop]:
        """Return where a request for a URI goes, in the order in which it is tried.

        PlatformError DNS_FAILED when that cannot be found out, or is nowhere.
        """
        hop = hop_of_address(uri)
        if hop is not None:
            return [hop]
        host = uri.params.get("maddr") or uri.host
        if not is_host_name(host):
            raise PlatformError(Code.DNS_FAILED, f"{host} is no host name")
        hops = await find_servers(
            uri,
            self._lookup,
            transports=self._transports,
            families=self._families,
            random=self._chance,
        )
        if not hops:
            raise PlatformError(Code.DNS_FAILED, f"{host} has no address in DNS")
        return hops

    def cached(self, uri: SipUri) -> list[Hop] | None:
        """Return where a request goes as far as is known; None when DNS has to be asked.

        Nothing is to be had of what is unknown while the name servers are away.
        """
        finding = find_servers(
            uri,
            self._known,
            transports=self._transports,
            families=self._families,
            random=self._chance,
        )
        try:
            finding.send(None)  # it never waits, as what it looks up is there
        except StopIteration as done:
            hops: list[Hop] = done.value
            return hops
        except _UnknownError:
            return None
        finally:
            finding.close()
        return None

    async def _known(self, name: str, kind: RecordType) -> Sequence[Record]:
        key = (name.rstrip(".").lower(), kind)
        if (local := self._local(key)) is not None:
            return local
        now_s = asyncio.get_running_loop().time()
        records = self._cache.fresh(key, now_s)
        if records is None and now_s < self._away_until_s:
            records = self._cache.stale(key, now_s) or ()
        if records is None:
            raise _UnknownError
        return records

    async def aclose(self) -> None:
        """Give up the questions that are open."""
        for task in list(self._asked.values()):
            task.cancel()
        await asyncio.gather(*self._asked.values(), return_exceptions=True)

    async def _lookup(self, name: str, kind: RecordType) -> Sequence[Record]:
        key = (name.rstrip(".").lower(), kind)
        if (local := self._local(key)) is not None:
            return local
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        known = self._cache.fresh(key, now_s)
        if known is not None:
            return known
        stale = self._cache.stale(key, now_s)
        if stale is not None and now_s < self._away_until_s:
            _STALE.inc()
            return stale
        task = self._asked.get(key)
        if task is None:
            task = self._asked[key] = loop.create_task(self._ask(key))
            task.add_done_callback(lambda done: self._answered(key, done))
        # Who gives up waiting leaves the question to the others that wait for it.
        try:
            return await asyncio.wait_for(asyncio.shield(task), _STALE_AFTER_S if stale else None)
        except (TimeoutError, PlatformError):
            if stale is None:
                raise
            _STALE.inc()
            return stale

    def _local(self, key: _Key) -> Sequence[Record] | None:
        """Return what the file of hosts says; None when it does not know the name."""
        name, kind = key
        local = self._hosts.get(name)
        if local is None:
            return None
        return [each for each in local if kind == ("AAAA" if ":" in each else "A")]

    def _answered(self, key: _Key, task: asyncio.Task[tuple[Record, ...]]) -> None:
        self._asked.pop(key, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            name, kind = key
            if self._seldom.may_tell(name, asyncio.get_running_loop().time()):
                log.warning("dns_failed", name=name, kind=kind, error=str(error))

    async def _ask(self, key: _Key) -> tuple[Record, ...]:
        name, kind = key
        loop = asyncio.get_running_loop()
        try:
            records, ttl_s = await self._query(name, kind)
        except (dns.exception.DNSException, OSError) as error:
            if kind == "NAPTR" and isinstance(error, dns.resolver.NoNameservers):
                return ()  # some servers refuse what they do not know
            _FAILED.inc()
            self._away_until_s = loop.time() + _RETRY_S
            detail = f"{kind} of {name}: {type(error).__name__}"
            raise PlatformError(Code.DNS_FAILED, detail) from error
        (_ANSWERED if records else _EMPTY).inc()
        self._cache.keep(key, records, ttl_s, loop.time())
        return records

    async def _query(self, name: str, kind: RecordType) -> tuple[tuple[Record, ...], float]:
        if self._dns is None:
            raise dns.resolver.NoResolverConfiguration
        absolute = dns.name.from_text(name)
        try:
            answer = await self._dns.resolve(absolute, kind, raise_on_no_answer=False, search=False)
        except dns.resolver.NXDOMAIN as error:
            responses: dict[dns.name.Name, dns.message.QueryMessage] = error.kwargs["responses"]
            return (), _negative_ttl_s(responses.get(absolute))
        if answer.rrset is None:
            return (), _negative_ttl_s(answer.response)
        records = tuple(_record(each) for each in answer.rrset)
        return records, float(answer.chaining_result.minimum_ttl)


def hosts_of(text: str) -> dict[str, tuple[str, ...]]:
    """Read a file of hosts: addresses by name."""
    hosts: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        try:
            canonical = str(ip_address(address))
        except ValueError:
            continue
        for name in names:
            hosts[name.lower()] = (*hosts.get(name.lower(), ()), canonical)
    return hosts


def _record(data: object) -> Record:
    if isinstance(data, NAPTR):
        return Naptr(
            data.order,
            data.preference,
            data.flags.decode("latin-1"),
            data.service.decode("latin-1"),
            data.replacement.to_text(omit_final_dot=True),
        )
    if isinstance(data, SRV):
        target = data.target.to_text(omit_final_dot=True)
        return Srv(data.priority, data.weight, data.port, "" if target == "." else target)
    return str(ip_address(str(data)))


def _negative_ttl_s(response: dns.message.Message | None) -> float:
    """Return how long something may be taken not to exist (RFC 2308 5)."""
    for rrset in response.authority if response is not None else ():
        for data in rrset:
            if isinstance(data, SOA):
                return float(min(rrset.ttl, data.minimum))
    return _NEGATIVE_S


def _name_server(text: str) -> dns.nameserver.Nameserver:
    """Read `192.0.2.53`, `192.0.2.53:5353`, `2001:db8::53` or `[2001:db8::53]:5353`."""
    host, port = text, _DNS_PORT
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = int(rest.removeprefix(":") or _DNS_PORT)
    elif text.count(":") == 1:
        host, _, rest = text.partition(":")
        port = int(rest)
    return dns.nameserver.Do53Nameserver(str(ip_address(host)), port)
