"""Calls out: which trunks to try for a number, in which order, and what their failures mean."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from prometheus_client import Counter

from cti.identity import UserToUser, outgoing_identity, user_to_user_header
from cti.sip.authentication.digest import Credentials
from cti.sip.messages.uri import NameAddr, SipUri
from cti.sip.transports.transport import Hop
from cti.trunks.directory import TrunkDirectory
from cti.trunks.health_book import HealthBook
from cti.trunks.limits import CallLimit
from cti.trunks.outside_number import dial_form
from cti.trunks.rewriting import is_diallable, rewritten
from cti.trunks.selection import Candidate, Fitness, in_order
from cti.trunks.settings import OutboundSettings
from cti.trunks.target import Target, targets_of
from cti.trunks.trunk import Trunk
from domain.failures import Code, PlatformError
from domain.ids import TenantId

_FAILOVERS = Counter(
    "trunk_failovers", "Calls out that a trunk failed, so that the next was tried", ["reason"]
)

# The trunk failed, not the callee: another one may do better. 401 and 407 are about our password
# there. RFC 3261 21.5 and 16.7 step 6; what the callee answers (486, 603, 404, 480) is not here.
_TRUNK_FAILED = frozenset({401, 407, 408, 430, 500, 502, 503, 504})
_SILENT = frozenset({Code.SIP_TIMEOUT, Code.SIP_TRANSPORT})

Locate = Callable[[SipUri], Awaitable[list[Hop]]]
"""RFC 3263: the addresses of a URI, the best first."""
PasswordOf = Callable[[TenantId, str], str | None]
"""The password that a carrier knows us by, by tenant and trunk."""


@dataclass(frozen=True, slots=True)
class TrunkAttempt:
    """One INVITE to try."""

    trunk: str
    tenant: TenantId
    uri: str
    from_: NameAddr
    to: NameAddr
    hop: Hop
    route: tuple[str, ...]
    headers: tuple[tuple[str, str], ...]
    credentials: Credentials | None
    answer_within_s: float
    """Without any response for so long, the next attempt is due."""
    progress_within_s: float
    """The same when nothing but 100 came."""
    server: str
    """The target as text, by which its health is kept."""
    key: int
    """Tells attempts apart that are equal in all else."""


class OutboundTrunks:
    """The trunks of all tenants, as calls out see them."""

    def __init__(
        self,
        directory: Callable[[], TrunkDirectory],
        health: HealthBook,
        locate: Locate,
        password_of: PasswordOf,
        *,
        random_number: Callable[[], float] = random.random,
    ) -> None:
        """`directory` gives the one in use, which changes with the configuration."""
        self._directory = directory
        self._health = health
        self._locate = locate
        self._password_of = password_of
        self._random = random_number
        self._keys = itertools.count(1)
        self._taken: dict[int, CallLimit] = {}
        self._clock = asyncio.get_running_loop().time

    async def attempts(
        self,
        tenant: TenantId,
        number: str,
        *,
        caller: str = "",
        privacy: bool = False,
        user_to_user: UserToUser | None = None,
    ) -> list[TrunkAttempt]:
        """Return the INVITEs to try, the best first; `user_to_user` goes along (RFC 7433).

        PlatformError NUMBER_FORBIDDEN, TRUNK_BUSY where all are at their limit, or NO_TRUNK.
        """
        directory = self._directory()
        access = directory.access.get(tenant)
        if access is None:
            raise PlatformError(Code.NO_TRUNK, "the tenant has none")
        rules = access.outbound
        dialled = dial_form(number, rules, access.home_mobiles)
        shown = _caller_number(rules, caller) or access.access_codes[0].code
        passed = () if user_to_user is None else (user_to_user_header(user_to_user),)
        trunks = _trunks_out(directory, tenant, rules)
        chosen = in_order(self._candidates(trunks), self._random)
        if trunks and not chosen:
            raise PlatformError(Code.TRUNK_BUSY, "all trunks of the tenant")
        # All at once: a name server that is slow for one trunk must not delay the others' turn.
        ways = await asyncio.gather(
            *(self._over(one.item, dialled, shown, passed, privacy=privacy) for one in chosen)
        )
        found = [attempt for attempts in ways for attempt in attempts]
        if not found:
            raise PlatformError(Code.NO_TRUNK, "none has a server that can be found")
        return found

    def take(self, attempt: TrunkAttempt, now_s: float) -> bool:
        """Take a channel and one of the calls a second; False when the trunk is at its limit."""
        trunk = self._directory().trunks.get((attempt.tenant, attempt.trunk))
        if trunk is None or attempt.key in self._taken:
            return False
        if not trunk.limit.has_room(now_s, outbound=True):
            return False
        trunk.limit.take(outbound=True)
        self._taken[attempt.key] = trunk.limit
        return True

    def release(self, attempt: TrunkAttempt) -> None:
        """Give the channel back; once is enough, and more do no harm."""
        limit = self._taken.pop(attempt.key, None)
        if limit is not None:
            limit.release(outbound=True)

    def report(
        self,
        attempt: TrunkAttempt,
        status: int,
        code: Code,
        *,
        retry_after_s: float = 0.0,
        was_heard: bool = False,
    ) -> bool:
        """Take the outcome of an INVITE, 200 when it was answered; True: try the next attempt.

        `was_heard` tells that the far end rang: the trunk did its part, whatever came after, and
        who rang already is not rung twice.
        """
        is_silent = code in _SILENT
        if was_heard or not (is_silent or status in _TRUNK_FAILED):
            self._health.call_taken(attempt.server, attempt.hop)
            return False
        _FAILOVERS.labels("silence" if is_silent else str(status)).inc()
        self._health.call_failed(
            attempt.server,
            attempt.hop,
            is_silent=is_silent,
            detail=str(code) if is_silent else str(status),
            retry_after_s=retry_after_s,
        )
        return True

    @property
    def calls(self) -> int:
        """Channels taken by calls out."""
        return len(self._taken)

    def _candidates(self, trunks: list[Trunk]) -> list[Candidate[Trunk]]:
        now = self._clock()
        return [
            Candidate(
                trunk,
                trunk.settings.priority,
                trunk.settings.weight,
                self._fitness(trunk, now),
            )
            for trunk in trunks
        ]

    def _fitness(self, trunk: Trunk, now: float) -> Fitness:
        if not trunk.limit.has_room(now, outbound=True):
            return Fitness.FULL
        fit = any(self._health.is_server_fit(str(each), now) for each in targets_of(trunk))
        return Fitness.FIT if fit else Fitness.UNFIT

    async def _over(
        self,
        trunk: Trunk,
        dialled: str,
        shown: str,
        passed: tuple[tuple[str, str], ...],
        *,
        privacy: bool,
    ) -> list[TrunkAttempt]:
        """Return the attempts over one trunk: each address of each server."""
        settings = trunk.settings
        number = rewritten(trunk.called_out, dialled)
        if not is_diallable(number):
            return []
        domain = settings.register_.domain if settings.register_ is not None else ""
        hops = [(each, hop) for each in targets_of(trunk) for hop in await self._hops(each)]
        now = self._clock()
        # Addresses that seem down come last (sorting is stable).
        hops.sort(key=lambda each: not self._health.is_fit(str(each[0]), each[1], now))
        credentials = self._credentials(trunk)
        attempts = []
        for target, hop in hops:
            uri = replace(SipUri.parse(target.server), user=number)
            told = outgoing_identity(
                rewritten(trunk.caller_out, shown),
                domain or uri.host,
                style=settings.caller_id,
                privacy=privacy,
                knows_privacy=settings.privacy,
            )
            attempts.append(
                TrunkAttempt(
                    trunk=trunk.name,
                    tenant=trunk.tenant,
                    uri=str(uri),
                    from_=told.from_,
                    to=NameAddr(SipUri(user=number, host=domain or uri.host)),
                    hop=hop,
                    route=target.route,
                    headers=(*told.headers, *passed),
                    credentials=credentials,
                    answer_within_s=settings.answer_within_s,
                    progress_within_s=settings.progress_within_s,
                    server=str(target),
                    key=next(self._keys),
                )
            )
        return attempts

    async def _hops(self, target: Target) -> list[Hop]:
        try:
            return await self._locate(target.next_hop)
        except PlatformError:
            return self._health.hops_of(str(target))  # those of the last time are better than none

    def _credentials(self, trunk: Trunk) -> Credentials | None:
        user = trunk.settings.auth_user
        password = self._password_of(trunk.tenant, trunk.name) if user else None
        return None if password is None else Credentials(user, password)


def _trunks_out(
    directory: TrunkDirectory, tenant: TenantId, rules: OutboundSettings
) -> list[Trunk]:
    trunks = [t for t in directory.trunks_of_tenant.get(tenant, ()) if t.settings.server]
    return [t for t in trunks if t.name in rules.trunks] if rules.trunks else trunks


def _caller_number(rules: OutboundSettings, caller: str) -> str:
    """Return the number to show: only a tenant's own, whatever was asked for."""
    if caller in rules.caller_numbers:
        return caller
    return rules.default_caller or (rules.caller_numbers[0] if rules.caller_numbers else "")
