"""The event package dialog: lamps that tell who is on the phone (RFC 4235)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal, Protocol
from xml.etree import ElementTree as ET

from cti.sip.authentication.phone_auth import PhoneAccount
from cti.sip.events.event_package import Changed, Resource
from cti.sip.messages.uri import SipUri
from domain.ids import TenantId

_NAMESPACE = "urn:ietf:params:xml:ns:dialog-info"
_MAX_DIALOGS = 8
"""A NOTIFY has to fit into one datagram; a lamp has one colour anyway."""


class DialogStage(StrEnum):
    """How far a call is (RFC 4235 3.7.1)."""

    TRYING = "trying"
    EARLY = "early"
    CONFIRMED = "confirmed"
    TERMINATED = "terminated"


@dataclass(frozen=True, slots=True)
class PhoneDialog:
    """One call of a phone."""

    key: str
    """Tells the calls of a phone apart; it is not shown."""
    stage: DialogStage
    direction: Literal["initiator", "recipient"]
    """Whether the phone calls or is called."""
    remote_number: str = ""
    """The other side as watchers may see it: in full, masked, or not at all."""
    remote_name: str = ""


class DialogStates(Protocol):
    """Knows what the phones of all tenants are doing."""

    def dialogs(self, tenant: TenantId, user: str) -> Sequence[PhoneDialog] | None:
        """Return the calls of a user's phones, None when there is no such user."""

    def watch(self, changed: Changed) -> None:
        """Have `changed` called when a phone's calls have changed."""


class DialogInfo:
    """Tells phones of the calls of others of their tenant; always the full state.

    Ids are hashes, and nothing else of the signalling is shown: who could read call ids and tags
    could take calls over by Replaces.
    """

    name: Final = "dialog"
    content_type: Final = "application/dialog-info+xml"
    default_expires_s: Final = 3600  # RFC 4235 3.4

    def __init__(self, states: DialogStates) -> None:
        self._states = states
        self._hash_key = os.urandom(32)

    def admits(self, account: PhoneAccount, resource: Resource) -> bool:
        """See EventPackage: colleagues see each other's lamps."""
        return resource.tenant == account.tenant

    def state(self, resource: Resource, sent: int) -> bytes | None:
        """See EventPackage; `sent` is the version, which has to grow by one (RFC 4235 4.1.1)."""
        dialogs = self._states.dialogs(resource.tenant, resource.user)
        if dialogs is None:
            return None
        root = ET.Element(
            "dialog-info",
            {
                "xmlns": _NAMESPACE,
                "version": str(sent),
                "state": "full",
                "entity": resource.uri,
            },
        )
        for each in dialogs[:_MAX_DIALOGS]:
            self._add(root, each, resource.host)
        body: bytes = ET.tostring(root, encoding="UTF-8", xml_declaration=True)
        return body

    def watch(self, changed: Changed) -> None:
        """See EventPackage."""
        self._states.watch(changed)

    def _add(self, root: ET.Element, dialog: PhoneDialog, host: str) -> None:
        attributes = {"id": self._hashed(dialog.key), "direction": dialog.direction}
        element = ET.SubElement(root, "dialog", attributes)
        ET.SubElement(element, "state").text = dialog.stage.value
        if dialog.remote_number:
            remote = ET.SubElement(element, "remote")
            identity = ET.SubElement(remote, "identity")
            if dialog.remote_name:
                identity.set("display", _plain(dialog.remote_name))
            uri = str(SipUri(user=_plain(dialog.remote_number), host=host))
            identity.text = uri
            ET.SubElement(remote, "target", {"uri": uri})

    def _hashed(self, key: str) -> str:
        return hashlib.blake2s(key.encode(), key=self._hash_key, digest_size=8).hexdigest()


def _plain(text: str) -> str:
    """Leave out what XML cannot carry, such as control characters (XML 1.0 2.2)."""
    return "".join(each for each in text if each.isprintable())
