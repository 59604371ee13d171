"""A `Call` without SIP and media: keys and hang-ups come from a script, time does not pass.

    call = FakeCall(["1", SILENCE, "0"])        # one entry per collect
    await call.run(handler)
    assert call.heard == ["greeting.wav", ...]  # file names, in order
    assert call.ended is Code.FLOW_ENDED

Each `collect` takes the next entry of the script: keys typed after the prompt, `SILENCE`, or
`HANG_UP`, with which the caller leaves and the handler is cancelled. When the script has run out
the caller is silent. Keys at other moments: `press` at any time, `on_clip` while a clip plays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from cti.call import (
    BridgeEnd,
    CallHandler,
    CallInfo,
    Clip,
    Collected,
    DialTarget,
    HangUpParty,
    JsonValue,
    Leg,
    ProgressingLeg,
    RingingLeg,
    Supervision,
    Talk,
    TalkState,
)
from cti.calls.digits import Collector, KeyBuffer
from cti.media import Answer, Signal
from domain.failures import Code, PlatformError
from domain.ids import CallId, LegId, NodeId, TenantId, new_call_id
from tests.fakes.turn import turn

SILENCE = ""
HANG_UP = "hang up"


class FakePhone:
    """A registered phone. Answers at once unless `result` names a failure or `manual` is set."""

    def __init__(
        self,
        result: Code | None = None,
        *,
        manual: bool = False,
        talk_ms: int | None = None,
        talks_remotely: bool = True,
    ) -> None:
        self.result = result
        self.manual = manual
        self.talk_ms = talk_ms  # the far end hangs up after so long; None: when the test says so
        self.talks_remotely = talks_remotely
        self.rang = asyncio.Event()
        self.bridged = asyncio.Event()
        self.leg: FakeLeg | None = None
        self.targets: list[DialTarget] = []

    def answer(self) -> None:
        """Pick up a phone that rings."""
        assert self.leg is not None
        self.leg.settle(None)

    def refuse(self, code: Code = Code.DECLINED) -> None:
        """End the ringing from the phone."""
        assert self.leg is not None
        self.leg.settle(code)

    def hang_up(self) -> None:
        """End the conversation from the phone."""
        assert self.leg is not None
        self.leg.finish(HangUpParty.FAR_END)

    def transfer(self) -> None:
        """Send the caller to somebody else, who hangs up when `hang_up` is called."""
        assert self.leg is not None
        self.leg.transferred()


class FakeLeg:
    """Both `RingingLeg` and `Leg` of a `FakePhone`."""

    def __init__(self, number: int, phone: FakePhone) -> None:
        self._leg_id = LegId(f"leg-{number}")
        self._phone = phone
        loop = asyncio.get_running_loop()
        self.answered: asyncio.Future[Code | None] = loop.create_future()
        self.ended: asyncio.Future[HangUpParty] = loop.create_future()
        self.code: Code | None = None
        self.transferred: Callable[[], None] = lambda: None

    @property
    def leg_id(self) -> LegId:
        return self._leg_id

    @property
    def has_early_media(self) -> bool:
        return False

    def settle(self, result: Code | None) -> None:
        if not self.answered.done():
            self.answered.set_result(result)

    def finish(self, by: HangUpParty) -> None:
        if not self.ended.done():
            self.ended.set_result(by)

    async def answer_remotely(self) -> bool:
        if self._phone.talks_remotely:
            self.settle(None)
        return self._phone.talks_remotely

    def hang_up(self, code: Code = Code.FLOW_ENDED) -> None:
        self.code = self.code or code
        self.settle(code)
        self.finish(HangUpParty.PLATFORM)


class FakeTalk:
    """Implements `cti.call.Talk`: keeps the state, and who joins is rung as by `dial`."""

    def __init__(self, call: FakeCall, leg: FakeLeg) -> None:
        self._call = call
        self._leg = leg
        self.state = TalkState.TALKING
        self.supervisors: dict[LegId, Supervision] = {}
        self.consultant: FakeLeg | None = None
        self.intercepted_by = ""
        self._on_ended: dict[LegId, Callable[[], None]] = {}
        self._on_changed: Callable[[TalkState], None] | None = None

    def watch(self, on_changed: Callable[[TalkState], None]) -> None:
        self._on_changed = on_changed

    def hold(self) -> None:
        self._step({TalkState.TALKING: TalkState.HELD, TalkState.CONFERENCE: TalkState.CONSULTING})

    def retrieve(self) -> None:
        self._step({TalkState.HELD: TalkState.TALKING, TalkState.CONSULTING: TalkState.CONFERENCE})

    async def consult(self, target: DialTarget, *, timeout_ms: int) -> None:
        self._step(dict.fromkeys((TalkState.TALKING, TalkState.HELD), TalkState.CONSULTING))
        try:
            self.consultant = await self._call.dial(target, timeout_ms=timeout_ms)
        except BaseException:
            self._step({TalkState.CONSULTING: TalkState.HELD})
            raise

    def cancel_consult(self) -> None:
        self._step(dict.fromkeys((TalkState.CONSULTING, TalkState.CONFERENCE), TalkState.TALKING))
        self.consultant = None

    def three_party(self) -> None:
        self._step({TalkState.CONSULTING: TalkState.CONFERENCE})

    def complete(self) -> None:
        if self.consultant is None:
            raise PlatformError(Code.STATE_FORBIDS, "no expert is there")
        self._leg.transferred()

    def pause_recording(self) -> None:
        self._call.actions.append("pause recording")

    def resume_recording(self) -> None:
        self._call.actions.append("resume recording")

    async def supervise(
        self,
        target: DialTarget,
        mode: Supervision,
        *,
        timeout_ms: int,
        on_ended: Callable[[], None],
    ) -> FakeLeg:
        leg = await self._call.dial(target, timeout_ms=timeout_ms)
        self.supervisors[leg.leg_id] = mode
        self._on_ended[leg.leg_id] = on_ended

        def left(_by: asyncio.Future[HangUpParty]) -> None:
            if self.supervisors.pop(leg.leg_id, None) is not None:
                on_ended()

        leg.ended.add_done_callback(left)
        return leg

    def change(self, leg: Leg, mode: Supervision) -> None:
        self.supervisors[leg.leg_id] = mode

    def intercept(self, leg: Leg, *, agent: str = "") -> None:
        assert isinstance(leg, FakeLeg)
        del self.supervisors[leg.leg_id]
        former, self._on_changed = self._leg, None
        self.intercepted_by, self.state = agent, TalkState.TALKING
        former.transferred()
        former.code = Code.CALL_TRANSFERRED
        leg.ended.add_done_callback(lambda ended: former.finish(ended.result()))
        self._on_ended[leg.leg_id]()

    def _step(self, allowed: dict[TalkState, TalkState]) -> None:
        after = allowed.get(self.state)
        if after is None:
            raise PlatformError(Code.STATE_FORBIDS, f"while {self.state}")
        self.state = after
        if self._on_changed is not None:
            self._on_changed(after)


class FakeCall:
    """Implements `cti.call.Call`."""

    def __init__(
        self,
        script: Iterable[str] = (),
        *,
        tenant: str = "demo",
        flow: str = "main",
        caller: str = "13812345678",
        called: str = "95598",
        landing_code: str = "",
        language: str = "zh",
        phones: dict[str, FakePhone] | None = None,
    ) -> None:
        self.info = CallInfo(
            call_id=CallId(new_call_id()),
            tenant=TenantId(tenant),
            node=NodeId("node-1"),
            trunk="carrier",
            caller=caller,
            called=called,
            access_code=called,
            landing_code=landing_code,
            flow=flow,
            arrived_unix_us=1_700_000_000_000_000,
        )
        self.data: dict[str, JsonValue] = {}
        self.path: list[str] = []
        self.language = language
        self.phones = phones or {}

        self.answered = False
        self.ended: Code | None = None
        """How the call ended: the code given to hang_up, a failure's, CALLER_HUNG_UP …"""
        self.heard: list[str] = []
        """File names of all clips begun, music too, in order."""
        self.music: list[str] = []
        """File names of the music that plays now."""
        self.actions: list[str] = []
        """What the handler did, in order: "answer", "play a.wav b.wav", "collect", "dial 1001" …"""
        self.recorded_parties: list[str] = []
        self.music_started = asyncio.Event()

        self._script = list(script)
        self._on_clip: dict[str, str] = {}
        self._keys = KeyBuffer()
        self._key_pressed = asyncio.Event()
        self._legs: list[FakeLeg] = []
        self._bridged: FakeLeg | None = None
        self._task: asyncio.Task[None] | None = None

    # What the test does

    async def run(self, handler: CallHandler) -> None:
        """Run the handler as call control does; afterwards `ended` is set, and never None."""

        async def handle() -> None:
            await handler(self)

        self._task = asyncio.create_task(handle())
        try:
            await self._task
        except asyncio.CancelledError:
            if self.ended is None:  # the test itself was cancelled
                self._task.cancel()
                raise
        except PlatformError as error:
            self._end(error.code)
        self._end(Code.FLOW_ENDED)

    def press(self, keys: str) -> None:
        """Press keys now."""
        for key in keys:
            self._keys.push(key)
        self._key_pressed.set()

    def on_clip(self, name: str, keys: str) -> None:
        """Press keys, or `HANG_UP`, as soon as the clip of this file name begins."""
        self._on_clip[name] = keys

    def caller_hangs_up(self) -> None:
        """End the call from the caller's side; the handler is cancelled."""
        self._end(Code.CALLER_HUNG_UP if self.answered else Code.CALLER_ABANDONED)
        if self._task is not None:
            self._task.cancel()

    # cti.call.Call

    def ring(self, early_media: ProgressingLeg | None = None) -> None:
        self.actions.append("ring")

    async def answer(self) -> None:
        self._check_alive()
        await turn()
        if not self.answered:
            self.actions.append("answer")
            self.answered = True

    async def play(self, clips: Sequence[Clip], *, barge_in: bool = True) -> bool:
        self._check_alive()
        self.stop_music()
        self.actions.append("play " + " ".join(clip.name for clip in clips))
        for clip in clips:
            if barge_in and self._keys:
                return False
            await self._begin_clip(clip)
        return not (barge_in and self._keys)

    async def collect(
        self,
        clips: Sequence[Clip] = (),
        *,
        max_digits: int = 1,
        terminators: str = "#",
        first_digit_timeout_ms: int = 5000,
        inter_digit_timeout_ms: int = 3000,
        barge_in: bool = True,
    ) -> Collected:
        if clips:
            await self.play(clips, barge_in=barge_in)
        self._check_alive()
        self.actions.append("collect")
        collector = Collector(
            0.0,
            max_digits=max_digits,
            terminators=terminators,
            first_digit_timeout_ms=first_digit_timeout_ms,
            inter_digit_timeout_ms=inter_digit_timeout_ms,
        )
        if not self._keys and self._script:
            await self._follow(self._script.pop(0))
        while (key := self._keys.take()) is not None:
            if (result := collector.key(key, 0.0)) is not None:
                return result
        return collector.expired()

    def flush_digits(self) -> None:
        self._keys.clear()

    def start_music(self, clips: Sequence[Clip]) -> None:
        self.music = [clip.name for clip in clips]
        self.heard += self.music
        self.actions.append("music " + " ".join(self.music))
        self.music_started.set()

    def start_ringback(self) -> None:
        self.music = ["ringback"]
        self.actions.append("ringback")

    def stop_music(self) -> None:
        self.music = []

    async def next_digit(self) -> str:
        self._check_alive()
        while (key := self._keys.take()) is None:
            self._key_pressed.clear()
            await self._key_pressed.wait()
        return key

    async def dial(
        self,
        target: DialTarget,
        *,
        timeout_ms: int,
        on_ringing: Callable[[RingingLeg], None] | None = None,
        on_progress: Callable[[ProgressingLeg], None] | None = None,
        on_heard: Callable[[Signal | Answer], None] | None = None,
    ) -> FakeLeg:
        self._check_alive()
        self.actions.append(f"dial {target.user}")
        phone = self.phones.get(target.user)
        if phone is None:
            raise PlatformError(Code.PHONE_NOT_REGISTERED, f"no contact of {target.user}")
        leg = FakeLeg(len(self._legs) + 1, phone)
        self._legs.append(leg)
        phone.leg = leg
        phone.targets.append(target)
        phone.rang.set()
        if on_ringing is not None:
            on_ringing(leg)
        if on_progress is not None:
            on_progress(leg)
        if not phone.manual:
            leg.settle(phone.result)
        try:
            code = await leg.answered
        except asyncio.CancelledError:
            leg.hang_up(Code.CALLER_ABANDONED)
            raise
        if code is not None:
            raise PlatformError(code, f"phone {target.user}")
        return leg

    async def bridge(
        self,
        leg: Leg,
        *,
        record_party: str | None = None,
        on_transferred: Callable[[Leg], None] | None = None,
        on_begun: Callable[[Talk], None] | None = None,
    ) -> BridgeEnd:
        self._check_alive()
        self.stop_music()
        self.actions.append(f"bridge {leg.leg_id}")
        if record_party is not None:
            self.recorded_parties.append(record_party)
        assert isinstance(leg, FakeLeg)
        phone = leg._phone
        if on_transferred is not None:
            leg.transferred = partial(on_transferred, leg)
        if on_begun is not None:
            on_begun(FakeTalk(self, leg))
        phone.bridged.set()
        if phone.talk_ms is not None:
            leg.finish(HangUpParty.FAR_END)
        self._bridged = leg
        try:
            by = await asyncio.shield(leg.ended)
        except asyncio.CancelledError:
            leg.hang_up(Code.CALLER_HUNG_UP)
            raise
        finally:
            self._bridged = None
        return BridgeEnd(by, phone.talk_ms or 0)

    async def hang_up(self, code: Code = Code.FLOW_ENDED, *, sip_status: int = 0) -> None:
        self._end(code)

    # Inside

    async def _begin_clip(self, clip: Path) -> None:
        self.heard.append(clip.name)
        await self._follow(self._on_clip.pop(clip.name, SILENCE))

    async def _follow(self, entry: str) -> None:
        if entry == HANG_UP:
            self.caller_hangs_up()
        else:
            self.press(entry)
        await turn()  # a hang-up cancels the handler here

    def _check_alive(self) -> None:
        if self.ended is not None:
            raise PlatformError(Code.NO_CALL, "the call has ended")

    def _end(self, code: Code) -> None:
        if self.ended is None:
            self.ended = code
            self.actions.append(f"end {code}")
            for leg in self._legs:
                leg.hang_up(code)
