"""What every call of a node shares, and small things that its events need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cti.call import CallInfo, Clip
from cti.calls.number_plan import NumberPlan
from cti.media import PortFigures, RecordingForm
from cti.media_policy import MediaAddresses, MediaPolicy, PortPlan
from cti.rtp_port import MediaRouter, RtpPort, media_ip
from cti.shared.contacts import Binding
from cti.sip.sessions.session import InviteSession
from cti.sip.transports.transport import Hop
from cti.sip.user_agent import UserAgent
from cti.trunks.outbound import OutboundTrunks
from cti95598.events.v1.events_pb2 import MediaFigures
from domain.events import EventStamp
from domain.ids import TenantId


class ContactLookup(Protocol):
    """The part of `cti.shared.contacts.ContactStore` that calls need."""

    async def lookup(self, tenant: TenantId, user: str) -> list[Binding]:
        """Return the user's live bindings."""


def _no_trunk_may(_tenant: TenantId, _trunk: str) -> bool:
    return False


def _plain_media(_tenant: TenantId, _trunk: str) -> MediaPolicy:
    return MediaPolicy()


def no_music() -> Sequence[Clip]:
    """Return no clips: who waits hears silence."""
    return ()


@dataclass(frozen=True, slots=True)
class CallContext:
    """The parts of a node that its calls use."""

    user_agent: UserAgent
    router: MediaRouter
    contacts: ContactLookup
    events: EventStamp
    recording_path: Callable[[CallInfo, str], Path]
    addresses: MediaAddresses
    domain: str
    media_timeout_ms: int
    recording_form: RecordingForm = RecordingForm.PCM16
    outbound: OutboundTrunks | None = None
    number_plan: NumberPlan = field(default_factory=NumberPlan)
    hold_music: Callable[[], Sequence[Clip]] = no_music
    """Played to whoever is on hold or waits for a transfer; no clips are silence."""
    may_trunk_transfer: Callable[[TenantId, str], bool] = _no_trunk_may
    """Whether far ends on this trunk of a tenant may send our side elsewhere."""
    media_of: Callable[[TenantId, str], MediaPolicy] = _plain_media
    """The rules of a trunk's media; of a tenant's phones when the trunk is empty."""

    def plan(self, tenant: TenantId, trunk: str, hop: Hop) -> PortPlan:
        """Return how a port towards a phone or trunk is opened that is reached by `hop`."""
        policy = self.media_of(tenant, trunk)
        address = self.addresses.reached_from(hop.host)
        return PortPlan(address, policy, policy.protection_over(hop.transport))

    def plan_towards(self, tenant: TenantId, trunk: str, session: InviteSession) -> PortPlan:
        """Return the same for a session that came in; its offer tells where its media is."""
        policy, addresses = self.media_of(tenant, trunk), self.addresses
        peer_ip = session.source
        if addresses.ipv6 is not None and session.offer:
            peer_ip = media_ip(session.offer) or peer_ip
        protection = policy.protection_over(session.hop.transport)
        return PortPlan(addresses.reached_from(peer_ip), policy, protection)

    def open_port(self, plan: PortPlan) -> RtpPort:
        """Open an RTP port for one party; PlatformError MEDIA_PORTS_EXHAUSTED."""
        return RtpPort(self.router, plan, self.media_timeout_ms)


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
        packets_late=figures.packets_late,
        packets_duplicate=figures.packets_duplicate,
        codec=figures.codec,
        round_trip_ms=figures.round_trip_ms,
        mos=figures.mos,
        worst_mos=figures.worst_mos,
        far_packets_lost=figures.far_packets_lost,
        far_jitter_ms=figures.far_jitter_ms,
    )
