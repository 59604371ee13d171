"""The event package message-summary: lamps that tell of voice mail (RFC 3842)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from cti.sip.authentication.phone_auth import PhoneAccount
from cti.sip.events.event_package import Changed, Resource
from domain.ids import TenantId


@dataclass(frozen=True, slots=True)
class VoiceMail:
    """What is in a mailbox."""

    new: int
    old: int
    new_urgent: int = 0
    old_urgent: int = 0


class MessageCounts(Protocol):
    """Knows the mailboxes of all tenants."""

    def voice_mail(self, tenant: TenantId, user: str) -> VoiceMail | None:
        """Return what is in a user's mailbox, None for a user without one."""

    def watch(self, changed: Changed) -> None:
        """Have `changed` called when a mailbox has changed."""


class MessageSummary:
    """Tells each phone of its own mailbox."""

    name: Final = "message-summary"
    content_type: Final = "application/simple-message-summary"
    default_expires_s: Final = 3600  # section 3.3 leaves it open; a phone refreshes in time anyway

    def __init__(self, counts: MessageCounts) -> None:
        self._counts = counts

    def admits(self, account: PhoneAccount, resource: Resource) -> bool:
        """See EventPackage: mail is private."""
        return resource.user == account.user

    def state(self, resource: Resource, sent: int) -> bytes | None:  # noqa: ARG002 - a full state
        """See EventPackage (RFC 3842 5.2)."""
        mail = self._counts.voice_mail(resource.tenant, resource.user)
        if mail is None:
            return None
        waiting = "yes" if mail.new else "no"
        return (
            f"Messages-Waiting: {waiting}\r\n"
            f"Message-Account: {resource.uri}\r\n"
            f"Voice-Message: {mail.new}/{mail.old} ({mail.new_urgent}/{mail.old_urgent})\r\n"
        ).encode()

    def watch(self, changed: Changed) -> None:
        """See EventPackage."""
        self._counts.watch(changed)
