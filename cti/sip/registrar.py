"""The registrar of RFC 3261 section 10.3: who may register a phone, and where it is reached."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from cti.contacts import Binding, ContactChange, ContactStore, ContactUpdate
from cti.sip.dialog import resolve
from cti.sip.digest import MD5, AuthResult, DigestServer
from cti.sip.message import Request, Response, SipSyntaxError, response_to
from cti.sip.transport import Hop
from cti.sip.uri import NameAddr, SipUri
from domain.failures import PlatformError
from domain.ids import TenantId

_MAX_CONTACTS = 8
_DEFAULT_EXPIRES_S = 3600
_RETRY_AFTER_S = 10


@dataclass(frozen=True, slots=True)
class PhoneAccount:
    """A phone's right to register; `ha1` holds the stored password by algorithm."""

    tenant: TenantId
    user: str
    ha1: Mapping[str, str]


class PhoneDirectory(Protocol):
    """Knows the phones of all tenants."""

    def find(self, user: str, domain: str) -> PhoneAccount | None:
        """Return the account of an address of record; its domain tells the tenant."""


class RegistrarEvents:
    """What a registrar tells; override what is of interest."""

    def registered(self, tenant: TenantId, user: str, contact_uri: str, expires_s: int) -> None:
        """A contact was bound or refreshed."""

    def unregistered(self, tenant: TenantId, user: str, contact_uri: str) -> None:
        """A contact was removed by the phone; `*` stands for all."""

    def authentication_failed(self, user: str, source: str) -> None:
        """Somebody at address `source` gave a wrong password, or a user that does not exist."""


@dataclass(frozen=True, slots=True)
class RegisterOrder:
    """A REGISTER that was let in, to be carried out by `Registrar.apply`."""

    request: Request
    update: ContactUpdate


class Registrar:
    """Judges REGISTER requests and carries them out on a store."""

    def __init__(
        self,
        *,
        realm: str,
        directory: PhoneDirectory,
        store: ContactStore,
        events: RegistrarEvents | None = None,
        algorithms: Sequence[str] = (MD5,),
        min_expires_s: int = 60,
        max_expires_s: int = 3600,
        unix_clock: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory
        self._store = store
        self._events = events or RegistrarEvents()
        self._digest = DigestServer(realm, algorithms=algorithms)
        self._min_expires_s = min_expires_s
        self._max_expires_s = max_expires_s
        self._unix_clock = unix_clock

    def check(self, request: Request, hop: Hop, now: float) -> Response | RegisterOrder:
        """Judge a REGISTER that came from `hop` (10.3 steps 1 to 7)."""
        record = request.to.uri
        if not isinstance(record, SipUri) or not record.user:
            return response_to(request, 400, "Address of record is not a SIP user")
        account = self._directory.find(record.user, record.host)
        refusal = self._authenticate(request, record.user, account, hop, now)
        if refusal is not None or account is None:
            return refusal or response_to(request, 403)
        return self._read(request, account, hop)

    async def apply(self, order: RegisterOrder) -> Response:
        """Carry out what `check` let in (10.3 step 8)."""
        update = order.update
        try:
            bindings = await self._store.apply(update)
        except PlatformError as error:
            status = error.failure.sip_status
            headers = [("Retry-After", str(_RETRY_AFTER_S))]
            return response_to(order.request, status, headers=headers)
        if bindings is None:
            return response_to(order.request, 500, "CSeq Out Of Order")
        self._tell(update)
        now_s = self._unix_clock()
        headers = [("Contact", _contact(each, now_s)) for each in bindings]
        return response_to(order.request, 200, headers=headers)

    def _authenticate(
        self, request: Request, user: str, account: PhoneAccount | None, hop: Hop, now: float
    ) -> Response | None:
        result = self._digest.judge(
            request.headers.get_all("Authorization"),
            method=request.method,
            user=user,
            stored=account.ha1 if account else None,
            now=now,
        )
        if result is AuthResult.ACCEPTED:
            return None
        if result is AuthResult.WRONG:
            self._events.authentication_failed(user, hop.host)
        challenges = self._digest.challenges(now, stale=result is AuthResult.STALE)
        headers = [("WWW-Authenticate", each) for each in challenges]
        return response_to(request, 401, headers=headers)

    def _read(self, request: Request, account: PhoneAccount, hop: Hop) -> Response | RegisterOrder:
        contacts = request.headers.get_all("Contact")
        default_s = _expires(request.headers.get("Expires"), _DEFAULT_EXPIRES_S)
        cseq, _ = request.cseq
        if "*" in contacts:
            # 10.3 step 6: the star stands alone, and only to remove.
            if len(contacts) > 1 or request.headers.get("Expires") != "0":
                return response_to(request, 400, "Contact * removes all, and stands alone")
            update = ContactUpdate(
                account.tenant, account.user, request.call_id, cseq, remove_all=True
            )
            return RegisterOrder(request, update)
        if len(contacts) > _MAX_CONTACTS:
            return response_to(request, 403, "Too Many Contacts")
        changes = []
        for contact in contacts:
            change = self._change(contact, default_s, hop)
            if change is None:
                return response_to(request, 400, "Malformed Contact")
            if 0 < change.expires_s < self._min_expires_s:
                headers = [("Min-Expires", str(self._min_expires_s))]
                return response_to(request, 423, headers=headers)
            changes.append(change)
        update = ContactUpdate(account.tenant, account.user, request.call_id, cseq, tuple(changes))
        return RegisterOrder(request, update)

    def _change(self, contact: str, default_s: int, source: Hop) -> ContactChange | None:
        try:
            address = NameAddr.parse(contact)
        except SipSyntaxError:
            return None
        uri = address.uri
        if not isinstance(uri, SipUri) or uri.headers:
            return None
        expires_s = min(_expires(address.params.get("expires"), default_s), self._max_expires_s)
        # Behind NAT the Contact leads nowhere: such a phone is reached where it sends from.
        hop = resolve(uri, source) if uri.host == source.host else source
        return ContactChange(_contact_key(uri), address.uri_text, hop, expires_s)

    def _tell(self, update: ContactUpdate) -> None:
        if update.remove_all:
            self._events.unregistered(update.tenant, update.user, "*")
        for change in update.changes:
            if change.expires_s:
                self._events.registered(
                    update.tenant, update.user, change.contact_uri, change.expires_s
                )
            else:
                self._events.unregistered(update.tenant, update.user, change.contact_uri)


def _expires(text: str | None, default_s: int) -> int:
    """Return a lifetime; 20.10 and 20.19 have a malformed one count as an hour."""
    if text is None:
        return default_s
    text = text.strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        return _DEFAULT_EXPIRES_S
    return int(text)


def _contact_key(uri: SipUri) -> str:
    """Return what is equal for equal contacts (19.1.4, with the parameters that always count)."""
    transport = (uri.params.get("transport") or "").lower()
    return f"{uri.scheme}:{uri.user}@{uri.host}:{uri.port or ''};{transport}"


def _contact(binding: Binding, now_s: float) -> str:
    return f"<{binding.contact_uri}>;expires={max(0, round(binding.expires_unix_s - now_s))}"
