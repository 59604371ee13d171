"""One call of a sipp scenario: where it is in its steps, and what it does with what comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from domain.failures import PlatformError
from loadtest.figures.tally import Tally
from loadtest.generator.media import Leg
from loadtest.generator.sip_text import Address
from loadtest.generator.sipp_message import (
    Challenge,
    Dialling,
    Received,
    plain_response,
    routes_of,
    uri_in,
)
from loadtest.generator.sipp_repeats import Repeated, Replies
from loadtest.generator.sipp_text import CallState, rendered
from loadtest.scenario.sipp_steps import (
    Act,
    Action,
    Match,
    Onward,
    PlayCapture,
    PlaySound,
    PressKeys,
    Receive,
    Say,
    SearchIn,
    Send,
    Wait,
)

if TYPE_CHECKING:
    from loadtest.generator.sipp_calls import SippCalls

_log = structlog.get_logger(__name__)

_STEPS_AT_ONCE = 1000
"""Steps without any waiting; more are a circle."""
_BEYOND_WRITTEN = 100
"""A scenario may write the numbers of its requests itself: a BYE of ours is above them."""


class SippCall:
    """A call of a scenario; counted once, when it is over."""

    __slots__ = (
        "_answer", "_at", "_calls", "_dialled_s", "_dialling", "_ended", "_handles", "_is_over",
        "_is_ringing", "_leg", "_methods", "_peer", "_repeated", "_replies", "_state", "_tally",
        "_timer", "_timers", "_waits_in", "call_id",
    )  # fmt: skip

    def __init__(
        self, calls: SippCalls, number: int, tally: Tally, ended: Callable[[SippCall], None]
    ) -> None:
        self._calls, self._tally, self._ended = calls, tally, ended
        self.call_id = f"{number}-{calls.run}@{calls.host}"
        row = calls.fields[(number - 1) % len(calls.fields)] if calls.fields else ()
        self._state = CallState(number, self.call_id, calls.run, calls.service, row)
        self._at = 0
        self._waits_in = -1
        """The step whose waiting has begun, -1 while none has."""
        self._timer: asyncio.TimerHandle | None = None
        self._handles: list[asyncio.TimerHandle] = []
        self._repeated = Repeated(calls.send, tally, lambda: self._fail("timeout"))
        self._replies = Replies()
        self._peer: Address = calls.platform
        self._timers: dict[str, float] = {}
        self._methods: set[str] = set()
        self._dialling: Dialling | None = None
        self._dialled_s = 0.0
        self._answer: Received | None = None
        """The 200 to our INVITE."""
        self._is_ringing = self._is_over = False
        self._leg: Leg | None = None

    def begin(self) -> None:
        """Take the first step."""
        self._tally.begin_call()
        self._timers["1"] = self._tally.clock_s()
        if self._calls.has_media:
            try:
                self._leg = self._calls.media.open(self._tally)
            except PlatformError:
                self._finish("generator_ports")
                return
            self._state.media_port = self._leg.number
        self._go()

    def give_up(self, cause: str) -> None:
        """End it with the run."""
        self._fail(cause)

    # ── Steps ─────────────────────────────────────────────────────────────────────────────────────
    def _go(self) -> None:
        """Take steps until one has to wait."""
        steps = self._calls.scenario.steps
        for _ in range(_STEPS_AT_ONCE):
            if self._is_over:
                return
            if self._at >= len(steps):
                self._finish("")
                return
            step = steps[self._at]
            match step:
                case Send():
                    if self._repeated.is_waiting:
                        return  # until what was sent before is answered, as sipp does
                    self._send(step)
                case Receive():
                    self._expect()
                    return
                case Wait():
                    self._wait(step)
                    return
                case Act():
                    self._do(step.actions)
            self._onward(step.onward)
        self._fail("endless_scenario")

    def _onward(self, onward: Onward) -> None:
        self._leave(onward, self._jump(onward))

    def _leave(self, onward: Onward, jump: int | None) -> None:
        self._stop_waiting()
        self._time(onward)
        self._at = self._at + 1 if jump is None else jump

    def _jump(self, onward: Onward) -> int | None:
        """Return where `next` goes, None when it does not: a draw is made once."""
        is_met = not onward.test or onward.test in self._state.variables
        is_chosen = onward.chance >= 1 or self._calls.random.random() < onward.chance
        return onward.next_step if is_met and is_chosen else None

    def _time(self, onward: Onward) -> None:
        now_s = self._tally.clock_s()
        if onward.starts_timer:
            self._timers[onward.starts_timer] = now_s
        begun_s = self._timers.get(onward.stops_timer)
        if begun_s is not None:
            self._tally.end_timer(onward.stops_timer, now_s - begun_s)

    def _wait(self, step: Wait) -> None:
        if self._waits_in == self._at:
            return
        random = self._calls.random
        match step.kind:
            case "default":
                s = self._calls.pause_s
            case "uniform":
                s = random.uniform(step.first_s, step.second_s)
            case "exponential":
                s = random.expovariate(1 / step.first_s) if step.first_s else 0.0
            case "normal":
                s = max(0.0, random.normalvariate(step.first_s, step.second_s))
            case _:
                s = step.first_s
        self._wait_for(s, partial(self._waited, step))

    def _waited(self, step: Wait) -> None:
        self._onward(step.onward)
        self._go()

    def _expect(self) -> None:
        """Begin the time within which one of the messages that may come now must come."""
        if self._waits_in == self._at:
            return
        for at in range(self._at, len(self._calls.scenario.steps)):
            step = self._calls.scenario.steps[at]
            if not isinstance(step, Receive):
                return
            if step.timeout_s:
                self._wait_for(step.timeout_s, partial(self._missed, step))
                return
            if not step.optional:
                return

    def _missed(self, step: Receive) -> None:
        self._stop_waiting()
        if step.timeout_step is None:
            self._fail("recv_timeout")
            return
        self._at = step.timeout_step
        self._go()

    def _wait_for(self, seconds: float, then: Callable[[], None]) -> None:
        self._waits_in = self._at
        self._timer = asyncio.get_running_loop().call_later(seconds, then)

    def _stop_waiting(self) -> None:
        self._waits_in = -1
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # ── Sending ───────────────────────────────────────────────────────────────────────────────────
    def _send(self, step: Send) -> None:
        message = self._calls.messages[self._at]
        if message.method not in {"", "ACK", "CANCEL"}:
            self._state.cseq += 1
        self._state.step = self._at
        text = rendered(message, self._state)
        data = text.encode("utf-8", "surrogateescape")
        address = self._peer if message.is_response else self._calls.platform
        self._replies.sent(data, address)
        if message.method:
            self._methods.add(message.method)
        if message.method == "INVITE" and self._answer is None:
            self._dialling, self._dialled_s = Dialling(text), self._tally.clock_s()
        if not step.onward.lost or self._calls.random.random() >= step.onward.lost:
            self._calls.send(data, address)
        if step.retransmit_s:
            self._repeated.start(message.method, step.retransmit_s, data, address)

    # ── Receiving ─────────────────────────────────────────────────────────────────────────────────
    def receive(self, message: Received) -> None:
        """Take a message of this call."""
        if self._replies.has(message):
            self._replies.again(message, self._calls.send, self._tally)
        elif self._is_over:
            self._answer_late(message)
        elif (at := self._place_of(message)) is None:
            self._unexpected(message)
        else:
            self._expected(message, at)

    def _expected(self, message: Received, at: int) -> None:
        step = self._calls.scenario.steps[at]
        is_lost = bool(step.onward.lost) and self._calls.random.random() < step.onward.lost
        if not isinstance(step, Receive) or is_lost:
            return
        self._replies.take(message)
        self._take(message, step)
        if self._is_over:
            return
        jump = self._jump(step.onward)
        if step.optional and jump is None:
            self._time(step.onward)  # further ones may come
        else:
            self._at = at
            self._leave(step.onward, jump)
        self._go()

    def _place_of(self, message: Received) -> int | None:
        """Return the step that expects it: from here over optional ones, then what is behind."""
        steps = self._calls.scenario.steps
        for at in range(self._at, len(steps)):
            step = steps[at]
            if not isinstance(step, Receive):
                break
            if self._expects(step, message):
                return at
            if not step.optional:
                break
        is_adjacent = True
        for at in range(min(self._at, len(steps)) - 1, -1, -1):
            step = steps[at]
            is_adjacent = is_adjacent and isinstance(step, Receive) and bool(step.optional)
            if (
                isinstance(step, Receive)
                and (is_adjacent or step.optional == "global")
                and self._expects(step, message)
            ):
                return at
        return None

    def _expects(self, step: Receive, message: Received) -> bool:
        if step.status:
            if not message.status or message.cseq_method not in self._methods:
                return False
            written, came = step.status, str(message.status)
        else:
            written, came = step.request, message.method
        if step.expression is not None:
            return bool(came) and step.expression.search(came) is not None
        return written == came

    def _take(self, message: Received, step: Receive) -> None:
        state = self._state
        state.last = message
        self._repeated.answered_by(message)
        if message.status:
            state.peer_tag = message.tag("to") or state.peer_tag
            self._count(message)
        else:
            state.peer_tag = message.tag("from") or state.peer_tag
            self._peer = message.source
        if step.keeps_routes:
            state.routes = routes_of(message)
            state.next_url = uri_in(message.value("contact"))
        if step.keeps_challenge:
            state.challenge = Challenge.of(message)
        if self._leg is not None and "application/sdp" in message.value("content-type").lower():
            body = message.body.encode("utf-8", "surrogateescape")
            if not self._leg.connect(body) and 200 <= message.status < 300:
                self._fail("no_media")
                return
        self._do(step.actions)

    def _count(self, response: Received) -> None:
        """Count what an INVITE has come to."""
        if response.cseq_method != "INVITE" or self._answer is not None or self._dialling is None:
            return
        if response.cseq != self._dialling.cseq:
            return
        tally, status = self._tally, response.status
        after_s = tally.clock_s() - self._dialled_s
        if 180 <= status < 300 and not self._is_ringing:
            self._is_ringing = True
            tally.post_dial_delay_s.add(after_s)
        if 200 <= status < 300:
            self._answer = response
            tally.answered += 1
            tally.setup_s.add(after_s)
        elif status >= 300 and status not in {401, 407}:
            tally.refusal_s.add(after_s)

    # ── Actions ───────────────────────────────────────────────────────────────────────────────────
    def _do(self, actions: tuple[Action, ...]) -> None:
        for action in actions:
            if self._is_over:
                return
            match action:
                case Match():
                    self._match(action)
                case Say():
                    log = _log.warning if action.level == "warning" else _log.info
                    log("sipp_scenario", says=self._state.written(action.text), call=self.call_id)
                case PlayCapture():
                    self._play_capture(action)
                case PlaySound():
                    self._play_sound(action.file, action.times)
                case PressKeys():
                    self._press(self._state.written(action.keys))
                case _:
                    self._fail("stopped_by_scenario")

    def _match(self, action: Match) -> None:
        found = action.expression.search(self._searched(action))
        if action.must and (found is None) == (action.must == "match"):
            self._fail("not_matched" if action.must == "match" else "matched")
            return
        for group, name in enumerate(action.assign_to):
            text = None if found is None else found[group]
            if text is None:
                self._state.variables.pop(name, None)
            else:
                self._state.variables[name] = text

    def _searched(self, action: Match) -> str:
        last = self._state.last
        match action.search_in:
            case SearchIn.VARIABLE:
                return self._state.variables.get(action.header, "")
            case SearchIn.BODY:
                return last.body if last else ""
            case SearchIn.MESSAGE:
                return last.text if last else ""
        values = last.values(action.header) if last else []
        return values[action.occurrence - 1] if action.occurrence <= len(values) else ""

    def _play_capture(self, action: PlayCapture) -> None:
        sound = self._calls.sound_of(action.capture)
        if sound is not None:
            self._play_sound(sound, 1)
        loop = asyncio.get_running_loop()
        for at_s, key in action.capture.keys:
            self._handles.append(loop.call_later(at_s, self._press, key))

    def _play_sound(self, file: Path | None, times: int) -> None:
        if self._leg is None:
            return
        if file is None:
            self._calls.media.engine.stop_play(self._leg.port)
        elif not times:
            self._leg.play_on(file)
        else:
            engine = self._calls.media.engine
            engine.play(self._leg.port, [str(file)] * times)

    def _press(self, keys: str) -> None:
        if self._leg is not None and not self._is_over and keys:
            self._leg.press(keys, _nothing)

    # ── Ending ────────────────────────────────────────────────────────────────────────────────────
    def _unexpected(self, message: Received) -> None:
        """Fail, unless it is a provisional response that comes late, or a question of life."""
        if message.status:
            if message.cseq_method in self._methods:
                self._repeated.answered_by(message)
                self._count(message)
                if message.status < 200:
                    self._go()
                    return
            is_refusal = message.status >= 300
            self._fail(
                str(message.status) if is_refusal else f"unexpected_{message.status}", message
            )
            return
        if message.method == "OPTIONS":
            self._calls.send(plain_response(message, "200 OK").encode(), message.source)
            return
        if message.method == "ACK":
            return
        causes = {"BYE": "hung_up_early", "CANCEL": "hung_up_early"}
        self._fail(causes.get(message.method, f"unexpected_{message.method}"), message)

    def _fail(self, cause: str, message: Received | None = None) -> None:
        """Count the call as failed, and leave nothing of it behind at the far end."""
        if self._is_over:
            return
        self._finish(cause)
        last, dialling = self._state.last, self._dialling
        if message is not None:
            self._answer_late(message)
            if message.method == "BYE":
                return
        if dialling is None:
            return
        if self._answer is not None:
            if self._answer is not message:  # else that was just done
                self._hang_up(dialling, self._answer)
        elif last is not None and 100 <= last.status < 200 and last.cseq_method == "INVITE":
            self._calls.send(dialling.cancel().encode(), self._calls.platform)

    def _answer_late(self, message: Received) -> None:
        """Do what RFC 3261 asks of whoever has done with a call."""
        dialling = self._dialling
        if message.method:
            if message.method != "ACK":
                is_end = message.method in {"BYE", "CANCEL"}
                status = "200 OK" if is_end else "481 Call/Transaction Does Not Exist"
                self._calls.send(plain_response(message, status).encode(), message.source)
            return
        if dialling is None or message.cseq_method != "INVITE" or message.status < 200:
            return
        if message.cseq != dialling.cseq:
            return
        self._calls.send(dialling.acknowledge(message).encode(), self._calls.platform)
        if message.status < 300:
            self._hang_up(dialling, message)

    def _hang_up(self, dialling: Dialling, answer: Received) -> None:
        state = self._state
        state.cseq = max(state.cseq, dialling.cseq) + _BEYOND_WRITTEN
        self._calls.send(dialling.hang_up(answer, state.cseq).encode(), self._calls.platform)

    def _finish(self, cause: str) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._stop_waiting()
        self._repeated.stop()
        for handle in self._handles:
            handle.cancel()
        if self._leg is not None:
            self._leg.close()
        self._tally.end_call(cause)
        self._calls.over(self)
        self._ended(self)


def _nothing() -> None:
    """Nobody waits."""
