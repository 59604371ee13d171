"""Caller and far end connected, and who joins them: hold, recording, and the events of all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import structlog

from cti.call import BridgeEnd, CallInfo, HangUpParty
from cti.calls.call_context import CallContext
from cti.calls.listening import NOBODY, Sides
from cti.calls.parties import Part, Parties
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
_KEY_GAP_MS = 60

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
    """What a caller talks, from the first frame to the last; transfers change its parties.

    Its two main parties are the caller and the far end (an agent, an expert, another caller).
    Others may join: a consultant, a supervisor who listens, whispers or speaks. It is recorded in
    one file, whatever happens in it.
    """

    def __init__(
        self,
        context: CallContext,
        info: CallInfo,
        parts: OpenParts,
        *,
        caller: RtpPort,
        leg: FarParty,
        agent: str | None,
        on_sides: Callable[[Sides], None],
    ) -> None:
        """With an `agent` it is recorded; who is heard on either side is told to `on_sides`."""
        self._context = context
        self._info = info
        self._parts = parts
        self._caller = caller
        self.leg = leg
        self._is_recorded = agent is not None
        self._agent = agent or ""
        self._on_sides = on_sides
        self.is_private = False
        """Whether neither the recording nor who listens from outside gets anything now."""
        self._recording: RecordingId | None = None
        self._parties = Parties()
        self._ports: dict[PortId, RtpPort] = {}
        self._is_over = False
        loop = asyncio.get_running_loop()
        self._clock = loop.time
        self._begun_s = self._joined_s = loop.time()
        self.ended: asyncio.Future[BridgeEnd] = loop.create_future()
        self.on_finished: Callable[[], None] | None = None

    def begin(self) -> None:
        """Record and connect both, in place of whatever they heard."""
        parties = self._put(Parties(), self._caller, Part.CUSTOMER)
        parties = self._put(parties, self.leg.port, Part.AGENT)
        recording = self._record(parties)
        self._become(parties)
        self._recording = recording
        self._stop_play(*self._ports)
        self._tell_bridged()

    def hold_changed(self) -> None:
        """A party's phone holds or resumes: who is alone with it hears music, or it again."""
        if not self._is_over:
            parties = self._parties
            for port in self._ports.values():
                parties = parties.away(port.port_id, is_away=port.is_held)
            self._become(parties)

    def pause(self, waiting: RtpPort) -> None:
        """Let one party wait while the other one's place is being filled."""
        self.hold(waiting, waits=True)

    def resume(self) -> None:
        """Connect all again: the place was not filled."""
        if not self._is_over:
            parties = self._parties
            for port in self._ports:
                parties = parties.hold(port, waits=False)
            self._become(parties)

    def go_on(
        self,
        *,
        caller: RtpPort | None = None,
        leg: FarParty | None = None,
        agent: str = "",
    ) -> None:
        """Go on with somebody else in a main party's place; the recording goes on."""
        parties, waits = self._parties, False
        if caller is not None:
            former = parties.party(self._caller.port_id)
            waits = former is not None and former.waits and leg is None
            parties = self._leave(parties, self._caller)
            self._caller = caller
        if leg is not None:
            parties = self._leave(parties, self.leg.port)
            self._tell_unbridged(HangUpParty.FAR_END)
            self._joined_s = self._clock()
            self.leg = leg
            self._agent = agent  # not the one that the handler asked for
        parties = self._put(parties, self._caller, Part.CUSTOMER)
        parties = self._put(parties, self.leg.port, Part.AGENT)
        self._become(parties.hold(self._caller.port_id, waits=waits))
        if leg is not None:
            self._tell_bridged()

    def finish(self, by: HangUpParty) -> None:
        """Disconnect all and finish the recording; does nothing the second time."""
        if self._is_over:
            return
        self._is_over = True
        self._stop_recording()
        self._become(Parties())
        if not self.ended.done():  # a cancelled handler has cancelled it
            self.ended.set_result(BridgeEnd(by, round((self._clock() - self._begun_s) * 1000)))
        self._tell_unbridged(by)
        if self.on_finished is not None:
            self.on_finished()

    # Who else joins, and what they are

    @property
    def parties(self) -> Parties:
        """Who takes part, and as what."""
        return self._parties

    def join(self, port: RtpPort, part: Part) -> None:
        """Let somebody in, or give who is in another part: one change that nobody else hears."""
        if not self._is_over:
            is_new = port.port_id not in self._ports
            self._become(self._put(self._parties, port, part))
            if is_new:
                self._stop_play(port.port_id)

    def leave(self, port: RtpPort) -> None:
        """Let somebody go who joined; the main parties leave by `go_on` and `finish`."""
        if port.port_id in self._ports:
            self._become(self._leave(self._parties, port))

    def hold(self, port: RtpPort, *, waits: bool) -> None:
        """Let a party wait with music, or bring it back."""
        if not self._is_over:
            self._become(self._parties.hold(port.port_id, waits=waits))

    # What they hear

    def _put(self, parties: Parties, port: RtpPort, part: Part) -> Parties:
        self._ports[port.port_id] = port
        put = parties.put(port.port_id, part)
        return put.away(port.port_id, is_away=port.is_held)

    def _leave(self, parties: Parties, port: RtpPort) -> Parties:
        self._ports.pop(port.port_id, None)
        return parties.remove(port.port_id)

    def _stop_play(self, *newcomers: PortId) -> None:
        """End what they heard before they came, but not the music that they hear now."""
        hear_music = self._parties.hear_music()
        for port in newcomers:
            if port not in hear_music:
                self._context.router.engine.stop_play(port)

    def _become(self, parties: Parties) -> None:
        """Tell the engine what changes: routes first, so that nobody hears a gap."""
        changes, former, self._parties = parties.changes(self._parties), self._parties, parties
        engine = self._context.router.engine
        if changes.routes:
            engine.set_routes(changes.routes)
        keys = self._key_routes(former, parties)
        if keys:
            engine.set_key_routes(keys)
        if changes.sides is not None:
            if self._recording is not None:
                engine.set_recording_sides(self._recording, *changes.sides)
            if not self.is_private:
                self._on_sides(changes.sides)
        music = [str(clip) for clip in self._context.hold_music()] if changes.music_starts else []
        for port in changes.music_starts:
            if music:
                engine.play(port, music, loop=True)
        for port in changes.music_ends:
            engine.stop_play(port)

    def _key_routes(self, former: Parties, parties: Parties) -> dict[PortId, tuple[PortId, ...]]:
        """Return the routes of keys that change; to whom they go by INFO the engine sends none."""
        before, now = former.keys, parties.keys
        by_info = {port for port, each in self._ports.items() if each.wants_info}
        return {
            sink: now.get(sink, ())
            for sink in {**before, **now}
            if sink not in by_info and before.get(sink, ()) != now.get(sink, ())
        }

    def pass_key(self, source: PortId, key: str, duration_ms: int, *, by_info: bool) -> None:
        """Let the others have a key that came by INFO, or that some of them want by INFO."""
        for sink, sources in self._parties.keys.items():
            port = self._ports.get(sink)
            if port is None or source not in sources:
                continue
            if port.wants_info:
                if port.send_key is not None:
                    port.send_key(key, duration_ms)
            elif by_info:
                engine = self._context.router.engine
                engine.send_digits(sink, key, tone_ms=duration_ms, gap_ms=_KEY_GAP_MS)

    # Recording

    def pause_recording(self) -> None:
        """Record silence, as while a card number is read out; the file tells when.

        Who listens from outside hears nothing meanwhile either.
        """
        self.is_private = True
        self._on_sides(NOBODY)
        if self._recording is not None:
            self._context.router.engine.pause_recording(self._recording)

    def resume_recording(self) -> None:
        """Record again what is said."""
        self.is_private = False
        """Whether neither the recording nor who listens from outside gets anything now."""
        self._on_sides(self._parties.sides)
        if self._recording is not None:
            self._context.router.engine.resume_recording(self._recording)

    def _record(self, parties: Parties) -> RecordingId | None:
        """Start recording; an alarm tells where there is no place for it."""
        if not self._is_recorded:
            return None
        recording_id = time_ordered_id()
        try:
            path = str(self._context.recording_path(self._info, recording_id))
        except (OSError, PlatformError) as error:
            self._alarm(f"录音无法开始 recording cannot start: {error}")
            return None
        agent, router = self._agent, self._context.router
        form = self._context.recording_form
        recording = router.engine.start_recording(path, *parties.sides, form=form)

        def finished(event: RecordingEnded) -> None:
            self._recorded(recording_id, agent, event)
            self._parts.close()

        self._parts.open()
        router.recordings[recording] = finished
        self._publish(RecordingStarted(recording=recording_id, path=path, agent=agent))
        return recording

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
