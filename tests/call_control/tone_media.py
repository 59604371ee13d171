"""A party's RTP on a real engine: it plays a tone, presses keys, and records what it hears."""

from __future__ import annotations

import asyncio
from pathlib import Path

from cti.audio import read_wav, silence, tone_spans, write_wav
from cti.media import Codec, Connection, MediaEvent, PlayEnded, PortClosed
from cti.media_policy import MediaAddress, PortPlan
from cti.rtp_port import MediaRouter, RtpPort
from tests.call_control.party import PartyCall


class SoundClock:
    """Time as an engine counts it: on a machine that is late, sound and this are late alike."""

    def __init__(self, router: MediaRouter, place: Path) -> None:
        self._router = router
        self._place = place
        engine = router.engine
        one, other = engine.open_port("127.0.0.1"), engine.open_port("127.0.0.1")
        # Only a port that sends somewhere plays at all: these two send to each other.
        for (port, _), (_, number) in ((one, other), (other, one)):
            engine.connect(port, Connection("127.0.0.1", number, Codec.PCMA, 8))
        self._port = one[0]
        self._ports = (one[0], other[0])

    async def passes(self, ms: int) -> None:
        """Wait until so much sound has been played."""
        file = self._place / f"{ms}-ms.wav"
        if not file.exists():
            write_wav(file, silence(ms))
        ended = asyncio.Event()

        def hear(event: MediaEvent) -> None:
            if isinstance(event, PlayEnded):
                ended.set()

        self._router.ports[self._port] = hear
        self._router.engine.play(self._port, [str(file)], loop=False)
        await asyncio.wait_for(ended.wait(), 30)

    def close(self) -> None:
        """Give its ports back."""
        for port in self._ports:
            self._router.engine.close_port(port)


class ToneMedia:
    """Of one call."""

    def __init__(self, router: MediaRouter, heard: Path) -> None:
        self.router = router
        self.port = RtpPort(router, PortPlan(MediaAddress("127.0.0.1")), 0)
        self.port.listen(self._on_event)
        self.played = asyncio.Event()
        self.closed = asyncio.Event()
        self.recorded = asyncio.Event()
        self.heard = heard
        self.sdp = self.port.offer()

    async def connect(self, call: PartyCall) -> None:
        """Take what was agreed, and record from then on."""
        assert call.session is not None
        answer = await call.until_answered()
        if call.session.direction == "out":
            self.port.take_answer(answer)
        else:
            self.port.answer(answer)
        self.port.connect()
        engine = self.router.engine
        self.recording = engine.start_recording(str(self.heard), [self.port.port_id], None)
        self.router.recordings[self.recording] = lambda _: self.recorded.set()

    async def close(self) -> None:
        self.router.engine.stop_recording(self.recording)
        await asyncio.wait_for(self.recorded.wait(), 5)
        self.port.close()
        await asyncio.wait_for(self.closed.wait(), 5)

    def spans(self, frequency_hz: float) -> list[tuple[int, int]]:
        (sound,) = read_wav(self.heard)
        return [(one.start_ms, one.end_ms) for one in tone_spans(sound, frequency_hz)]

    def _on_event(self, event: MediaEvent) -> None:
        if isinstance(event, PlayEnded):
            self.played.set()
        elif isinstance(event, PortClosed):
            self.closed.set()
