"""Caller and far end connected: bridge, hold, dual-channel recording, and the events of all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import structlog

from cti.call import BridgeEnd, CallInfo, HangUpParty
from cti.calls.call_context import CallContext
from cti.calls.parts import OpenParts
from cti.media import PortId, RecordingEnded, RecordingId
from cti.rtp_port import RtpPort
from cti95598.events.v1.events_pb2 import (
    Alarm,
    Bridged,
    CallEnded,
    RecordingFinished,
    RecordingPause,
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


class FarParty(Protocol):
    """Whom the caller talks to: a leg, or the caller of another call."""

    @property
    def leg_id(self) -> LegId:
        """Unique over all nodes."""

    @property
    def port(self) -> RtpPort:
        """Where it is heard."""

    def hang_up(self, code: Code = Code.FLOW_ENDED) -> None:
        """End it from any state."""


class Conversation:
    """One bridge of a call, from its first frame to its end; transfers change its parties."""

    def __init__(
        self,
        context: CallContext,
        info: CallInfo,
        parts: OpenParts,
        *,
        caller: RtpPort,
        leg: FarParty,
        agent: str | None,
    ) -> None:
        """With an `agent` it is recorded."""
        self._context = context
        self._info = info
        self._parts = parts
        self._caller = caller
        self.leg = leg
        self._is_recorded = agent is not None
        self._agent = agent or ""
        self._recording: RecordingId | None = None
        self._hears_music: set[PortId] = set()
        self._is_paused = False
        self._is_over = False
        loop = asyncio.get_running_loop()
        self._clock = loop.time
        self._begun_s = self._joined_s = loop.time()
        self.ended: asyncio.Future[BridgeEnd] = loop.create_future()
        self.on_finished: Callable[[], None] | None = None

    def begin(self) -> None:
        """Record and connect both, in place of whatever they heard."""
        self._record()
        self._join()
        self._tell_bridged()

    def hold_changed(self) -> None:
        """A party was put on hold or resumed: the other one hears music, or the party again."""
        if self._is_paused or self._is_over:
            return
        for listener, other in self._ways():
            if other.is_held and listener.port_id not in self._hears_music:
                self._play_music(listener)
            elif not other.is_held and listener.port_id in self._hears_music:
                self._stop_music(listener)

    def pause(self, waiting: RtpPort) -> None:
        """Let one party wait while the other one's place is being filled."""
        self._is_paused = True
        self._disconnect()
        self._play_music(waiting)

    def resume(self) -> None:
        """Connect both again: the place was not filled."""
        if not self._is_over:
            self._is_paused = False
            self._join()

    def go_on(self, *, caller: RtpPort | None = None, leg: FarParty | None = None) -> None:
        """Go on with somebody else in a party's place; a recording goes on in a file of its own."""
        self._stop_recording()
        self._disconnect()
        self._is_paused = False
        self._caller = caller or self._caller
        if leg is not None:
            self._tell_unbridged(HangUpParty.FAR_END)
            self._joined_s = self._clock()
            self.leg = leg
            self._agent = ""  # whoever it is, it is not the agent that the handler asked for
        self._record()
        self._join()
        if leg is not None:
            self._tell_bridged()

    def finish(self, by: HangUpParty) -> None:
        """Disconnect both and finish the recording; does nothing the second time."""
        if self._is_over:
            return
        self._is_over = True
        self._disconnect()
        self._stop_recording()
        if not self.ended.done():  # a cancelled handler has cancelled it
            self.ended.set_result(BridgeEnd(by, round((self._clock() - self._begun_s) * 1000)))
        self._tell_unbridged(by)
        if self.on_finished is not None:
            self.on_finished()

    # What both hear

    def _ways(self) -> tuple[tuple[RtpPort, RtpPort], tuple[RtpPort, RtpPort]]:
        return (self._caller, self.leg.port), (self.leg.port, self._caller)

    def _join(self) -> None:
        """Let both hear each other in place of what played."""
        self._hears_music.clear()
        engine = self._context.router.engine
        engine.set_routes({one.port_id: [other.port_id] for one, other in self._ways()})
        for listener, _ in self._ways():
            engine.stop_play(listener.port_id)
        self.hold_changed()

    def _disconnect(self) -> None:
        for listener, _ in self._ways():
            if listener.port_id in self._hears_music:
                self._stop_music(listener)
        self._context.router.engine.set_routes({each.port_id: [] for each, _ in self._ways()})

    def _play_music(self, listener: RtpPort) -> None:
        clips = self._context.hold_music()
        if clips:
            self._hears_music.add(listener.port_id)
            paths = [str(clip) for clip in clips]
            self._context.router.engine.play(listener.port_id, paths, loop=True)

    def _stop_music(self, listener: RtpPort) -> None:
        self._hears_music.discard(listener.port_id)
        self._context.router.engine.stop_play(listener.port_id)

    # Recording

    def _record(self) -> None:
        """Start recording; an alarm tells where there is no place for it."""
        if not self._is_recorded:
            return
        recording_id = time_ordered_id()
        try:
            path = str(self._context.recording_path(self._info, recording_id))
        except (OSError, PlatformError) as error:
            self._alarm(f"录音无法开始 recording cannot start: {error}")
            return
        agent, router = self._agent, self._context.router
        self._recording = router.engine.start_recording(
            path, [self._caller.port_id], [self.leg.port.port_id]
        )

        def finished(event: RecordingEnded) -> None:
            self._recorded(recording_id, agent, event)
            self._parts.close()

        self._parts.open()
        router.recordings[self._recording] = finished
        self._publish(RecordingStarted(recording=recording_id, path=path, agent=agent))

    def _stop_recording(self) -> None:
        recording, self._recording = self._recording, None
        if recording is not None:
            self._context.router.engine.stop_recording(recording)

    def _recorded(self, recording_id: str, agent: str, event: RecordingEnded) -> None:
        if event.error:
            self._alarm(f"录音失败 recording failed: {event.error}")
        self._publish(
            RecordingFinished(
                recording=recording_id,
                path=event.path,
                agent=agent,
                sha256=event.sha256,
                size_bytes=event.size_bytes,
                duration_ms=event.duration_ms,
                channels=event.channels,
                sample_rate_hz=_SAMPLE_RATE_HZ,
                dropped_frames=event.dropped_frames,
                pauses=[
                    RecordingPause(start_ms=start, end_ms=end) for start, end in event.pauses_ms
                ],
                left_party="caller",
                right_party="agent" if agent else "far_end",
            ),
            Code.RECORDING_FAILED if event.error else None,
        )

    # What is told

    def _tell_bridged(self) -> None:
        self._publish(Bridged(leg=self.leg.leg_id, agent=self._agent))

    def _tell_unbridged(self, by: HangUpParty) -> None:
        talk_ms = round((self._clock() - self._joined_s) * 1000)
        self._publish(
            Unbridged(leg=self.leg.leg_id, agent=self._agent, talk_ms=talk_ms, by=_PARTY[by]),
            _CAUSE.get(by),
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
