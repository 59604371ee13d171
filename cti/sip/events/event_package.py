"""What an event package adds to the subscriptions of RFC 6665."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cti.sip.authentication.phone_auth import PhoneAccount
from cti.sip.messages.uri import SipUri
from domain.ids import TenantId

Changed = Callable[[TenantId, str], None]
"""Hears which user's state has changed."""


@dataclass(frozen=True, slots=True)
class Resource:
    """The user whose state is watched."""

    tenant: TenantId
    user: str
    host: str
    """The domain by which the subscriber knows the user."""

    @property
    def uri(self) -> str:
        """The address of record."""
        return str(SipUri(user=self.user, host=self.host))


class EventPackage(Protocol):
    """One package: who may watch what, and how it is written."""

    @property
    def name(self) -> str:
        """The name in Event, in lower case."""

    @property
    def content_type(self) -> str:
        """The type of its bodies."""

    @property
    def default_expires_s(self) -> int:
        """How long a subscription lasts whose SUBSCRIBE does not say it."""

    def admits(self, account: PhoneAccount, resource: Resource) -> bool:
        """Whether this phone may watch the resource, which is of its own tenant."""

    def state(self, resource: Resource, sent: int) -> bytes | None:
        """Return the body that follows `sent` others, None when there is no such user."""

    def watch(self, changed: Changed) -> None:
        """Have `changed` called for each change of a user's state."""
