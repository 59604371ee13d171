"""The defence of a node's SIP side: its clock, its figures and events, and the operator's view."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address

import structlog
from fastapi import APIRouter, HTTPException, Request
from prometheus_client import Counter, Gauge

from cti.settings import DefenceSettings, RateSettings
from cti.sip.defence.guard import DROP, PASS
from cti.sip.defence.offences import Ban, Defence, DefenceLimits, Offence, Rate
from cti.sip.defence.source import TrustedProxies
from cti.sip.messages import message
from cti.sip.transports import transport
from cti.trunks.limits import TokenBucket
from cti95598.events.v1.events_pb2 import SourceBanned
from domain.events import EventStamp
from domain.failures import Code
from domain.ids import TenantId

_log = structlog.get_logger(__name__)

_REFUSED = Counter("sip_refused_sources", "Requests not served because of their source", ["why"])
_REFUSED_BY_OFFENCE = {offence: _REFUSED.labels(offence.value) for offence in Offence}
_OFFENCES = Counter("sip_offences", "Offences of sources that are not trusted", ["offence"])
_OFFENCE_COUNTERS = {offence: _OFFENCES.labels(offence.value) for offence in Offence}
_BANNED = Counter("sip_bans", "Bans since the start")
_BANS = Gauge("sip_banned_sources", "Addresses that are shut out now")

_EXPIRE_PERIOD_S = 1.0
_OVERLOADED = 503
_FORBIDDEN = 403
# Bans are all counted; this many a second are worth an event and a line of the log.
_BANS_TOLD_PER_S = 10


@dataclass(frozen=True, slots=True)
class BannedSource:
    """One ban as operators see it."""

    address: str
    offence: str
    lasts_s: int


class SourceDefence:
    """Implements `cti.sip.defence.guard.Guard` on the loop's clock; used from `start` to `stop`."""

    def __init__(
        self,
        settings: DefenceSettings,
        *,
        is_trusted: Callable[[str], bool],
        events: EventStamp,
        tenant: TenantId,
    ) -> None:
        """`tenant` is the one under which bans are recorded: an attacker belongs to none."""
        self._is_trunk_or_proxy = is_trusted
        self._events = events
        self._tenant = tenant
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._allowed = TrustedProxies(settings.allow)
        self._tellable = TokenBucket(_BANS_TOLD_PER_S)
        self._defence = Defence(_limits(settings), is_trusted=self._is_trusted, on_ban=self._on_ban)
        self.is_phone = self._defence.is_vouched
        self.is_banned = self._defence.is_banned  # no step between: asked for each datagram

    def start(self) -> None:
        """Let bans expire from now on."""
        self._timer = self._loop.call_later(_EXPIRE_PERIOD_S, self._expire)

    def stop(self) -> None:
        """Stop the clock."""
        if self._timer is not None:
            self._timer.cancel()

    def load(self, settings: DefenceSettings) -> None:
        """Take over other settings; bans of sources that are now allowed end."""
        self._allowed = TrustedProxies(settings.allow)
        self._defence.load(_limits(settings))
        for ban in self._defence.bans(self._loop.time()):
            if self._is_trusted(ban.source):
                self._defence.lift(ban.source)

    # cti.sip.defence.guard.Guard

    def judge(
        self,
        request: message.Request,
        hop: transport.Hop,
        source: str,
        now_s: float,
    ) -> int:
        """See Guard."""
        is_forgeable = hop.transport == "udp"
        offence = self._defence.judge(request, source, now_s, is_forgeable=is_forgeable)
        if offence is None:
            return PASS
        _REFUSED_BY_OFFENCE[offence].inc()
        # Whoever is just too fast learns when to come back; scanners and banned ones learn nothing.
        if offence is Offence.FLOOD and not self._defence.is_banned(source):
            return _OVERLOADED
        # A proxy of ours takes a silent node for dead: a stranger must not have it do so.
        return DROP if source == hop.host else _FORBIDDEN

    def on_malformed(self, hop: transport.Hop) -> None:
        """See Guard."""
        self.strike(hop.host, Offence.MALFORMED, is_forgeable=hop.transport == "udp")

    def on_broken_stream(self, hop: transport.Hop) -> None:
        """See Guard."""
        self.strike(hop.host, Offence.BROKEN_STREAM)

    # What other parts tell

    def strike(self, source: str, offence: Offence, *, is_forgeable: bool = False) -> None:
        """Take note of an offence of an address; see `Defence.judge` for `is_forgeable`."""
        _OFFENCE_COUNTERS[offence].inc()
        self._defence.strike(source, offence, self._loop.time(), is_forgeable=is_forgeable)

    def vouch(self, source: str) -> None:
        """Take note that a phone has proved its password from an address."""
        self._defence.vouch(source, self._loop.time())

    # Operators

    def bans(self) -> list[BannedSource]:
        """Return the bans in force, the newest first."""
        now_s = self._loop.time()
        return [
            BannedSource(ban.source, ban.offence.value, round(ban.until_s - now_s))
            for ban in self._defence.bans(now_s)
        ]

    def lift(self, source: str) -> bool:
        """End a ban; False when there is none."""
        lifted = self._defence.lift(source)
        if lifted:
            _log.warning("sip_ban_lifted", source=source)
        return lifted

    def _is_trusted(self, source: str) -> bool:
        return self._is_trunk_or_proxy(source) or source in self._allowed

    def _on_ban(self, ban: Ban) -> None:
        _BANNED.inc()
        if not self._tellable.has_token(self._loop.time()):
            return  # forged senders are as many as one likes
        self._tellable.take()
        lasts_s = ban.until_s - ban.since_s
        _log.warning("sip_source_banned", source=ban.source, offence=ban.offence, lasts_s=lasts_s)
        self._events.publish(
            self._tenant,
            SourceBanned(
                source_address=ban.source,
                offence=ban.offence.value,
                duration_ms=round(lasts_s * 1000),
            ),
            cause=Code.SOURCE_BANNED,
        )

    def _expire(self) -> None:
        now_s = self._loop.time()
        self._defence.expire(now_s)
        _BANS.set(self._defence.ban_count)
        self.start()


def bans_router(defence: SourceDefence) -> APIRouter:
    """Show bans to whoever sees the gateway; lifting one is for this machine only."""
    router = APIRouter()

    @router.get("/bans")
    async def bans() -> list[BannedSource]:
        return defence.bans()

    @router.delete("/bans/{address}", status_code=204)
    async def lift(address: str, request: Request) -> None:
        if request.client is None or not ip_address(request.client.host).is_loopback:
            raise HTTPException(403, "only from this machine")
        if not defence.lift(address):
            raise HTTPException(404, "no such ban")

    return router


def _limits(settings: DefenceSettings) -> DefenceLimits:
    return DefenceLimits(
        register=_rate(settings.register_rate),
        invite=_rate(settings.invite_rate),
        other=_rate(settings.other_rate),
        ban_s=settings.ban_s,
        longest_ban_s=settings.longest_ban_s,
    )


def _rate(settings: RateSettings) -> Rate:
    return Rate(settings.per_second, settings.burst)
