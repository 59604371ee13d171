"""Who listens to a call from outside of it, as speech recognition does: live audio of both sides.

A subscriber hears what a recording of the call would hold, from the moment on in which it comes:
the caller on the left, whom the caller hears on the right. Prompts and music are nobody's voice.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass

from cti.call import CallInfo
from cti.media import PortId, TapAudio, TapEnded
from cti.rtp_port import MediaRouter
from domain.failures import Code, PlatformError

Sides = tuple[tuple[PortId, ...], tuple[PortId, ...]]
"""The ports of the left and of the right side."""

NOBODY: Sides = ((), ())

MOST_WAITING_PIECES = 25
"""Five seconds that a subscriber may lag behind; what is older is dropped."""

_MOST_LISTENERS = 8  # of one call: each costs the engine what a recording costs


@dataclass(frozen=True, slots=True)
class HeardPiece:
    """200 ms of a call (less at its end): PCM16, little-endian, 8 kHz, one side each."""

    start_ms: int
    """Since the subscription began."""
    left: bytes
    right: bytes
    dropped_ms: int
    """What was dropped so far, because it was not taken in time."""


class Listening:
    """One subscription to one call, until the call or the subscriber ends it."""

    def __init__(self, router: MediaRouter, info: CallInfo, language: str, sides: Sides) -> None:
        """Begin to listen; audio waits for `next` from now on."""
        self.info = info
        self.language = language
        """That the caller had chosen when the subscription began."""
        self.began_unix_us = time.time_ns() // 1000
        self.dropped_ms = 0
        self.taken_ms = 0
        """Up to where the audio was taken or dropped."""
        self.cause: Code | None = None
        """Why it ended; None while it goes on, and where the subscriber ended it."""
        self._engine = router.engine
        self._waiting: deque[TapAudio] = deque(maxlen=MOST_WAITING_PIECES)
        self._news = asyncio.Event()
        self._is_stopped = False
        self._is_over = False
        self._ended_ms = 0
        self._tap = self._engine.start_tap(*sides)
        router.taps[self._tap] = self._on_event

    async def next(self) -> HeardPiece | None:
        """Wait for the next piece; None after the last one."""
        while not self._waiting:
            if self._is_over:
                self._pass_over(self._ended_ms)
                return None
            self._news.clear()
            await self._news.wait()
        piece = self._waiting.popleft()
        self._pass_over(piece.start_ms)
        self.taken_ms = piece.start_ms + _duration_ms(piece)
        return HeardPiece(piece.start_ms, piece.left, piece.right, self.dropped_ms)

    def follow(self, sides: Sides) -> None:
        """Hear others from now on."""
        if not self._is_stopped:
            self._engine.set_tap_sides(self._tap, *sides)

    def end(self, cause: Code) -> None:
        """The call has ended: what was heard of it is still there to be taken."""
        if not self._is_stopped:
            self.cause = cause
            self._stop()

    def close(self) -> None:
        """The subscriber has gone; may be called at any time."""
        self._stop()
        self._waiting.clear()
        self._is_over = True
        self._news.set()

    @property
    def is_stopped(self) -> bool:
        """Whether nothing more will be heard."""
        return self._is_stopped

    def _stop(self) -> None:
        if not self._is_stopped:
            self._is_stopped = True
            self._engine.stop_tap(self._tap)

    def _on_event(self, event: TapAudio | TapEnded) -> None:
        if self._is_over:
            return
        if isinstance(event, TapAudio):
            self._waiting.append(event)  # the oldest one makes room, and is missed by `next`
        else:
            if not self._is_stopped:
                self._is_stopped = True
                self.cause = Code.MEDIA_UNAVAILABLE
            self._is_over = True
            self._ended_ms = event.duration_ms
        self._news.set()

    def _pass_over(self, until_ms: int) -> None:
        """Count what comes before `until_ms` as dropped, whoever dropped it."""
        self.dropped_ms += max(0, until_ms - self.taken_ms)
        self.taken_ms = max(self.taken_ms, until_ms)


class CallListeners:
    """All subscriptions to one call."""

    def __init__(self, router: MediaRouter, caller: PortId) -> None:
        """Until it talks to somebody a caller is heard alone."""
        self._router = router
        self._sides: Sides = ((caller,), ())
        self._listeners: list[Listening] = []

    def add(self, info: CallInfo, language: str) -> Listening:
        """Let one more listen; PlatformError OVERLOADED."""
        self._listeners = [each for each in self._listeners if not each.is_stopped]
        if len(self._listeners) >= _MOST_LISTENERS:
            raise PlatformError(Code.OVERLOADED, f"{_MOST_LISTENERS} listen to this call already")
        listening = Listening(self._router, info, language, self._sides)
        self._listeners.append(listening)
        return listening

    def follow(self, sides: Sides) -> None:
        """Let all hear these from now on."""
        if sides != self._sides:
            self._sides = sides
            for listening in self._listeners:
                listening.follow(sides)

    def follow_alone(self, port: PortId) -> None:
        """Let all hear a caller to whom nobody talks."""
        self.follow(((port,), ()))

    def end(self, cause: Code) -> None:
        """The call has ended."""
        for listening in self._listeners:
            listening.end(cause)
        self._listeners.clear()


def _duration_ms(piece: TapAudio) -> int:
    return len(piece.left) // 16  # 8 samples a millisecond, of two octets
