"""Who may call whom: trunk, access code, lists, limits.

A trunk is known by address, digest, certificate or registration.

Time comes in as monotonic seconds. One object holds the counts of live calls of a node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from cti.identity import CallerIdentity, identity_of
from cti.numbers import normalised_number, number_of, number_of_address, without_separators
from cti.settings import AccessCodeSettings, CallLimitSettings
from cti.sip.authentication.digest import AuthResult
from cti.sip.messages.message import Request
from cti.sip.messages.uri import SipUri
from cti.sip.transports.transport import Hop
from cti.trunks.authentication import TrunkAuthenticator
from cti.trunks.directory import TrunkDirectory
from cti.trunks.limits import CallLimit
from cti.trunks.number_lists import CallerPolicy, judge_caller
from cti.trunks.rewriting import rewritten
from cti.trunks.tenant_access import TenantAccess
from cti.trunks.trunk import AccessCode, Trunk
from domain.failures import Code
from domain.ids import TenantId

__all__ = ["Admission", "Admitted", "Refused", "TenantAccess", "Trunk"]

_NOBODY = CallerIdentity("")
_NO_TENANT = TenantId("")


@dataclass(frozen=True, slots=True)
class Admitted:
    """A call that may come in; give it back with `Admission.release` when it has ended."""

    tenant: TenantId
    trunk: Trunk
    access_code: AccessCodeSettings
    caller: CallerIdentity = _NOBODY
    called: str = ""
    landing_code: str = ""
    flow: str = ""
    """The access code's, or another one for the landing code."""
    number_list: str = ""
    """The white list that the caller is on."""
    code: AccessCode | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """A call that may not; tenant and trunk are empty where they are not known."""

    code: Code
    tenant: TenantId
    trunk: Trunk | None = None
    caller: CallerIdentity = _NOBODY
    called: str = ""
    number_list: str = ""
    """The black list that the caller is on, or `anonymous`."""
    status: int | None = None
    """Instead of the catalogue's."""
    headers: tuple[tuple[str, str], ...] = ()
    is_challenge: bool = False
    """The trunk is asked for its password: no call yet, so nothing to record."""


class Admission:
    """Admits or refuses the calls of one node."""

    def __init__(
        self,
        tenants: Iterable[TenantAccess],
        limit: CallLimitSettings | None = None,
        *,
        callers: CallerPolicy | None = None,
        authenticator: TrunkAuthenticator | None = None,
    ) -> None:
        """Raise PlatformError CONFIG_INVALID where trunks and codes leave a call ambiguous.

        `callers` are the lists that hold for all tenants.
        """
        limit = limit or CallLimitSettings()
        self._limit = CallLimit(limit.max_calls, limit.max_calls_per_second)
        self._directory = TrunkDirectory(tenants)
        self._callers = callers or CallerPolicy()
        self._hosts_of: dict[tuple[str, str], frozenset[str]] = {}
        self._registered_at: dict[str, set[str]] = {}
        self.authenticator = authenticator
        """Set by the node before calls come in; without it no trunk is admitted by digest."""
        self.identities_of: Callable[[Hop], frozenset[str]] = _no_identities
        """Set likewise: whom the certificate of a hop's peer proves it to be."""

    def load(
        self,
        tenants: Sequence[TenantAccess],
        limit: CallLimitSettings | None = None,
        *,
        callers: CallerPolicy | None = None,
    ) -> None:
        """Take over a new configuration, or raise as at first and keep the present one.

        Calls in progress stay counted: a trunk of the same name keeps its limit's count.
        """
        directory = TrunkDirectory(tenants)
        directory.take_over(self._directory)
        self._directory = directory
        self._callers = callers or CallerPolicy()
        limit = limit or CallLimitSettings()
        self._limit.change(limit.max_calls, limit.max_calls_per_second)

    @property
    def directory(self) -> TrunkDirectory:
        """The trunks and codes in use; another object after a reload."""
        return self._directory

    @property
    def calls(self) -> int:
        """Admitted calls that were not released yet."""
        return self._limit.calls

    def learn(self, contact_user: str, server: str, hosts: Iterable[str]) -> None:
        """Take note of the addresses of a server that a registered trunk's calls come from."""
        known = frozenset(hosts)
        if self._hosts_of.get((contact_user, server)) == known:
            return
        self._hosts_of[contact_user, server] = known
        registered_at: dict[str, set[str]] = {}
        for (user, _), addresses in self._hosts_of.items():
            for host in addresses:
                registered_at.setdefault(host, set()).add(user)
        self._registered_at = registered_at

    def knows(self, source_ip: str) -> bool:
        """Tell whether an address belongs to any trunk."""
        return source_ip in self._registered_at or self._directory.knows(source_ip)

    def trunks_of(self, source_ip: str) -> tuple[Trunk, ...]:
        """Return the trunks an address belongs to, the narrowest network first."""
        trunks = self._directory.trunks_of(source_ip)
        by_contact = self._directory.by_contact
        registered = (by_contact.get(user) for user in self._registered_at.get(source_ip, ()))
        return (*trunks, *(trunk for trunk in registered if trunk is not None))

    def admit_invite(
        self, request: Request, source_ip: str, now: float, hop: Hop | None = None
    ) -> Admitted | Refused:
        """Decide on an INVITE by all that it tells; `hop` is the one that it came over."""
        target = request.target
        user = target.user if isinstance(target, SipUri) else number_of(target)
        found = self._find(request, user, source_ip, hop)
        if isinstance(found, Refused):
            return found
        trunk, code = found
        caller = identity_of(request, is_trusted=trunk.settings.is_trusted)
        if trunk.caller_in:
            number = normalised_number(rewritten(trunk.caller_in, caller.number))
            caller = replace(caller, number=number)
        called = (
            number_of(request.to.uri) if user == trunk.contact_user else _rewritten(trunk, user)
        )
        if code is None:
            return Refused(Code.ACCESS_CODE_UNKNOWN, trunk.tenant, trunk, caller, called)
        decision = self._take(trunk, code, caller, called, now)
        if isinstance(decision, Refused):
            return decision
        landing_code = trunk.landing_code_of(request, caller)
        if not landing_code:
            return decision
        return replace(decision, landing_code=landing_code, flow=code.flow_of(landing_code))

    def admit(
        self, source_ip: str, called: str, now: float, *, caller: CallerIdentity = _NOBODY
    ) -> Admitted | Refused:
        """Decide by address and number alone; `called` is a user part in any form."""
        found = self._directory.find(source_ip, called)
        number = normalised_number(called)
        if found is not None and not found[0].needs_digest:
            return self._take(*found, caller, number, now)
        trunk = self._directory.first_trunk_of(source_ip)
        if found is not None or trunk is None or trunk.needs_digest:
            return Refused(Code.TRUNK_UNKNOWN, _NO_TENANT, None, caller, number)
        return Refused(Code.ACCESS_CODE_UNKNOWN, trunk.tenant, trunk, caller, number)

    def release(self, admitted: Admitted) -> None:
        """Give back an admitted call, once."""
        admitted.trunk.limit.release()
        self.free_room(admitted.code)

    def take_room(self, now: float, code: AccessCode | None = None) -> Code | None:
        """Count in a call of a phone of ours, to an access code or not; or tell what refuses it."""
        full = self._full(code, now)
        if full is None:
            self._count(code)
        return full

    def free_room(self, code: AccessCode | None = None) -> None:
        """Give back a call counted by `take_room`, once."""
        if code is not None and code.limit is not None:
            code.limit.release()
        self._limit.release()

    # Whose call it is

    def _find(
        self, request: Request, user: str, source_ip: str, hop: Hop | None
    ) -> tuple[Trunk, AccessCode | None] | Refused:
        directory = self._directory
        proven = self._registered(request, user, source_ip) or self._certified(user, source_ip, hop)
        if proven is not None:
            return proven
        authenticator = self.authenticator
        if authenticator is not None and directory.by_digest_user:
            trunk = directory.by_digest_user.get(authenticator.user_of(request))
            if trunk is not None and trunk.may_come_from(source_ip):
                refusal = _judge(authenticator, request, trunk)
                return refusal or (trunk, directory.code_of(trunk, user))
        found = directory.find(source_ip, user)
        if found is not None and not found[0].needs_digest:
            return found
        trunk = found[0] if found is not None else directory.first_trunk_of(source_ip)
        if authenticator is not None and (
            trunk.needs_digest if trunk is not None else directory.has_roaming_trunks
        ):
            return _challenge(authenticator, trunk)
        if trunk is None or trunk.needs_digest:
            caller = identity_of(request, is_trusted=False)
            called = normalised_number(user)
            return Refused(Code.TRUNK_UNKNOWN, _NO_TENANT, None, caller, called)
        return trunk, None

    def _registered(
        self, request: Request, user: str, source_ip: str
    ) -> tuple[Trunk, AccessCode | None] | None:
        """Find the trunk whose Contact is called by its carrier."""
        trunk = self._directory.by_contact.get(user)
        if trunk is None or not self._may_send(trunk, source_ip):
            return None
        return trunk, self._registered_code(request, trunk)

    def _certified(
        self, user: str, source_ip: str, hop: Hop | None
    ) -> tuple[Trunk, AccessCode | None] | None:
        """Find the trunk that the certificate of the caller's connection names."""
        if hop is None or not self._directory.has_certified_trunks:
            return None
        found = self._directory.find_certified(self.identities_of(hop), user)
        return found if found is not None and found[0].may_come_from(source_ip) else None

    def _may_send(self, trunk: Trunk, source_ip: str) -> bool:
        """Tell whether a call to the Contact that a trunk registered comes from its carrier."""
        if trunk.settings.register_ is None:
            return False
        is_known = trunk.contact_user in self._registered_at.get(source_ip, ())
        return is_known or trunk.sends_from(source_ip)

    def _registered_code(self, request: Request, trunk: Trunk) -> AccessCode | None:
        """Return the access code of a call to our Contact: its URI does not tell the number."""
        for number in (
            number_of(request.to.uri),
            *map(number_of_address, request.headers.rows("P-Called-Party-ID")),
        ):
            code = self._directory.code_of(trunk, number)
            if code is not None:
                return code
        return None

    # Whether there is room for it

    def _take(
        self, trunk: Trunk, code: AccessCode, caller: CallerIdentity, called: str, now: float
    ) -> Admitted | Refused:
        tenant, access = trunk.tenant, self._directory.access[trunk.tenant]
        number_list = ""
        if not (access.callers.is_empty and self._callers.is_empty):
            verdict, status = judge_caller(
                (access.callers, self._callers), caller.number, is_anonymous=caller.is_anonymous
            )
            number_list = verdict.rule
            if verdict.is_blocked:
                return Refused(
                    Code.NUMBER_BLOCKED, tenant, trunk, caller, called, number_list, status
                )
        busy = self._busy(trunk, code, now)
        if busy is not None:
            return Refused(busy, tenant, trunk, caller, called, number_list)
        trunk.limit.take()
        self._count(code)
        return Admitted(
            tenant,
            trunk,
            code.settings,
            caller,
            called,
            flow=code.settings.flow,
            number_list=number_list,
            code=code,
        )

    def _busy(self, trunk: Trunk, code: AccessCode, now: float) -> Code | None:
        if not trunk.limit.has_room(now):
            return Code.TRUNK_BUSY
        return self._full(code, now)

    def _full(self, code: AccessCode | None, now: float) -> Code | None:
        if code is not None and code.limit is not None and not code.limit.has_room(now):
            return Code.ACCESS_CODE_BUSY
        return None if self._limit.has_room(now) else Code.OVERLOADED

    def _count(self, code: AccessCode | None) -> None:
        if code is not None and code.limit is not None:
            code.limit.take()
        self._limit.take()


def _no_identities(_hop: Hop) -> frozenset[str]:
    return frozenset()


def _rewritten(trunk: Trunk, user: str) -> str:
    number = without_separators(user)
    return normalised_number(rewritten(trunk.called_in, number) if trunk.called_in else number)


def _judge(authenticator: TrunkAuthenticator, request: Request, trunk: Trunk) -> Refused | None:
    result = authenticator.judge(request, trunk)
    if result is AuthResult.ACCEPTED:
        return None
    if result is AuthResult.WRONG:
        headers = authenticator.challenge()
        return Refused(
            Code.AUTHENTICATION_FAILED, trunk.tenant, trunk, identity_of(request), headers=headers
        )
    return _challenge(authenticator, trunk, stale=result is AuthResult.STALE)


def _challenge(
    authenticator: TrunkAuthenticator, trunk: Trunk | None, *, stale: bool = False
) -> Refused:
    return Refused(
        Code.AUTHENTICATION_FAILED,
        _NO_TENANT if trunk is None else trunk.tenant,
        trunk,
        headers=authenticator.challenge(stale=stale),
        is_challenge=True,
    )
