"""One party's RTP port: its descriptions, what was negotiated, and where its events go."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog
from prometheus_client import Counter

from cti.media import (
    Connection,
    Detect,
    MediaEngine,
    MediaEvent,
    MediaTimedOut,
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
from cti.media_policy import DigitWay, PortPlan
from cti.sdp import (
    Codec,
    LocalAudio,
    LocalSecrets,
    Negotiated,
    PassedLines,
    Protection,
    Sdp,
    SrtpPolicy,
    Stream,
    answer,
    build_offer,
    negotiated,
    parse_sdp,
)
from cti.sdp.description import network_of
from cti.sdp.passing import NOTHING_PASSED, passed_by, passed_lines
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
        self.srtp_suites = tuple(SrtpSuite)
        """What the engine protects media with, the preferred one first."""
        self.ports: dict[PortId, MediaListener] = {}
        self.recordings: dict[RecordingId, Callable[[RecordingEnded], None]] = {}
        self.taps: dict[TapId, Callable[[TapAudio | TapEnded], None]] = {}

    @property
    def fingerprint(self) -> str:
        """Of the engine's DTLS certificate, sha-256; empty without DTLS."""
        # Asked for each time: a media process has another one after its restart.
        return self.engine.fingerprint()

    def on_event(self, event: MediaEvent) -> None:
        """Take one event of the engine, on the event loop."""
        if isinstance(event, RecordingEnded):
            finished = self.recordings.pop(event.recording, None)
            if finished is not None:
                finished(event)
            return
        if isinstance(event, TapAudio):
            heard = self.taps.get(event.tap)
            if heard is not None:
                heard(event)
            return
        if isinstance(event, TapEnded):
            heard = self.taps.pop(event.tap, None)
            if heard is not None:
                heard(event)
            return
        if isinstance(event, SecureMediaFailed):
            _log.warning("secure_media_failed", port=event.port, reason=event.reason)
        is_last = isinstance(event, PortClosed)
        listener = self.ports.pop(event.port, None) if is_last else self.ports.get(event.port)
        if listener is not None:
            listener(event)


@dataclass(slots=True)
class RelayPorts:
    """The engine's ports for one stream that is carried on, and their numbers."""

    port: PortId
    number: int
    rtcp_port: PortId | None = None
    rtcp_number: int = 0


class RtpPort:
    """An open RTP port with the offer/answer state of its party (RFC 3264)."""

    __slots__ = (
        "_before",
        "_engine",
        "_local",
        "_media_timeout_ms",
        "_number",
        "_plan",
        "_preferred",
        "_relays",
        "_router",
        "_secrets",
        "_session_id",
        "_streams",
        "_version",
        "agreed",
        "detect",
        "passing",
        "port_id",
        "send_key",
        "theirs",
    )

    def __init__(self, router: MediaRouter, plan: PortPlan, media_timeout_ms: int) -> None:
        """Open the port; PlatformError MEDIA_PORTS_EXHAUSTED."""
        self._router = router
        self._engine = router.engine
        self._plan = plan
        self._media_timeout_ms = media_timeout_ms
        self._preferred: Codec | None = None
        is_secret = plan.policy.srtp is not SrtpPolicy.OFF
        self._secrets = LocalSecrets(router.fingerprint if is_secret else "", router.srtp_suites)
        self._session_id = int.from_bytes(os.urandom(4))
        self._version = 1
        self._local = b""  # our last description, offer or answer
        self._before = b""  # the last one that was agreed on
        self._streams: list[Stream] = []  # of the party's last one
        self._relays: dict[str, RelayPorts] = {}
        self.agreed: Negotiated | None = None
        self.passing = NOTHING_PASSED
        """What the party is told of the other one's video and fax."""
        self.theirs = NOTHING_PASSED
        """What it described of its own, last."""
        self.detect: frozenset[Detect] = frozenset()
        """What to listen for in the audio, besides keys; counts from the next `connect` on."""
        self.send_key: Callable[[str, int], None] | None = None
        """Sends a key, held for so many ms, by signalling; the party's session sets it."""
        self.port_id, self._number = self._engine.open_port(plan.address.local_ip)

    @property
    def is_held(self) -> bool:
        """Whether the party wants to hear nothing: it has put the other one on hold."""
        return self.agreed is not None and self.agreed.is_held

    @property
    def wants_info(self) -> bool:
        """Whether keys go to the party by SIP INFO."""
        return self._plan.policy.digits is DigitWay.INFO

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
            passed=self._passed_lines(),
        )
        self._streams = parsed.streams
        self.theirs = passed_by(parsed)
        self._before = self._described(body)
        return self._before

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
            has_audio=self.passing.has_audio,
            passed=self._passed_lines(),
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
            has_events=policy.digits.has_events,
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
        parsed, sent = _read(body), parse_sdp(self._local)
        rests = self.agreed is not None and not self.passing.has_audio
        if rests and self.agreed is not None and len(parsed.streams) == len(sent.streams):
            self.agreed = replace(self.agreed, send=False, receive=False)
        else:
            self.agreed = negotiated(sent, parsed, self._plan.policy.srtp)
        self._streams = parsed.streams
        self.theirs = passed_by(parsed)
        self._before = self._local

    def roll_back(self) -> None:
        """Forget an offer of ours that was refused: what was agreed before it holds."""
        self._local = self._before

    def relay_ports(self, kind: str) -> RelayPorts:
        """Return the ports for a stream besides the audio; PlatformError MEDIA_PORTS_EXHAUSTED."""
        found = self._relays.get(kind)
        if found is None:
            ip = self._plan.address.local_ip
            stream = self._engine.open_port(ip)
            found = self._relays[kind] = RelayPorts(*stream)
            self._router.ports[found.port] = self._on_relay
            if kind != "image":
                # Ours are pairs of an even number and its odd one; RTCP has an even one, too.
                found.rtcp_port, found.rtcp_number = self._engine.open_port(ip)
        return found

    def close_relays(self) -> None:
        """Carry no other stream any more."""
        self.passing = NOTHING_PASSED
        relays, self._relays = self._relays, {}
        for each in relays.values():
            self._engine.close_port(each.port)
            if each.rtcp_port is not None:
                self._engine.close_port(each.rtcp_port)

    def _on_relay(self, event: MediaEvent) -> None:
        """Take the silence of a fax for that of its party."""
        listener = self._router.ports.get(self.port_id)
        if isinstance(event, MediaTimedOut) and listener is not None:
            listener(MediaTimedOut(self.port_id))

    def _passed_lines(self) -> list[PassedLines]:
        told_ip, found = self._plan.address.told_ip, []
        for stream in self.passing.streams:
            ports = self.relay_ports(stream.kind)
            rtcp = f"{ports.rtcp_number} {network_of(told_ip)}"
            lines = [*passed_lines(stream, ports.number, rtcp)]
            in_place = self.passing.in_place and stream.kind == "image"
            found.append(PassedLines(stream.kind, lines, in_place))
        return found

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
                receive_payload_type=agreed.receive_payload_type,
                receive_digit_payload_type=agreed.receive_digit_payload_type,
                packet_time_ms=agreed.packet_time_ms,
                send=agreed.send,
                receive=agreed.receive,
                # Who holds may send music or nothing: silence does not mean that it is gone.
                media_timeout_ms=timeout_ms if agreed.receive and not self.is_held else 0,
                srtp=agreed.srtp,
                dtls=agreed.dtls,
                detect=self.detect | self._heard_keys(agreed),
                rtcp_port=agreed.rtcp_port,
                rtcp_mux=agreed.rtcp_mux,
            ),
        )

    def _heard_keys(self, agreed: Negotiated) -> frozenset[Detect]:
        """Listen for keys in the audio where they come in no other way: it costs CPU."""
        way = self._plan.policy.digits
        has_events = agreed.digit_payload_type is not None
        wanted = way is DigitWay.INBAND or (way is DigitWay.AUTO and not has_events)
        return frozenset({Detect.DTMF}) if wanted else frozenset()

    def close(self) -> None:
        """Close the port; PortClosed follows."""
        self.send_key = None
        self.close_relays()
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
