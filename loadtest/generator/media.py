"""The generator's side of RTP: one engine for all calls, a leg for each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog

from cti.media import (
    Codec,
    Connection,
    DigitsSent,
    MediaEvent,
    PlayEnded,
    PortClosed,
    PortId,
    RecognitionFailed,
    SoundRecognised,
)
from cti.media_engine import RtpEngine
from domain.failures import PlatformError
from loadtest.figures.tally import LegFigures, Tally

_log = structlog.get_logger(__name__)

PORTS = (45_000, 64_999)
"""Beside the platform's, which are below."""
_KEY_MS, _GAP_MS = 120, 80
_GATHER_S = 0.02
_EVENTS = 101
_CODECS = {"8": Codec.PCMA, "0": Codec.PCMU}


class _GatheringEngine(RtpEngine):
    """Delivers events some ms after the first of them, all that have come by then together.

    Nothing that the engine tells the generator has a time that is measured, and to wake up for each
    event costs several times what is done about it.
    """

    def _deliver(self) -> None:
        if self._closed:
            super()._deliver()
        else:
            self._loop.remove_reader(self._engine.event_fd())
            self._loop.call_later(_GATHER_S, self._deliver_all)

    def _deliver_all(self) -> None:
        if not self._closed:
            self._loop.add_reader(self._engine.event_fd(), self._deliver)
            super()._deliver()


class Media:
    """The engine, and who hears of each port's events."""

    def __init__(self, host: str, ports: tuple[int, int] = PORTS) -> None:
        """Start an engine whose legs are at `host`, a local address."""
        self.host = host
        self.engine: RtpEngine = _GatheringEngine(
            port_min=ports[0], port_max=ports[1], on_event=self._on_event
        )
        self.legs: dict[PortId, Leg] = {}
        self._on_none: asyncio.Future[None] | None = None
        self._unusable: set[str] = set()
        self._offer = (
            f"v=0\r\no=load 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n"
            f"m=audio %d RTP/AVP %s {_EVENTS}\r\na=rtpmap:%s %s/8000\r\n"
            f"a=rtpmap:{_EVENTS} telephone-event/8000\r\na=fmtp:{_EVENTS} 0-15\r\na=ptime:20\r\n"
        )

    def open(self, tally: Tally) -> Leg:
        """Open a leg; PlatformError MEDIA_PORTS_EXHAUSTED."""
        port, number = self.engine.open_port(self.host)
        leg = self.legs[port] = Leg(self, port, number, tally)
        return leg

    async def wait_for_legs(self, timeout_s: float) -> None:
        """Wait until the last leg that was closed has told its figures."""
        if self.legs:
            self._on_none = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._on_none], timeout=timeout_s)

    async def aclose(self) -> None:
        """Close all ports; their figures are told before this returns."""
        await self.engine.aclose()

    def description(self, number: int, payload_type: str = "8") -> bytes:
        """Describe the audio of a port in SDP."""
        name = _CODECS[payload_type].value
        return (self._offer % (number, payload_type, payload_type, name)).encode()

    def _tell_unusable(self, reason: str) -> None:
        """Say once why a sound is never recognised: thousands of calls may wait for it."""
        if reason not in self._unusable:
            self._unusable.add(reason)
            _log.error("a prompt cannot be listened for", reason=reason)

    def _on_event(self, event: MediaEvent) -> None:
        if isinstance(event, PortClosed):
            leg = self.legs.pop(event.port, None)
            if leg is not None:
                leg.on_closed(event)
            if not self.legs and self._on_none is not None and not self._on_none.done():
                self._on_none.set_result(None)
        elif isinstance(event, DigitsSent):
            leg = self.legs.get(event.port)
            if leg is not None:
                leg.tell_sent()
        elif isinstance(event, PlayEnded):
            leg = self.legs.get(event.port)
            if leg is not None:
                leg.tell_played()
        elif isinstance(event, SoundRecognised):
            leg = self.legs.get(event.port)
            if leg is not None:
                leg.tell_heard()
        elif isinstance(event, RecognitionFailed):
            self._tell_unusable(event.error)


class Leg:
    """The RTP port of one call."""

    __slots__ = (
        "_heard",
        "_is_closed",
        "_media",
        "_tally",
        "_then",
        "number",
        "payload_type",
        "port",
    )

    def __init__(self, media: Media, port: PortId, number: int, tally: Tally) -> None:
        self._media, self._tally = media, tally
        self.port, self.number = port, number
        self.payload_type = "8"
        self._then: Callable[[], None] = _nothing
        self._heard: Callable[[], None] = _nothing
        self._is_closed = False

    def description(self) -> bytes:
        """Offer or answer with this port."""
        return self._media.description(self.number, self.payload_type)

    def take_offer(self, sdp: bytes) -> bytes:
        """Follow the far end's offer, if it makes one, and return the answer or an offer."""
        if sdp:
            self.connect(sdp)
        return self.description()

    def connect(self, sdp: bytes) -> bool:
        """Let RTP flow as the far end describes; False where there is no way."""
        found = _audio(sdp)
        if found is None or self._is_closed:
            return False
        remote_ip, remote_port, self.payload_type, events = found
        connection = Connection(
            remote_ip=remote_ip,
            remote_port=remote_port,
            codec=_CODECS[self.payload_type],
            payload_type=int(self.payload_type),
            digit_payload_type=events,
            rtcp_port=0,
        )
        try:
            self._media.engine.connect(self.port, connection)
        except PlatformError:
            return False
        return True

    def press(self, keys: str, then: Callable[[], None]) -> None:
        """Press keys by RFC 4733; `then` is called when they have been sent."""
        self._then = then
        self._media.engine.send_digits(self.port, keys, tone_ms=_KEY_MS, gap_ms=_GAP_MS)

    def play(self, file: Path, then: Callable[[], None]) -> None:
        """Speak a file; `then` is called at its end."""
        self._then = then
        self._media.engine.play(self.port, [str(file)])

    def play_on(self, file: Path) -> None:
        """Speak a file again and again."""
        self._media.engine.play(self.port, [str(file)], loop=True)

    def recognise(self, file: str, heard: Callable[[], None]) -> None:
        """Listen for a sound; `heard` is called when it is there."""
        self._heard = heard
        self._media.engine.recognise(self.port, [file])

    def listen_no_more(self) -> None:
        """End what `recognise` began."""
        if self._heard is not _nothing:
            self._heard = _nothing
            self._media.engine.recognise(self.port, [])

    def close(self) -> None:
        """Close the port; what it counted goes to the tally."""
        if not self._is_closed:
            self._is_closed = True
            self._then = self._heard = _nothing
            self._media.engine.close_port(self.port)

    def tell_sent(self) -> None:
        """The keys have been sent."""
        then, self._then = self._then, _nothing
        then()

    tell_played = tell_sent

    def tell_heard(self) -> None:
        """The sound was recognised."""
        heard, self._heard = self._heard, _nothing
        heard()

    def on_closed(self, event: PortClosed) -> None:
        """Count what the engine has counted."""
        figures = event.figures
        self._tally.end_leg(
            LegFigures(
                sent=figures.packets_sent,
                received=figures.packets_received,
                lost=figures.packets_lost,
                jitter_ms=figures.jitter_ms,
                mos=figures.mos,
            )
        )


def _audio(sdp: bytes) -> tuple[str, int, str, int | None] | None:
    """Read where the audio goes, its payload type as text, and that of telephone events."""
    address, port, payload, events = "", 0, "", None
    in_audio = seen = False
    for line in sdp.decode("latin-1").split("\n"):
        kind = line[:2]
        if kind == "c=" and (in_audio or not seen):
            address = line.rpartition(" ")[2].strip()
        elif kind == "m=":
            in_audio, seen = line.startswith("m=audio ") and not port, True
            if in_audio:
                fields = line.split()
                port = int(fields[1]) if fields[1].isdigit() else 0
                payload = next((each for each in fields[3:] if each in _CODECS), "")
        elif in_audio and "telephone-event/8000" in line and line.startswith("a=rtpmap:"):
            events = int(line[9:].partition(" ")[0])
    return (address, port, payload, events) if address and port and payload else None


def _nothing() -> None:
    """Nobody waits."""
