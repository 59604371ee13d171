"""A party's RTP on a real engine: it plays a tone, presses keys, and records what it hears."""

from __future__ import annotations

import asyncio
from pathlib import Path

from cti.audio import read_wav, tone_spans
from cti.media import MediaEvent, PlayEnded, PortClosed
from cti.media_policy import MediaAddress, PortPlan
from cti.rtp_port import MediaRouter, RtpPort
from tests.call_control.party import PartyCall


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
