"""One party's RTP port: its descriptions, what was negotiated, and where its events go."""

from __future__ import annotations

import os
from collections.abc import Callable

import structlog
from prometheus_client import Counter

from cti.media import (
    Connection,
    MediaEngine,
    MediaEvent,
    PortClosed,
    PortId,
    RecordingEnded,
    RecordingId,
    SecureMediaFailed,
    SrtpSuite,
    TapAudio,
    TapEnded,
    TapId,
)
from cti.media_policy import PortPlan
from cti.sdp import (
    Codec,
    LocalAudio,
    LocalSecrets,
    Negotiated,
    Protection,
    Sdp,
    SrtpPolicy,
    Stream,
    answer,
    build_offer,
    negotiated,
    parse_sdp,
)
from domain.failures import Code, PlatformError

_log = structlog.get_logger(__name__)

MediaListener = Callable[[MediaEvent], None]

_MALFORMED = Counter("sdp_malformed_total", "Session descriptions that could not be read")


class MediaRouter:
    """Hands the events of the media engine to whom they concern.

    A route ends by itself with the last event of its port, recording or tap.
    """

    def __init__(self, engine: MediaEngine) -> None:
        self.engine = engine
        self.fingerprint = engine.fingerprint()
        """Of the engine's DTLS certificate, sha-256; empty without DTLS."""
        self.srtp_suites = tuple(SrtpSuite)
        """What the engine protects media with, the preferred one first."""
        self.ports: dict[PortId, MediaListener] = {}
        self.recordings: dict[RecordingId, Callable[[RecordingEnded], None]] = {}
        self.taps: dict[TapId, Callable[[TapAudio | TapEnded], None]] = {}

    def on_event(self, event: MediaEvent) -> None:
        """Take one event of the engine, on the event loop."""
        if isinstance(event, RecordingEnded):
            finished = self.recordings.pop(event.recording, None)
            if finished is not None:
                finished(event)
            return
        if isinstance(event, SecureMediaFailed):
            _log.warning("secure_media_failed", port=event.port, reason=event.reason)
        if isinstance(event, TapAudio | TapEnded):
            heard = self.taps.get(event.tap)
            if isinstance(event, TapEnded):
                self.taps.pop(event.tap, None)
            if heard is not None:
                heard(event)
            return
        listener = self.ports.get(event.port)
        if isinstance(event, PortClosed):
            self.ports.pop(event.port, None)
        if listener is not None:
            listener(event)


class RtpPort:
    """An open RTP port with the offer/answer state of its party (RFC 3264)."""

    __slots__ = (
        "_engine",
        "_local",
        "_media_timeout_ms",
        "_number",
        "_plan",
        "_preferred",
        "_router",
        "_secrets",
        "_session_id",
        "_streams",
        "_version",
        "agreed",
        "port_id",
    )

    def __init__(self, router: MediaRouter, plan: PortPlan, media_timeout_ms: int) -> None:
        """Open the port; PlatformError MEDIA_PORTS_EXHAUSTED."""
        self._router = router
        self._engine = router.engine
        self._plan = plan
        self._media_timeout_ms = media_timeout_ms
        self._preferred: Codec | None = None
        self._secrets = LocalSecrets(router.fingerprint, router.srtp_suites)
        self._session_id = int.from_bytes(os.urandom(4))
        self._version = 1
        self._local = b""  # our last description, offer or answer
        self._streams: list[Stream] = []  # of the party's last one
        self.agreed: Negotiated | None = None
        self.port_id, self._number = self._engine.open_port(plan.address.local_ip)

    @property
    def is_held(self) -> bool:
        """Whether the party wants to hear nothing: it has put the other one on hold."""
        return self.agreed is not None and self.agreed.is_held

    def listen(self, listener: MediaListener) -> None:
        """Send the port's events to `listener`, until PortClosed."""
        self._router.ports[self.port_id] = listener

    def prefer(self, codec: Codec | None) -> None:
        """Offer this codec first, and take it where it is offered: so nothing is transcoded."""
        self._preferred = codec

    def answer(self, offer: bytes) -> bytes:
        """Answer the party's offer.

        PlatformError SDP_MALFORMED, NO_COMMON_CODEC or NO_COMMON_PROTECTION.
        """
        parsed = _read(offer)
        body, self.agreed = answer(
            parsed,
            self._local_audio(self._preferred),
            session_id=self._session_id,
            version=self._version,
            before=self.agreed,
        )
        self._streams = parsed.streams
        return self._described(body)

    def offer(self) -> bytes:
        """Return an offer of ours; its answer goes to `take_answer`.

        What was agreed on comes first in it, and protects it again. PlatformError
        NO_COMMON_PROTECTION when it has to be protected and cannot.
        """
        agreed = self.agreed
        body = build_offer(
            self._local_audio(agreed.codec if agreed is not None else self._preferred),
            session_id=self._session_id,
            version=self._version,
            protection=self._protection_of_offer(),
            former=self._streams,
        )
        return self._described(body)

    def _protection_of_offer(self) -> Protection:
        if self.agreed is not None:
            return self.agreed.protection
        wanted = self._plan.protection
        has_dtls, has_sdes = bool(self._secrets.fingerprint), bool(self._secrets.suites)
        if has_dtls if wanted is Protection.DTLS else has_sdes:
            return wanted
        if self._plan.policy.srtp is SrtpPolicy.REQUIRED:
            raise PlatformError(Code.NO_COMMON_PROTECTION, "the engine protects no media")
        return Protection.NONE

    def _local_audio(self, preferred: Codec | None) -> LocalAudio:
        policy = self._plan.policy
        return LocalAudio(
            self._plan.address.told_ip,
            self._number,
            policy.codecs,
            policy.own_order,
            preferred,
            srtp=policy.srtp,
            secrets=self._secrets,
        )

    def _described(self, body: bytes) -> bytes:
        """Number a description: the same as the last keeps its version (RFC 3264 section 8)."""
        if self._local and body != self._local:
            origin = f"o=- {self._session_id} "
            last, self._version = self._version, self._version + 1
            old, new = (f"{origin}{each} ".encode() for each in (last, self._version))
            body = body.replace(old, new, 1)
        self._local = body
        return body

    def take_answer(self, body: bytes) -> None:
        """Read the answer to our last description.

        PlatformError SDP_MALFORMED, NO_COMMON_CODEC or NO_COMMON_PROTECTION.
        """
        parsed = _read(body)
        self.agreed = negotiated(parse_sdp(self._local), parsed, self._plan.policy.srtp)
        self._streams = parsed.streams

    def connect(self) -> None:
        """Let media flow as last agreed; PlatformError SDP_MALFORMED when there is no such way."""
        agreed = self.agreed
        if agreed is None:
            return
        timeout_ms = self._media_timeout_ms
        self._engine.connect(
            self.port_id,
            Connection(
                remote_ip=agreed.remote_ip,
                remote_port=agreed.remote_port,
                codec=agreed.codec,
                payload_type=agreed.payload_type,
                digit_payload_type=agreed.digit_payload_type,
                packet_time_ms=agreed.packet_time_ms,
                send=agreed.send,
                receive=agreed.receive,
                # Who holds may send music or nothing: silence does not mean that it is gone.
                media_timeout_ms=timeout_ms if agreed.receive and not self.is_held else 0,
                srtp=agreed.srtp,
                dtls=agreed.dtls,
            ),
        )

    def close(self) -> None:
        """Close the port; PortClosed follows."""
        self._engine.close_port(self.port_id)


def media_ip(offer: bytes) -> str:
    """Return the address of the audio that is offered; empty where the offer tells none."""
    try:
        streams = parse_sdp(offer).streams
    except PlatformError:
        return ""
    audio = (each for each in streams if each.kind == "audio" and each.port and each.is_reachable)
    return next((each.address for each in audio), "")


def _read(body: bytes) -> Sdp:
    """Parse what a peer sent; what cannot be read is counted."""
    try:
        return parse_sdp(body)
    except PlatformError:
        _MALFORMED.inc()
        raise
