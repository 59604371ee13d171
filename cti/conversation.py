"""Caller and phone connected: bridge, dual-channel recording, and the events of both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from cti.call import BridgeEnd, CallInfo, HangUpParty
from cti.call_context import CallContext
from cti.media import PortId, RecordingEnded, RecordingId
from cti95598.events.v1.events_pb2 import (
    Alarm,
    Bridged,
    CallEnded,
    RecordingFinished,
    RecordingStarted,
    Unbridged,
)
from domain.failures import Code, PlatformError
from domain.ids import LegId, time_ordered_id

_log = structlog.get_logger(__name__)

_SAMPLE_RATE_HZ = 8000

# Records know two parties; which of agent and platform ended it is told by the cause.
_PARTY = {
    HangUpParty.CALLER: CallEnded.PARTY_CALLER,
    HangUpParty.FAR_END: CallEnded.PARTY_PLATFORM,
    HangUpParty.PLATFORM: CallEnded.PARTY_PLATFORM,
}
_CAUSE = {
    HangUpParty.CALLER: Code.CALLER_HUNG_UP,
    HangUpParty.FAR_END: Code.AGENT_HUNG_UP,
}


class Conversation:
    """One bridge of a call, from its first frame to its end."""

    def __init__(
        self,
        context: CallContext,
        info: CallInfo,
        *,
        caller_port: PortId,
        leg_port: PortId,
        leg_id: LegId,
        agent: str | None,
    ) -> None:
        self._context = context
        self._info = info
        self._caller_port = caller_port
        self._leg_port = leg_port
        self._leg_id = leg_id
        self._agent = agent or ""
        self._recording: RecordingId | None = None
        loop = asyncio.get_running_loop()
        self._begun_s = loop.time()
        self._clock = loop.time
        self.ended: asyncio.Future[BridgeEnd] = loop.create_future()

    def begin(self) -> None:
        """Connect both, in place of whatever they heard."""
        self._context.router.engine.bridge(self._caller_port, self._leg_port)
        self._publish(Bridged(leg=self._leg_id, agent=self._agent))

    def record(self, on_finished: Callable[[], None]) -> bool:
        """Start recording, before `begin`; False, with an alarm, where there is no place for it.

        `on_finished` is called when the file is complete and its event is published.
        """
        recording_id = time_ordered_id()
        try:
            path = str(self._context.recording_path(self._info, recording_id))
        except (OSError, PlatformError) as error:
            self._alarm(f"录音无法开始 recording cannot start: {error}")
            return False
        router = self._context.router
        self._recording = router.engine.start_recording(path, self._caller_port, self._leg_port)

        def finished(event: RecordingEnded) -> None:
            self._recorded(recording_id, event)
            on_finished()

        router.recordings[self._recording] = finished
        self._publish(RecordingStarted(recording=recording_id, path=path, agent=self._agent))
        return True

    def finish(self, by: HangUpParty) -> None:
        """Disconnect both and finish the recording; does nothing the second time."""
        if self.ended.done():
            return
        talk_ms = round((self._clock() - self._begun_s) * 1000)
        engine = self._context.router.engine
        engine.unbridge(self._caller_port)
        if self._recording is not None:
            engine.stop_recording(self._recording)
        self.ended.set_result(BridgeEnd(by, talk_ms))
        self._publish(
            Unbridged(leg=self._leg_id, agent=self._agent, talk_ms=talk_ms, by=_PARTY[by]),
            _CAUSE.get(by),
        )

    def _recorded(self, recording_id: str, event: RecordingEnded) -> None:
        if event.error:
            self._alarm(f"录音失败 recording failed: {event.error}")
        self._publish(
            RecordingFinished(
                recording=recording_id,
                path=event.path,
                agent=self._agent,
                sha256=event.sha256,
                size_bytes=event.size_bytes,
                duration_ms=event.duration_ms,
                channels=event.channels,
                sample_rate_hz=_SAMPLE_RATE_HZ,
                dropped_frames=event.dropped_frames,
                left_party="caller",
                right_party="agent",
            ),
            Code.RECORDING_FAILED if event.error else None,
        )

    def _alarm(self, text: str) -> None:
        _log.error("recording_failed", call_id=self._info.call_id, reason=text)
        self._publish(Alarm(component="recording", text=text), Code.RECORDING_FAILED)

    def _publish(
        self,
        body: Alarm | Bridged | RecordingFinished | RecordingStarted | Unbridged,
        cause: Code | None = None,
    ) -> None:
        info = self._info
        self._context.events.publish(info.tenant, body, call_id=info.call_id, cause=cause)
