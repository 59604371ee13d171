"""Offer and answer of one audio stream (RFC 3264), its codec, its keys and its protection.

One audio stream is taken; every other stream is answered with port 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from cti.media import Codec, DtlsPeer, SrtpKeys
from cti.sdp.codecs import (
    COMFORT_NOISE,
    DEFAULT_CODECS,
    DEFAULT_PACKET_TIME_MS,
    MAX_PACKET_TIME_MS,
    Events,
    Format,
    events_for,
    events_of,
    format_lines,
    formats_of,
    has_comfort_noise,
    offered_formats,
    packet_time_ms,
)
from cti.sdp.description import (
    Direction,
    Sdp,
    Stream,
    malformed,
    number,
    refused_line,
    session_lines,
    to_bytes,
)
from cti.sdp.security import (
    DTLS_PROTOCOLS,
    PLAIN_PROTOCOLS,
    PROTOCOL_OF,
    SDES_PROTOCOLS,
    CryptoLine,
    DtlsOffer,
    LocalSecrets,
    Protection,
    SrtpPolicy,
    crypto_lines,
    dtls_lines,
    dtls_of,
    dtls_peer,
    setup_answer,
)
from domain.failures import Code, PlatformError

_REMOVED = "a stream that was agreed on before is gone"
_NO_CODEC = "no audio stream with a codec of ours"
_NO_PROTECTION = "no audio stream protected as it has to be"
_MSID = "a=msid:cti95598 audio"  # RFC 8830: pages look for a stream of some name
_MID = "audio"


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What both sides agreed on; `send` and `receive` are ours."""

    remote_ip: str
    remote_port: int
    codec: Codec
    payload_type: int
    """What we send with: the number in the peer's description (RFC 3264 5.1)."""
    receive_payload_type: int
    """What the peer sends with: the number in ours."""
    digit_payload_type: int | None = None
    receive_digit_payload_type: int | None = None
    comfort_noise_payload_type: int | None = None
    packet_time_ms: int = DEFAULT_PACKET_TIME_MS
    send: bool = True
    receive: bool = True
    rtcp_port: int = 0
    """Where the peer takes RTCP; 0: the port above that of RTP (RFC 3605)."""
    rtcp_mux: bool = False
    srtp: SrtpKeys | None = None
    dtls: DtlsPeer | None = None

    @property
    def is_held(self) -> bool:
        """Whether the far end holds us: it does not want to hear us now (RFC 3264 8.4)."""
        return not self.send

    @property
    def protection(self) -> Protection:
        """How the media is protected."""
        if self.dtls is not None:
            return Protection.DTLS
        return Protection.NONE if self.srtp is None else Protection.SDES


@dataclass(frozen=True, slots=True)
class _Protected:
    """How one stream can be protected."""

    crypto: CryptoLine | None = None
    dtls: DtlsOffer | None = None


@dataclass(frozen=True, slots=True)
class PassedLines:
    """A stream of another kind as we describe it."""

    kind: str
    lines: Sequence[str]
    in_place: bool = False
    """Whether an offer has it in the line of the audio."""


@dataclass(frozen=True, slots=True)
class LocalAudio:
    """What we offer, and answer with, on one port."""

    ip: str
    port: int
    codecs: Sequence[Codec] = DEFAULT_CODECS
    """The ones that we take, in our order of preference."""
    own_order: bool = False
    """Whether that order chooses among the codecs of an offer, and not the order of the offer."""
    preferred: Codec | None = None
    """Taken before all others where both have it: what the other party of the call speaks."""
    direction: Direction = Direction.SENDRECV
    srtp: SrtpPolicy = SrtpPolicy.OFF
    secrets: LocalSecrets = field(default_factory=LocalSecrets)
    has_events: bool = True
    """Whether keys may go as telephone events (RFC 4733)."""

    @property
    def in_order(self) -> list[Codec]:
        """The codecs as an offer lists them."""
        return sorted(self.codecs, key=lambda each: each is not self.preferred)

    def choose(self, offered: Sequence[Format]) -> Format | None:
        """Return the codec to take of those that an offer lists."""
        common = [each for each in offered if each.codec in self.codecs]
        order = [each.codec for each in common] if not self.own_order else list(self.codecs)
        if self.preferred is not None:
            order.insert(0, self.preferred)
        return min(common, key=lambda each: order.index(each.codec), default=None)


def build_offer(
    local: LocalAudio,
    *,
    session_id: int,
    version: int,
    protection: Protection = Protection.NONE,
    former: Sequence[Stream] = (),
    has_audio: bool = True,
    passed: Sequence[PassedLines] = (),
) -> bytes:
    """Return an offer of one audio stream, and of others that are carried on as they are.

    `version` grows by one with every changed description of the session (RFC 3264 section 8).
    `former` are the streams of the last description of either side: a session that had more of
    them keeps their lines, and what their payload types mean. Without `has_audio` the audio rests.
    """
    index = _audio_place(former)
    before = former[index] if index is not None and is_audio(former[index]) else None
    mid = (_mid_of(before) if before is not None else "") or _MID
    is_dtls = protection is Protection.DTLS
    attributes = [f"group:BUNDLE {mid}", "ice-lite"] if is_dtls else []
    lines = session_lines(local.ip, session_id, version, ["0 0"], attributes)
    audio = list(_offered(local, protection, before, mid))
    if not has_audio:
        audio = [audio[0].replace(f"m=audio {local.port}", "m=audio 0", 1)]
    waiting = list(passed)
    replacement = next((each for each in waiting if each.in_place), None)
    if replacement is not None:
        waiting.remove(replacement)
        audio = list(replacement.lines)
    for position, stream in enumerate(former):
        same = next((each for each in waiting if each.kind == stream.kind), None)
        if position == index:
            lines += audio
        elif same is not None:
            waiting.remove(same)
            lines += same.lines
        else:
            lines.append(refused_line(stream))
    if index is None:
        lines += audio
    for each in waiting:
        lines += each.lines
    return to_bytes(lines)


def _audio_place(former: Sequence[Stream]) -> int | None:
    """Return the line of the audio, or that of the fax which took its place."""
    for is_it in (is_audio, lambda each: each.kind == "image"):
        found = next((at for at, each in enumerate(former) if is_it(each)), None)
        if found is not None:
            return found
    return None


def _offered(
    local: LocalAudio, protection: Protection, before: Stream | None, mid: str
) -> Iterator[str]:
    formats, events = offered_formats(local.in_order, before)
    if not local.has_events:
        events = ()
    protocol = PROTOCOL_OF[protection]
    if before is not None and protection in _accepted_as(before):
        protocol = before.protocol
    yield _media_line(local.port, protocol, formats, events)
    yield from format_lines(formats, events)
    yield from _times_and_way(local.direction)
    if protection is Protection.DTLS:
        yield f"a=mid:{mid}"
        yield _MSID
        yield "a=rtcp-mux"
        # RFC 8842 5.2: an offerer is actpass, in later offers too.
        yield from dtls_lines(local.secrets, local.ip, local.port, "actpass")
    elif protection is not Protection.NONE:
        for tag, suite in enumerate(local.secrets.suites, 1):
            yield str(CryptoLine(tag, suite, local.secrets.key(suite)))


def answer(
    offer: Sdp,
    local: LocalAudio,
    *,
    session_id: int,
    version: int,
    before: Negotiated | None = None,
    passed: Sequence[PassedLines] = (),
) -> tuple[bytes, Negotiated]:
    """Answer an offer with one codec, and what it has of the kinds in `passed` with these.

    PlatformError NO_COMMON_CODEC when no stream will do, NO_COMMON_PROTECTION when one would but
    for `local.srtp`. What was agreed `before` may be held by port 0, which takes the stream away
    until a later offer (RFC 3264 section 8.2).
    """
    others = {each.kind: each.lines for each in passed}
    if before is not None and _takes_audio_away(offer, others):
        lines = session_lines(local.ip, session_id, version, offer.times or ["0 0"])
        for each in offer.streams:
            lines += _other(each, others)
        return to_bytes(lines), replace(before, send=False, receive=False)
    index, chosen, how = _choose(offer, local)
    stream = offer.streams[index]
    if how.dtls is not None and _restarts_ice(how.dtls, before):
        local.secrets.restart_ice()
    agreed = _answered(offer, stream, chosen, how, local)
    attributes = []
    if how.dtls is not None:
        mid = _mid_of(stream)
        attributes = ["ice-lite"]
        if mid and _is_bundled(offer, mid):
            attributes.insert(0, f"group:BUNDLE {mid}")
    lines = session_lines(local.ip, session_id, version, offer.times or ["0 0"], attributes)
    for position, each in enumerate(offer.streams):
        if position == index:
            lines += _answer_lines(each, chosen, how, agreed, local)
        else:
            lines += _other(each, others)
    return to_bytes(lines), agreed


def _other(stream: Stream, others: dict[str, Sequence[str]]) -> Sequence[str]:
    """Return the answer to a stream besides the audio: of several of a kind the first counts."""
    if not stream.port:
        return [refused_line(stream)]
    return others.pop(stream.kind, [refused_line(stream)])


def _answered(
    offer: Sdp, stream: Stream, chosen: Format, how: _Protected, local: LocalAudio
) -> Negotiated:
    events = events_for(chosen.codec, events_of(stream)) if local.has_events else None
    digits = events.payload_type if events is not None else None
    has_noise = has_comfort_noise(stream, chosen.codec)
    send, receive = _ways(offer, stream, local.direction)
    agreed = Negotiated(
        remote_ip=stream.address,
        remote_port=stream.port,
        codec=chosen.codec,
        payload_type=chosen.payload_type,
        receive_payload_type=chosen.payload_type,
        digit_payload_type=digits,
        receive_digit_payload_type=digits,
        comfort_noise_payload_type=COMFORT_NOISE if has_noise else None,
        packet_time_ms=packet_time_ms(stream),
        send=send,
        receive=receive,
        rtcp_port=_rtcp_port(stream),
        rtcp_mux=stream.value("rtcp-mux") is not None,
    )
    secrets = local.secrets
    if how.dtls is not None:
        active = setup_answer(how.dtls.setup) == "active"
        return replace(agreed, dtls=dtls_peer(secrets.ice, how.dtls, active=active))
    if how.crypto is not None:
        suite = how.crypto.suite
        return replace(agreed, srtp=SrtpKeys(suite, secrets.key(suite), how.crypto.key))
    return agreed


def _answer_lines(
    stream: Stream, chosen: Format, how: _Protected, agreed: Negotiated, local: LocalAudio
) -> Iterator[str]:
    offered = events_for(chosen.codec, events_of(stream))
    events = () if offered is None or not local.has_events else (offered,)
    has_noise = agreed.comfort_noise_payload_type is not None
    yield _media_line(local.port, stream.protocol, (chosen,), events, has_noise=has_noise)
    yield from format_lines((chosen,), events, has_noise=has_noise)
    yield from _times_and_way(Direction.of(send=agreed.send, receive=agreed.receive))
    if agreed.rtcp_mux:
        yield "a=rtcp-mux"
    if how.dtls is not None:
        mid = _mid_of(stream)
        if mid:
            yield f"a=mid:{mid}"
        yield _MSID
        yield from dtls_lines(local.secrets, local.ip, local.port, setup_answer(how.dtls.setup))
        return
    if how.crypto is not None:
        suite = how.crypto.suite
        yield str(CryptoLine(how.crypto.tag, suite, local.secrets.key(suite)))


def negotiated(
    offer_sent: Sdp, answer_received: Sdp, srtp: SrtpPolicy = SrtpPolicy.OFF
) -> Negotiated:
    """Read the answer to our own offer of one audio stream.

    PlatformError NO_COMMON_CODEC, or NO_COMMON_PROTECTION for less of it than `srtp` asks. The
    offer may also be an answer of ours that a refresh of the session repeats (RFC 4028 7.4).
    """
    if len(answer_received.streams) != len(offer_sent.streams):
        raise malformed("the answer has another number of m= lines than the offer")
    pairs = zip(offer_sent.streams, answer_received.streams, strict=True)
    ours, theirs = next(
        (pair for pair in pairs if pair[0].port and pair[0].kind == "audio"), (None, None)
    )
    if ours is None or theirs is None:
        raise PlatformError(Code.NO_COMMON_CODEC, _REMOVED)
    formats = {each.codec: each for each in formats_of(ours)}
    chosen = next((each for each in formats_of(theirs) if each.codec in formats), None)
    if chosen is None or not theirs.port or theirs.kind != "audio":
        raise PlatformError(Code.NO_COMMON_CODEC, "the answer takes none of the offered codecs")
    digits = _common_events(chosen.codec, events_of(ours), events_of(theirs))
    noise = has_comfort_noise(ours, chosen.codec) and has_comfort_noise(theirs, chosen.codec)
    send, receive = _ways(answer_received, theirs, ours.direction or offer_sent.direction)
    agreed = Negotiated(
        remote_ip=theirs.address,
        remote_port=theirs.port,
        codec=chosen.codec,
        payload_type=chosen.payload_type,
        receive_payload_type=formats[chosen.codec].payload_type,
        digit_payload_type=digits[1].payload_type if digits is not None else None,
        receive_digit_payload_type=digits[0].payload_type if digits is not None else None,
        comfort_noise_payload_type=COMFORT_NOISE if noise else None,
        packet_time_ms=packet_time_ms(theirs),
        send=send,
        receive=receive,
        rtcp_port=_rtcp_port(theirs),
        rtcp_mux=ours.value("rtcp-mux") is not None and theirs.value("rtcp-mux") is not None,
    )
    agreed = _protected(agreed, offer_sent, ours, answer_received, theirs)
    if agreed.protection is Protection.NONE:
        if srtp is SrtpPolicy.REQUIRED or ours.protocol.upper() not in PLAIN_PROTOCOLS:
            raise PlatformError(Code.NO_COMMON_PROTECTION, "the answer leaves the media open")
        if theirs.protocol.upper() not in PLAIN_PROTOCOLS or not _is_of_family(theirs, ours):
            raise PlatformError(Code.NO_COMMON_CODEC, "the answer is of another kind")
    return agreed


def _protected(
    agreed: Negotiated, offer_sent: Sdp, ours: Stream, answer_received: Sdp, theirs: Stream
) -> Negotiated:
    """Add what keys both descriptions give."""
    own = dtls_of(offer_sent, ours)
    if own is not None:
        remote = dtls_of(answer_received, theirs)
        if remote is None:
            raise PlatformError(Code.NO_COMMON_PROTECTION, "the answer has no DTLS or no ICE")
        active = own.setup != "passive" and remote.setup == "passive"
        return replace(agreed, dtls=dtls_peer(own.ice, remote, active=active))
    lines = {each.tag: each for each in crypto_lines(ours)}
    for line in crypto_lines(theirs):
        local = lines.get(line.tag)
        if local is not None and local.suite is line.suite:
            return replace(agreed, srtp=SrtpKeys(line.suite, local.key, line.key))
    return agreed


def is_audio(stream: Stream) -> bool:
    """Whether a stream is audio over RTP in a profile that we know."""
    profile = stream.protocol.upper()
    return stream.kind == "audio" and (profile in PLAIN_PROTOCOLS or profile in DTLS_PROTOCOLS)


def _accepted_as(stream: Stream) -> set[Protection]:
    profile = stream.protocol.upper()
    found = set()
    if profile in PLAIN_PROTOCOLS:
        found |= {Protection.NONE, Protection.SDES_OR_NONE}
    if profile in SDES_PROTOCOLS:
        found.add(Protection.SDES)
    if profile in DTLS_PROTOCOLS:
        found.add(Protection.DTLS)
    return found


def _takes_audio_away(offer: Sdp, others: dict[str, Sequence[str]]) -> bool:
    audio = [each for each in offer.streams if is_audio(each)]
    has_fax = "image" in others and any(each.kind == "image" for each in offer.streams)
    return (bool(audio) or has_fax) and not any(each.port for each in audio)


def _choose(offer: Sdp, local: LocalAudio) -> tuple[int, Format, _Protected]:
    """Return the first stream that will do, its codec, and how it is protected."""
    is_unprotected = False
    for index, stream in enumerate(offer.streams):
        if not (is_audio(stream) and stream.port):
            continue
        chosen = local.choose(formats_of(stream))
        if chosen is None:
            continue
        how = _protection(offer, stream, local)
        if how is None:
            is_unprotected = True
        elif how.dtls is not None or (":" in stream.address) == (":" in local.ip):
            return index, chosen, how
    if is_unprotected:
        raise PlatformError(Code.NO_COMMON_PROTECTION, _NO_PROTECTION)
    raise PlatformError(Code.NO_COMMON_CODEC, _NO_CODEC)


def _protection(offer: Sdp, stream: Stream, local: LocalAudio) -> _Protected | None:
    """Return how an offered stream will be protected, None when it cannot be as it has to."""
    profile = stream.protocol.upper()
    if local.srtp is not SrtpPolicy.OFF:
        dtls = dtls_of(offer, stream)
        if local.secrets.fingerprint and dtls is not None:
            return _Protected(dtls=dtls)
        if profile in PLAIN_PROTOCOLS or profile in SDES_PROTOCOLS:
            for line in crypto_lines(stream):
                if line.suite in local.secrets.suites:
                    return _Protected(crypto=line)
    if profile in PLAIN_PROTOCOLS and local.srtp is not SrtpPolicy.REQUIRED:
        return _Protected()
    return None


def _restarts_ice(remote: DtlsOffer, before: Negotiated | None) -> bool:
    peer = before.dtls if before is not None else None
    return peer is not None and peer.remote_ufrag != remote.ice.ufrag


def _mid_of(stream: Stream) -> str:
    """Return the name of a stream (RFC 5888), empty without one that can be repeated."""
    mid = stream.value("mid") or ""
    return mid if mid.isascii() and len(mid.split()) == 1 else ""


def _is_bundled(offer: Sdp, mid: str) -> bool:
    groups = (value.split() for name, value in offer.attributes if name == "group")
    return any(group[:1] == ["BUNDLE"] and mid in group[1:] for group in groups)


def _is_of_family(stream: Stream, other: Stream) -> bool:
    return (":" in stream.address) == (":" in other.address)


def _common_events(
    codec: Codec, ours: Sequence[Events], theirs: Sequence[Events]
) -> tuple[Events, Events] | None:
    """Return the events of a codec in our description and in theirs."""
    pairs = [(own, each) for own in ours for each in theirs if own.clock_hz == each.clock_hz]
    wanted = events_for(codec, [own for own, _ in pairs])
    return next((pair for pair in pairs if pair[0] is wanted), None)


def _rtcp_port(stream: Stream) -> int:
    """Return the port of a=rtcp (RFC 3605); 0 for the usual one, or for what cannot be read."""
    text = (stream.value("rtcp") or "").partition(" ")[0]
    try:
        port = number(text, 65_535) if text else 0
    except PlatformError:
        return 0
    return 0 if port == stream.port + 1 else port


def _ways(remote: Sdp, stream: Stream, ours: Direction) -> tuple[bool, bool]:
    """Return whether we send and whether we receive, by both sides' directions."""
    theirs = stream.direction or remote.direction
    # RFC 3264 section 8.4: the old form of hold gives no address to send to. Browsers write zeros
    # too, as long as they know no candidate (RFC 8829 5.2.1).
    reachable = stream.is_reachable or dtls_of(remote, stream) is not None
    return ours.sends and theirs.receives and reachable, ours.receives and theirs.sends


def _times_and_way(direction: Direction) -> Iterator[str]:
    yield f"a=ptime:{DEFAULT_PACKET_TIME_MS}"
    yield f"a=maxptime:{MAX_PACKET_TIME_MS}"
    yield f"a={direction}"


def _media_line(
    port: int,
    protocol: str,
    formats: Sequence[Format],
    events: Sequence[Events],
    *,
    has_noise: bool = False,
) -> str:
    noise = [COMFORT_NOISE] if has_noise else []
    numbers = [each.payload_type for each in formats] + noise + [e.payload_type for e in events]
    return f"m=audio {port} {protocol} {' '.join(map(str, numbers))}"
