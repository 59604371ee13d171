"""Authentication of phones: whoever sends as a user of ours shows that user's password."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import Counter

from cti.sip.authentication.digest import AuthResult, DigestServer, parse_digest
from cti.sip.messages.message import Request, Response, response_to
from cti.sip.messages.syntax import SipSyntaxError
from cti.sip.messages.uri import SipUri, parse_uri
from domain.ids import TenantId

_FAILURES = Counter("sip_authentication_failures", "Wrong passwords and unknown users of phones")

FailureHook = Callable[[str, str], None]
"""Hears the address of the sender and the user it named; the address is not forged, since the
credentials answer a nonce that was sent there."""
SuccessHook = Callable[[str], None]
"""Hears the address that a password came from."""


@dataclass(frozen=True, slots=True)
class PhoneAccount:
    """A phone's right to register and to call; `ha1` holds the stored password by algorithm."""

    tenant: TenantId
    user: str
    ha1: Mapping[str, str]


class PhoneDirectory(Protocol):
    """Knows the phones of all tenants."""

    def find(self, user: str, domain: str) -> PhoneAccount | None:
        """Return the account of an address of record; its domain tells the tenant."""


class Arrival(Protocol):
    """A request and the address of its sender: a server transaction, or a session that came in."""

    @property
    def request(self) -> Request:
        """The request."""

    @property
    def source(self) -> str:
        """The sender's address, also behind a trusted proxy."""


class PhoneAuthenticator:
    """Judges requests of phones by digest (RFC 3261 22).

    As a user agent server it challenges with 401; a proxy in front may ask for its own by 407.
    """

    def __init__(
        self,
        directory: PhoneDirectory,
        digest: DigestServer,
        *,
        on_failure: FailureHook | None = None,
        on_success: SuccessHook | None = None,
        unix_clock: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory
        self._digest = digest
        self._on_failure = on_failure
        self._on_success = on_success
        self._unix_clock = unix_clock

    def judge(self, arrival: Arrival, method: str) -> PhoneAccount | Response:
        """Return whose phone sent the request, or what to answer it.

        The user is that of To in a REGISTER, of From in all else. ACK and CANCEL cannot be
        challenged (22.1), so they are not for this.
        """
        request = arrival.request
        claimed = request.to.uri if method == "REGISTER" else request.from_.uri
        if not isinstance(claimed, SipUri) or not claimed.user:
            return response_to(request, 403)
        account = self._directory.find(claimed.user, claimed.host)
        now_s = self._unix_clock()
        result = self._digest.judge(
            request.headers.get_all("Authorization"),
            method=method,
            user=claimed.user,
            stored=account.ha1 if account else None,
            now=now_s,
            source=arrival.source,
        )
        if result is AuthResult.ACCEPTED and account is not None:
            if method == "INVITE" and _is_for_another(request):
                return response_to(request, 400, "Credentials Are For Another Number")
            if self._on_success is not None:
                self._on_success(arrival.source)
            return account
        if result is AuthResult.WRONG:
            _FAILURES.inc()
            if self._on_failure is not None:
                self._on_failure(arrival.source, claimed.user)
        headers = self.challenge(arrival.source, stale=result is AuthResult.STALE)
        return response_to(request, 401, headers=headers)

    def challenge(self, source: str, *, stale: bool = False) -> list[tuple[str, str]]:
        """Return the headers of a 401 for whoever is at this address."""
        values = self._digest.challenges(self._unix_clock(), stale=stale, source=source)
        return [("WWW-Authenticate", each) for each in values]


def _is_for_another(request: Request) -> bool:
    """Whether credentials were overheard in a call to somebody else (RFC 7616 3.4.6).

    Of the URIs only the users are compared: proxies rewrite the rest.
    """
    dialled = _user_of(request.uri)
    for value in request.headers.get_all("Authorization"):
        named = _user_of((parse_digest(value) or {}).get("uri", ""))
        if named and named != dialled:
            return True
    return False


def _user_of(text: str) -> str:
    try:
        uri = parse_uri(text)
    except SipSyntaxError:
        return ""
    return uri.user if isinstance(uri, SipUri) else uri.partition(":")[2]
