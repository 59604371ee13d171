"""Calls that registered phones make: to each other, to access codes, and over trunks."""

from __future__ import annotations

from collections import Counter

from cti.call import Call, DialError, DialTarget, ProgressingLeg
from cti.calls.number_plan import Destination, NumberPlan
from cti.sip.authentication.phone_auth import PhoneAccount, PhoneAuthenticator, PhoneDirectory
from cti.sip.messages.message import Response
from cti.sip.messages.uri import SipUri
from cti.sip.sessions.session import InviteSession
from domain.failures import Code
from domain.ids import TenantId

_RING_MS = 120_000


async def connect(call: Call, target: DialTarget) -> None:
    """Ring whom the phone has dialled and let both talk until one hangs up."""

    def relay(leg: ProgressingLeg) -> None:
        call.ring(leg if leg.has_early_media else None)

    try:
        leg = await call.dial(target, timeout_ms=_RING_MS, on_progress=relay)
    except DialError as failure:
        await call.hang_up(failure.code, sip_status=failure.sip_status)
        return
    await call.answer()
    await call.bridge(leg)
    await call.hang_up(Code.FAR_END_HUNG_UP)


class CallsOfPhones:
    """Counts the calls that each user's phones have made and that have not ended."""

    def __init__(self, max_calls: int) -> None:
        self._max_calls = max_calls
        self._calls: Counter[tuple[TenantId, str]] = Counter()

    def has_room(self, account: PhoneAccount) -> bool:
        """Whether one more call may begin."""
        return self._calls[account.tenant, account.user] < self._max_calls

    def take(self, account: PhoneAccount) -> None:
        """Count a call."""
        self._calls[account.tenant, account.user] += 1

    def release(self, account: PhoneAccount) -> None:
        """Give a call back, once."""
        owner = account.tenant, account.user
        self._calls[owner] -= 1
        if not self._calls[owner]:
            del self._calls[owner]


class PhoneDoor:
    """Lets phones in by their password. Who calls is who has authenticated, whatever From shows."""

    def __init__(
        self, directory: PhoneDirectory, authenticator: PhoneAuthenticator, plan: NumberPlan
    ) -> None:
        self._directory = directory
        self._authenticator = authenticator
        self._plan = plan

    def is_of_phone(self, session: InviteSession) -> bool:
        """Whether an INVITE says that a phone of ours has sent it."""
        uri = session.request.from_.uri
        return isinstance(uri, SipUri) and self._directory.find(uri.user, uri.host) is not None

    def authenticate(self, session: InviteSession) -> PhoneAccount | None:
        """Return whose INVITE it is; None when it was answered with a challenge."""
        judged = self._authenticator.judge(session, "INVITE")
        if not isinstance(judged, Response):
            return judged
        headers = [("WWW-Authenticate", each) for each in judged.headers.rows("WWW-Authenticate")]
        session.reject(Code.AUTHENTICATION_FAILED, status=judged.status, headers=headers)
        return None

    def destination(self, account: PhoneAccount, session: InviteSession) -> Destination:
        """Return what the phone has dialled; PlatformError when that is nothing."""
        return self._plan.find(account.tenant, session.request.uri)
