"""What a number dialled inside of a tenant means: a phone, an access code, or somebody outside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from cti.numbers import normalised_number, without_separators
from cti.settings import AccessCodeSettings
from cti.sip.messages.uri import SipUri, parse_uri
from domain.failures import Code, PlatformError
from domain.ids import TenantId

_MAX_NUMBER_LENGTH = 32
_DIALLED = frozenset("0123456789*#+")


@dataclass(frozen=True, slots=True)
class PhoneUser:
    """A phone of the tenant, by its SIP user."""

    user: str


@dataclass(frozen=True, slots=True)
class OutsideNumber:
    """A number for the tenant's trunks; they decide whether it may be called."""

    user: str


Destination: TypeAlias = PhoneUser | AccessCodeSettings | OutsideNumber


def no_phone(_tenant: TenantId, _user: str) -> bool:
    """Know no phones."""
    return False


def _no_access_code(_tenant: TenantId, _number: str) -> AccessCodeSettings | None:
    return None


class NumberPlan:
    """Of a URI only the user counts: a host named by a phone is never sent anything."""

    def __init__(
        self,
        *,
        is_phone: Callable[[TenantId, str], bool] = no_phone,
        access_code: Callable[[TenantId, str], AccessCodeSettings | None] = _no_access_code,
        has_trunks: bool = False,
    ) -> None:
        self._is_phone = is_phone
        self._access_code = access_code
        self._has_trunks = has_trunks

    def find(self, tenant: TenantId, uri: str) -> Destination:
        """Return what a SIP or tel URI leads to; PlatformError TRANSFER_TARGET_UNKNOWN."""
        user = _user_of(uri)
        if user and self._is_phone(tenant, user):
            return PhoneUser(user)
        number = normalised_number(user)
        access_code = self._access_code(tenant, number) if number else None
        if access_code is not None:
            return access_code
        # The trunks see what was dialled: a country code may be what chooses the carrier.
        dialled = without_separators(user)
        if self._has_trunks and 0 < len(dialled) <= _MAX_NUMBER_LENGTH and set(dialled) <= _DIALLED:
            return OutsideNumber(dialled)
        raise PlatformError(Code.TRANSFER_TARGET_UNKNOWN, "neither phone, access code nor number")


def _user_of(uri: str) -> str:
    parsed = parse_uri(uri)
    if isinstance(parsed, SipUri):
        return parsed.user.partition(";")[0]
    scheme, _, rest = parsed.partition(":")
    return rest.partition(";")[0] if scheme.lower() == "tel" else ""
