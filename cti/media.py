"""The media engine as the call model sees it: commands and events as plain data, keyed by port.

`cti._media.Engine` (Rust, `media/`) is the engine. Its reactor thread moves every packet without
the GIL; its events wait in a queue behind an eventfd and reach asyncio in batches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType, Protocol

PortId = NewType("PortId", int)
PlayId = NewType("PlayId", int)
RecognitionId = NewType("RecognitionId", int)
RecordingId = NewType("RecordingId", int)
TapId = NewType("TapId", int)


class SrtpSuite(StrEnum):
    """How SRTP protects packets, by the names of SDP: RFC 4568 section 6.2 and RFC 7714."""

    AEAD_AES_256_GCM = "AEAD_AES_256_GCM"
    AEAD_AES_128_GCM = "AEAD_AES_128_GCM"
    AES_CM_128_HMAC_SHA1_80 = "AES_CM_128_HMAC_SHA1_80"
    AES_CM_128_HMAC_SHA1_32 = "AES_CM_128_HMAC_SHA1_32"

    @property
    def key_len(self) -> int:
        """Octets of master key and master salt together, as an `inline:` parameter holds them."""
        return _SRTP_KEY_LENS[self]


_SRTP_KEY_LENS = {
    SrtpSuite.AEAD_AES_256_GCM: 32 + 12,
    SrtpSuite.AEAD_AES_128_GCM: 16 + 12,
    SrtpSuite.AES_CM_128_HMAC_SHA1_80: 16 + 14,
    SrtpSuite.AES_CM_128_HMAC_SHA1_32: 16 + 14,
}


@dataclass(frozen=True, slots=True)
class SrtpKeys:
    """SRTP by SDES: what two `a=crypto` lines of one suite agreed on, RFC 4568.

    A key is the master key followed by the master salt. `local` is ours, for what we send;
    `remote` is the far end's. Lines with an MKI, with session parameters or with several keys
    cannot be served.
    """

    suite: SrtpSuite
    local: bytes = field(repr=False)
    remote: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class DtlsPeer:
    """A browser behind ICE, whose SRTP keys come from DTLS: RFC 8445, RFC 5763.

    We are always ICE-lite: the far end checks, we answer, and media goes where its checks come
    from. RTCP shares the port. Under `a=ice-lite` our only candidate is the port itself.
    """

    fingerprint: str
    """`a=fingerprint:sha-256` of the far end: 32 pairs of hexadecimal digits between colons."""
    local_ufrag: str
    local_password: str = field(repr=False)
    remote_ufrag: str
    active: bool = False
    """Whether we begin the handshake (our answer is `a=setup:active`). Towards an offer of
    `actpass` we answer `passive`; our own offer is `actpass`, and browsers answer it `active`."""


class Codec(StrEnum):
    """The audio codecs of the engine, by their encoding names (RFC 3551, RFC 7587)."""

    PCMA = "PCMA"
    PCMU = "PCMU"
    G722 = "G722"
    G729 = "G729"
    OPUS = "opus"


class Tone(StrEnum):
    """Tones the engine can play: those of China's network (GB/T 3380-1982) and of fax machines."""

    DIAL = "dial"
    SPECIAL_DIAL = "special_dial"
    RINGBACK = "ringback"
    BUSY = "busy"
    CONGESTION = "congestion"
    UNOBTAINABLE = "unobtainable"
    TOLL_NOTICE = "toll_notice"
    CALL_WAITING = "call_waiting"
    REMINDER = "reminder"
    HOWLER = "howler"
    FAX_CALLING = "fax_calling"
    FAX_ANSWER = "fax_answer"


class Detect(StrEnum):
    """What the engine can listen for in the audio received; each costs CPU."""

    DTMF = "dtmf"  # keys as tones, by ITU-T Q.24
    FAX = "fax"  # CNG, CED, ANSam
    PROGRESS = "progress"  # ringback, busy and other tones of the network
    ANSWER = "answer"  # a person or a machine, from the moment on in which it is asked for


class Signal(StrEnum):
    """Tones the engine recognises."""

    DIAL = "dial"
    RINGBACK = "ringback"
    BUSY = "busy"
    CONGESTION = "congestion"
    UNOBTAINABLE = "unobtainable"
    FAX_CALLING = "fax_calling"
    FAX_ANSWER = "fax_answer"
    MODEM_ANSWER = "modem_answer"


class Answer(StrEnum):
    """Who has answered; `BEEP` follows when a machine begins to record."""

    PERSON = "person"
    MACHINE = "machine"
    SILENCE = "silence"
    UNSURE = "unsure"
    BEEP = "beep"


class DigitSource(StrEnum):
    """How a key came."""

    RFC4733 = "rfc4733"
    INBAND = "inband"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Connection:
    """What was negotiated for a port."""

    remote_ip: str
    remote_port: int
    codec: Codec
    payload_type: int
    """What stands for the codec in RTP that we send."""
    digit_payload_type: int | None = None
    """Telephone events, RFC 4733; None when they were not negotiated."""
    receive_payload_type: int | None = None
    receive_digit_payload_type: int | None = None
    """The same two in what the far end sends (RFC 3264 section 5.1); None: the same ones."""
    packet_time_ms: int = 20
    send: bool = True
    receive: bool = True
    media_timeout_ms: int = 0
    """Silence of the far end, of media and of reports, that is told; 0 is none."""
    srtp: SrtpKeys | None = None
    dtls: DtlsPeer | None = None
    """How media is protected: at most one of the two. With neither it is plain RTP."""
    rtcp_port: int = 0
    """Where the far end takes RTCP: 0 is the port above `remote_port`, -1 is nowhere."""
    rtcp_mux: bool = False
    """RTCP shares the port of RTP, RFC 5761."""
    detect: frozenset[Detect] = frozenset()


@dataclass(frozen=True, slots=True)
class PortFigures:
    """What was counted on a port, from its opening to now."""

    packets_sent: int
    packets_received: int
    packets_lost: int
    packets_invalid: int
    jitter_ms: float
    packets_late: int = 0
    """Came too late to be played, where somebody listened."""
    packets_duplicate: int = 0
    codec: str = ""
    """What was spoken last."""
    round_trip_ms: float | None = None
    """To the far end and back; None when the far end sends no RTCP."""
    mos: float | None = None
    """MOS-CQE of what was received, over the call (E-model of ITU-T G.107)."""
    worst_mos: float | None = None
    """The same, of its worst five seconds."""
    far_packets_lost: int | None = None
    """Packets of ours that the far end has lost, as it says."""
    far_jitter_ms: float | None = None


@dataclass(frozen=True, slots=True)
class DigitReceived:
    """A key, once per press, when it is released or its end is lost.

    A far end that has once sent a key by RFC 4733 is not listened to in the audio any more.
    """

    port: PortId
    digit: str
    duration_ms: int
    source: DigitSource = DigitSource.RFC4733


@dataclass(frozen=True, slots=True)
class ToneDetected:
    """A tone was recognised, once for as long as it lasts."""

    port: PortId
    signal: Signal
    at_ms: int
    """Audio heard since the port began to listen."""


@dataclass(frozen=True, slots=True)
class AnswerJudged:
    """It was judged who has answered: once, and then once for every beep of a machine."""

    port: PortId
    answer: Answer
    at_ms: int
    """Audio heard since the port was asked for it."""


@dataclass(frozen=True, slots=True)
class SoundRecognised:
    """One of the sounds that a port listens for was heard; it listens for none any more.

    Times are audio heard since the port began to listen, which is later than it came by what the
    jitter buffer holds. 1.3 s of a sound must have been heard, or all of a shorter one.
    """

    port: PortId
    recognition: RecognitionId
    sound: int
    """Its index among those listened for."""
    began_ms: int
    """When the sound began, within 20 ms or so; below zero when that was before."""
    at_ms: int
    """When it was recognised: the beginning is `at_ms - began_ms` ago."""


@dataclass(frozen=True, slots=True)
class RecognitionFailed:
    """A sound cannot be listened for: the file cannot be played, or there is too little in it."""

    port: PortId
    recognition: RecognitionId
    error: str


@dataclass(frozen=True, slots=True)
class PlayEnded:
    """A playlist ran out or was stopped; `error` is empty unless a file could not be played."""

    port: PortId
    play: PlayId
    completed: bool
    error: str


@dataclass(frozen=True, slots=True)
class DigitsSent:
    """All digits given to `send_digits` have been sent."""

    port: PortId


@dataclass(frozen=True, slots=True)
class MediaTimedOut:
    """Neither RTP nor RTCP came in for the time set on the port; sent once until one comes."""

    port: PortId


@dataclass(frozen=True, slots=True)
class SecureMediaReady:
    """SRTP keys are there: media flows, and what plays begins."""

    port: PortId
    suite: SrtpSuite


@dataclass(frozen=True, slots=True)
class SecureMediaFailed:
    """There will be no SRTP keys, so no media; SECURE_MEDIA_FAILED ends the call.

    `reason` is "timeout" (no checks, or no answer), "fingerprint" (another certificate than that
    of the SDP), "profile" (no common SRTP suite), "handshake" or "closed".
    """

    port: PortId
    reason: str


@dataclass(frozen=True, slots=True)
class RecordingEnded:
    """A recording is closed, complete on disk, and hashed."""

    recording: RecordingId
    path: str
    sha256: str
    size_bytes: int
    duration_ms: int
    channels: int
    dropped_frames: int
    pauses_ms: tuple[tuple[int, int], ...]
    """Spans of the file that are silence because the recording was paused."""
    error: str


@dataclass(frozen=True, slots=True)
class TapAudio:
    """200 ms of what a tap hears (less at its end): PCM16, little-endian, 8 kHz, one side each."""

    tap: TapId
    start_ms: int
    """Since the tap began; a jump is audio that was dropped because events were taken too late."""
    left: bytes
    right: bytes


@dataclass(frozen=True, slots=True)
class TapEnded:
    """The last event of a tap, after `stop_tap`."""

    tap: TapId
    duration_ms: int
    dropped_ms: int


@dataclass(frozen=True, slots=True)
class PortClosed:
    """The last event of a port, with its final figures."""

    port: PortId
    figures: PortFigures


MediaEvent = (
    DigitReceived
    | ToneDetected
    | AnswerJudged
    | SoundRecognised
    | RecognitionFailed
    | PlayEnded
    | DigitsSent
    | MediaTimedOut
    | SecureMediaReady
    | SecureMediaFailed
    | RecordingEnded
    | TapAudio
    | TapEnded
    | PortClosed
)


class RecordingForm(StrEnum):
    """How a recording is written: A-law is half as large, and all that a G.711 call holds."""

    PCM16 = "pcm16"
    A_LAW = "a-law"


@dataclass(frozen=True, slots=True)
class RelayEnd:
    """One side of a relay: a port, and its far end; remote_port 0 is one that takes nothing."""

    port: PortId
    remote_ip: str
    remote_port: int


class MediaEngine(Protocol):
    """Commands. None blocks; all but `open_port` are queued to the reactor and never fail.

    A command for a port that is gone is ignored. Files are read and written off the reactor.
    """

    def open_port(self, local_ip: str) -> tuple[PortId, int]:
        """Bind an RTP port (even number) and return it; PlatformError MEDIA_PORTS_EXHAUSTED."""

    def fingerprint(self) -> str:
        """SHA-256 of the engine's DTLS certificate as `a=fingerprint` has it; new at each start."""

    def connect(self, port: PortId, connection: Connection) -> None:
        """Set or change what was negotiated; PlatformError SDP_MALFORMED when it cannot be."""

    def relay(self, one: RelayEnd, other: RelayEnd, *, media_timeout_ms: int = 0) -> None:
        """Hand what comes at either port to the far end of the other, as it is.

        Video and fax (T.38) pass so. Ports in a relay do nothing else; a later relay of a port
        takes the place of the earlier one. The silence of a far end is a MediaTimedOut.
        """

    def close_port(self, port: PortId) -> None:
        """Stop everything on the port, then emit PortClosed."""

    def play(self, port: PortId, paths: list[str], *, loop: bool = False) -> PlayId:
        """Play WAV files in order, replacing what plays; emits PlayEnded unless replaced."""

    def play_tone(self, port: PortId, tone: Tone, *, loop: bool = True) -> PlayId:
        """Play a tone as `play` plays files: its cadence for ever, or one period of it."""

    def recognise(self, port: PortId, paths: list[str]) -> RecognitionId:
        """Listen for known sounds, in place of those so far; none: for nothing any more.

        Emits SoundRecognised for the first that is heard, from its beginning or not, or
        RecognitionFailed. Sounds that begin or end alike are told apart by what differs only when
        all of them are listened for.
        """

    def stop_play(self, port: PortId) -> None:
        """Stop what plays; emits PlayEnded with completed=False."""

    def send_digits(self, port: PortId, digits: str, *, tone_ms: int, gap_ms: int) -> None:
        """Send keys `0-9*#A-D`, one after the other.

        They go as RFC 4733 events where these were negotiated, else as tones in the audio.
        """

    def set_key_routes(self, routes: Mapping[PortId, Sequence[PortId]]) -> None:
        """Let each named port send on the keys that its sources press, while they are held.

        This holds for keys that come by RFC 4733; those in the audio are heard with the audio.
        """

    def set_routes(self, routes: Mapping[PortId, Sequence[PortId]]) -> None:
        """Let each named port hear the sum of its sources, all from the same frame on.

        What plays on a port is heard in place of its sources. A port never hears itself; one that
        closes is heard by nobody any more.
        """

    def start_recording(
        self,
        path: str,
        left: Sequence[PortId],
        right: Sequence[PortId] | None,
        *,
        form: RecordingForm = RecordingForm.PCM16,
    ) -> RecordingId:
        """Record what is received, WAV of 8 kHz: the ports of a side are mixed (None: mono).

        A file keeps the clock's time: who says nothing, is on hold or gone is silence in it.
        """

    def set_recording_sides(
        self, recording: RecordingId, left: Sequence[PortId], right: Sequence[PortId]
    ) -> None:
        """Change who is recorded on which side; the file and its time go on."""

    def pause_recording(self, recording: RecordingId) -> None:
        """Record silence until `resume_recording`; RecordingEnded tells the span."""

    def resume_recording(self, recording: RecordingId) -> None:
        """Record again what is said."""

    def start_tap(self, left: Sequence[PortId], right: Sequence[PortId]) -> TapId:
        """Emit TapAudio with what two sides are heard saying, as a recording would hold it."""

    def set_tap_sides(self, tap: TapId, left: Sequence[PortId], right: Sequence[PortId]) -> None:
        """Change who is heard on which side; the tap and its time go on."""

    def stop_tap(self, tap: TapId) -> None:
        """Emit what is left, then TapEnded."""

    def stop_recording(self, recording: RecordingId) -> None:
        """Finish the file; emits RecordingEnded."""
