"""What every call of a node shares, and small things that its events need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cti.admission import normalised_number
from cti.call import CallInfo
from cti.contacts import Binding
from cti.media import PortFigures
from cti.rtp_port import MediaRouter, RtpPort
from cti.sip.uri import NameAddr, SipUri, parse_uri
from cti.sip.user_agent import UserAgent
from cti95598.events.v1.events_pb2 import MediaFigures
from domain.events import EventStamp
from domain.ids import TenantId

_MAX_NUMBER_LENGTH = 64


class ContactLookup(Protocol):
    """The part of `cti.contacts.ContactStore` that calls need."""

    async def lookup(self, tenant: TenantId, user: str) -> list[Binding]:
        """Return the user's live bindings."""


@dataclass(frozen=True, slots=True)
class CallContext:
    """The parts of a node that its calls use."""

    user_agent: UserAgent
    router: MediaRouter
    contacts: ContactLookup
    events: EventStamp
    recording_path: Callable[[CallInfo, str], Path]
    local_ip: str
    domain: str
    media_timeout_ms: int

    def open_port(self) -> RtpPort:
        """Open an RTP port for one party; PlatformError MEDIA_PORTS_EXHAUSTED."""
        return RtpPort(self.router, self.local_ip, self.media_timeout_ms)


def media_figures(figures: PortFigures | None) -> MediaFigures | None:
    """Return a port's figures as events carry them."""
    if figures is None:
        return None
    return MediaFigures(
        packets_sent=figures.packets_sent,
        packets_received=figures.packets_received,
        packets_lost=figures.packets_lost,
        packets_invalid=figures.packets_invalid,
        jitter_ms=figures.jitter_ms,
    )


def number_of(uri: SipUri | str) -> str:
    """Return the number of a sip: or tel: URI, empty where it has none."""
    if isinstance(uri, str):
        uri = parse_uri(uri)
    if isinstance(uri, SipUri):
        user = uri.user
    else:
        scheme, _, rest = uri.partition(":")
        user = rest if scheme.lower() == "tel" else ""
    return normalised_number(user)[:_MAX_NUMBER_LENGTH]


def number_of_address(text: str | None) -> str:
    """Return the number of a From-like header value, empty where it has none."""
    if text is None:
        return ""
    try:
        return number_of(NameAddr.parse(text).uri)
    except ValueError:
        return ""
