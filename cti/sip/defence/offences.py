"""Who may send to us: rates a source, offences, and bans that expire. Sans-IO: time is passed in.

Every offence has points, and points fade with time. A source whose points reach the limit is
banned, each time for twice as long. Legitimate trouble (a phone with an old password asks every
half minute) fades faster than it adds up; guessing, scanning and flooding do not.

A datagram's sender can be forged: what datagrams show never bans an address from which a phone has
proved its password of late, or anybody could shut phones out. Their rates hold all the same.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from cti.sip.messages.message import Request


class Offence(StrEnum):
    """What a source may do wrong; the values are labels of metrics and events."""

    SCANNER = "scanner"
    GUESSING = "authentication"
    STRANGER = "unknown_caller"
    MALFORMED = "malformed"
    BROKEN_STREAM = "broken_stream"
    FLOOD = "flood"


BAN_POINTS = 100.0
_POINTS_FADE_PER_S = 1.0
_DATAGRAM_POINTS = 10.0
"""The most that one offence counts for whose sender may be forged."""
_VOUCHED_S = 7200.0
"""Longer than the longest registration: phones prove themselves again with each refresh."""
_KEPT_AGENT_CHARACTERS = 128
_ROUNDING_S = 1e-6
_POINTS: Mapping[Offence, float] = {
    Offence.SCANNER: BAN_POINTS,
    Offence.GUESSING: 10.0,
    Offence.STRANGER: 10.0,
    Offence.MALFORMED: 5.0,
    Offence.BROKEN_STREAM: 20.0,
    Offence.FLOOD: 1.0,
}

# Anybody's web page can make a browser in the office send these from there, over a connection.
_NOT_ITS_OWN = frozenset({Offence.MALFORMED, Offence.BROKEN_STREAM})

# Words by which scanners introduce themselves; few of them bother to change it. `sipsak` is not
# among them: operators probe with it.
_SCANNERS = re.compile(
    r"\b(?:friendly-scanner|friendly-request|sipvicious|sip-?scan|sundayddr|iwar|sivus|smap"
    r"|vaxsipuseragent|vaxasip|sipcli|pplsip|siparmyknife|warvox|nmap|masscan|zgrab)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Rate:
    """So many requests a second, after a burst of so many."""

    per_second: float
    burst: float


@dataclass(frozen=True, slots=True)
class DefenceLimits:
    """What a source may do before it is slowed down, and how long it is shut out."""

    register: Rate = Rate(50, 1000)
    invite: Rate = Rate(20, 100)
    other: Rate = Rate(50, 500)
    ban_s: float = 300.0
    longest_ban_s: float = 86_400.0
    max_sources: int = 65_536


@dataclass(frozen=True, slots=True)
class Ban:
    """A source that is shut out."""

    source: str
    offence: Offence
    since_s: float
    until_s: float


class _Source:
    """What is remembered of one address: points, bans so far, and where each rate stands."""

    __slots__ = ("bans", "busy_until_s", "points", "points_at_s")

    def __init__(self, now_s: float) -> None:
        self.points = 0.0
        self.points_at_s = now_s
        self.bans = 0
        self.busy_until_s = [0.0, 0.0, 0.0]  # of register, invite, other

    def add(self, points: float, now_s: float) -> float:
        """Add points to what has not faded yet."""
        faded = (now_s - self.points_at_s) * _POINTS_FADE_PER_S
        self.points = max(0.0, self.points - faded) + points
        self.points_at_s = now_s
        return self.points

    def fits(self, at: int, rate: Rate, now_s: float) -> bool:
        """Count one request of a class; False when it is above its rate (a GCRA)."""
        step_s = 1 / rate.per_second
        busy_until_s = max(self.busy_until_s[at], now_s) + step_s
        if busy_until_s - now_s > rate.burst * step_s + _ROUNDING_S:
            return False
        self.busy_until_s[at] = busy_until_s
        return True


class Defence:
    """Judges the sources of requests; one object for a node."""

    def __init__(
        self,
        limits: DefenceLimits | None = None,
        *,
        is_trusted: Callable[[str], bool],
        on_ban: Callable[[Ban], None] = lambda _ban: None,
    ) -> None:
        """`is_trusted` tells carriers and our own proxies: they have limits of their own.

        An address can be forged over UDP, so whoever is trusted is never banned.
        """
        self._limits = limits or DefenceLimits()
        self._is_trusted = is_trusted
        self._on_ban = on_ban
        self._sources: OrderedDict[str, _Source] = OrderedDict()
        self._vouched: OrderedDict[str, float] = OrderedDict()
        self._bans: dict[str, Ban] = {}

    def is_banned(self, source: str) -> bool:
        """Whether nothing is taken from an address. One look-up: it is asked for each datagram."""
        return source in self._bans

    def bans(self, now_s: float) -> list[Ban]:
        """Return the bans in force, the newest first."""
        self.expire(now_s)
        return sorted(self._bans.values(), key=lambda ban: -ban.since_s)

    def lift(self, source: str) -> bool:
        """End a ban and forget what led to it; False when there is none."""
        self._sources.pop(source, None)
        return self._bans.pop(source, None) is not None

    def vouch(self, source: str, now_s: float) -> None:
        """Take note that a phone has proved its password from an address."""
        self._vouched[source] = now_s
        self._vouched.move_to_end(source)
        if len(self._vouched) > self._limits.max_sources:
            self._vouched.popitem(last=False)

    def is_vouched(self, source: str) -> bool:
        """Whether a phone has proved its password from an address in the last two hours."""
        return source in self._vouched

    @property
    def ban_count(self) -> int:
        """How many bans are in force."""
        return len(self._bans)

    def expire(self, now_s: float) -> None:
        """End the bans whose time has come; to be called each second or so."""
        for source in [each for each, ban in self._bans.items() if ban.until_s <= now_s]:
            del self._bans[source]
        while self._vouched:
            source, at_s = next(iter(self._vouched.items()))
            if now_s - at_s < _VOUCHED_S:
                break
            del self._vouched[source]

    def load(self, limits: DefenceLimits) -> None:
        """Take over other limits; bans stay."""
        self._limits = limits

    def judge(
        self, request: Request, source: str, now_s: float, *, is_forgeable: bool = False
    ) -> Offence | None:
        """Judge a new request; an offence means that it is not to be served.

        `is_forgeable`: it came as a datagram, so that anybody may have sent it.
        """
        if source in self._bans:
            return Offence.FLOOD  # it came by a connection or proxy that serves others too
        agent = request.headers.first_row("User-Agent") or ""
        if _is_scanner(agent[:_KEPT_AGENT_CHARACTERS]):
            self.strike(source, Offence.SCANNER, now_s, is_forgeable=is_forgeable)
            return Offence.SCANNER
        if self._is_trusted(source):
            return None
        limits = self._limits
        known = self._source(source, now_s)
        if request.method == "INVITE":
            fits = known.fits(1, limits.invite, now_s)
        elif request.method == "REGISTER":
            fits = known.fits(0, limits.register, now_s)
        else:
            fits = known.fits(2, limits.other, now_s)
        if fits:
            return None
        if not (is_forgeable and source in self._vouched):
            self._add(known, source, Offence.FLOOD, now_s, is_forgeable=is_forgeable)
        return Offence.FLOOD

    def strike(
        self, source: str, offence: Offence, now_s: float, *, is_forgeable: bool = False
    ) -> None:
        """Take note of an offence; enough of them make a ban."""
        if self._is_trusted(source) or source in self._bans:
            return
        is_excused = is_forgeable or offence in _NOT_ITS_OWN
        if not (is_excused and source in self._vouched):
            known = self._source(source, now_s)
            self._add(known, source, offence, now_s, is_forgeable=is_forgeable)

    def _source(self, source: str, now_s: float) -> _Source:
        known = self._sources.get(source)
        if known is None:
            known = self._sources[source] = _Source(now_s)
            if len(self._sources) > self._limits.max_sources:
                self._sources.popitem(last=False)  # a flood from many addresses must not grow it
        else:
            self._sources.move_to_end(source)
        return known

    def _add(
        self, known: _Source, source: str, offence: Offence, now_s: float, *, is_forgeable: bool
    ) -> None:
        points = min(_POINTS[offence], _DATAGRAM_POINTS) if is_forgeable else _POINTS[offence]
        if known.add(points, now_s) < BAN_POINTS:
            return
        limits = self._limits
        lasts_s = min(limits.ban_s * 2**known.bans, limits.longest_ban_s)
        known.bans += 1
        known.points = 0.0
        if len(self._bans) >= limits.max_sources:
            del self._bans[next(iter(self._bans))]
        ban = self._bans[source] = Ban(source, offence, now_s, now_s + lasts_s)
        self._on_ban(ban)


@lru_cache(maxsize=1024)
def _is_scanner(user_agent: str) -> bool:
    return _SCANNERS.search(user_agent) is not None
