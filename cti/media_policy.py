"""By what rules a party's media is described: its codecs, its protection, and our address."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cti.sdp import DEFAULT_CODECS, Codec, Protection, SrtpPolicy

_OF_BROWSERS = frozenset({"ws", "wss"})


class DigitWay(StrEnum):
    """How keys go to and come from a trunk or phone."""

    AUTO = "auto"
    """By RFC 4733 where it is negotiated, else as tones in the audio."""
    RFC4733 = "rfc4733"
    """By RFC 4733; tones in the audio are not listened for."""
    INFO = "info"
    """In SIP INFO (application/dtmf-relay); telephone events are not negotiated."""
    INBAND = "inband"
    """As tones in the audio; telephone events are not negotiated."""

    @property
    def has_events(self) -> bool:
        """Whether telephone events (RFC 4733) are negotiated."""
        return self is DigitWay.AUTO or self is DigitWay.RFC4733


@dataclass(frozen=True, slots=True)
class MediaPolicy:
    """What the media of a trunk, or of a tenant's phones, may be."""

    codecs: tuple[Codec, ...] = DEFAULT_CODECS
    """In our order of preference."""
    own_order: bool = False
    """Whether that order chooses among the codecs of an offer; else the order of the offer does."""
    srtp: SrtpPolicy = SrtpPolicy.OFF
    digits: DigitWay = DigitWay.AUTO

    def protection_over(self, transport: str) -> Protection:
        """Return how an offer is protected that goes out by a SIP transport.

        Who comes by WebSocket is a browser, and knows DTLS alone. Keys of SDES stand in the
        offer: only who must have them gets them where others could read along.
        """
        if self.srtp is SrtpPolicy.OFF:
            return Protection.NONE
        if transport in _OF_BROWSERS:
            return Protection.DTLS
        if self.srtp is SrtpPolicy.REQUIRED:
            return Protection.SDES
        return Protection.SDES_OR_NONE if transport == "tls" else Protection.NONE


@dataclass(frozen=True, slots=True)
class MediaAddress:
    """Where a port is bound, and the address that peers are told instead (NAT)."""

    local_ip: str
    advertised_ip: str = ""

    @property
    def told_ip(self) -> str:
        """The address in descriptions."""
        return self.advertised_ip or self.local_ip


@dataclass(frozen=True, slots=True)
class MediaAddresses:
    """The addresses of a node's media: one, or one of each IP version."""

    main: MediaAddress
    ipv6: MediaAddress | None = None

    def reached_from(self, peer_ip: str) -> MediaAddress:
        """Return the address of the peer's IP version; the only one where there is no other."""
        is_ipv6 = ":" in peer_ip and not peer_ip.lower().startswith("::ffff:")
        return self.ipv6 if is_ipv6 and self.ipv6 is not None else self.main


@dataclass(frozen=True, slots=True)
class PortPlan:
    """How a port is opened and described towards one party."""

    address: MediaAddress
    policy: MediaPolicy = MediaPolicy()
    protection: Protection = Protection.NONE
    """Of our first offer; an answer is protected as the party wants it."""
