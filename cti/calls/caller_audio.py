"""What a caller hears and presses: prompts, music, and keys that stop prompts or are collected."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from cti.call import Clip, Collected
from cti.calls.digits import Collector, KeyBuffer
from cti.media import MediaEngine, PlayEnded, PlayId, PortId, Tone
from domain.failures import Code, PlatformError
from domain.ids import CallId

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Playing:
    """A prompt that somebody waits for; the result is False when a key stopped it."""

    play: PlayId
    barge_in: bool
    done: asyncio.Future[bool]


class CallerAudio:
    """Prompts and keys of one port. The methods mean what those of `cti.call.Call` say."""

    def __init__(self, engine: MediaEngine, port: PortId, call_id: CallId) -> None:
        self._engine = engine
        self._port = port
        self._call_id = call_id
        self._loop = asyncio.get_running_loop()
        self._keys = KeyBuffer()
        self._key_waiter: asyncio.Future[None] | None = None
        self._playing: _Playing | None = None
        self._music_plays = False
        self._over: PlatformError | None = None

    async def play(self, clips: Sequence[Clip], *, barge_in: bool) -> bool:
        """Play clips; True when played to the end."""
        if barge_in and self._keys:
            self.stop_music()
            return False
        if not clips:
            return True
        self.give_way()
        play = self._engine.play(self._port, [str(clip) for clip in clips])
        playing = _Playing(play, barge_in, self._loop.create_future())
        self._playing = playing
        try:
            return await playing.done
        except asyncio.CancelledError:
            if self._playing is playing:
                self._engine.stop_play(self._port)
            raise
        finally:
            if self._playing is playing:
                self._playing = None

    async def collect(
        self,
        clips: Sequence[Clip],
        *,
        max_digits: int,
        terminators: str,
        first_digit_timeout_ms: int,
        inter_digit_timeout_ms: int,
        barge_in: bool,
    ) -> Collected:
        """Play clips and collect keys."""
        if clips:
            await self.play(clips, barge_in=barge_in)
        else:
            self.stop_music()
        collector = Collector(
            self._loop.time(),
            max_digits=max_digits,
            terminators=terminators,
            first_digit_timeout_ms=first_digit_timeout_ms,
            inter_digit_timeout_ms=inter_digit_timeout_ms,
        )
        while True:
            while (key := self._keys.take()) is not None:
                result = collector.key(key, self._loop.time())
                if result is not None:
                    return result
            if not await self._wait_for_key(collector.deadline):
                return collector.expired()

    async def next_digit(self) -> str:
        """Wait for one key."""
        while (key := self._keys.take()) is None:
            await self._wait_for_key(None)
        return key

    def flush_digits(self) -> None:
        """Forget keys that nobody collected."""
        self._keys.clear()

    def start_music(self, clips: Sequence[Clip]) -> None:
        """Play clips in a loop in the background."""
        self.give_way()
        self._music_plays = bool(clips)
        if clips:
            self._engine.play(self._port, [str(clip) for clip in clips], loop=True)

    def start_ringback(self) -> None:
        """Play the network's ringback tone in the background."""
        self.give_way()
        self._music_plays = True
        self._engine.play_tone(self._port, Tone.RINGBACK)

    def stop_music(self) -> None:
        """Stop what `start_music` or `start_ringback` began."""
        if self._music_plays:
            self._music_plays = False
            self._engine.stop_play(self._port)

    def give_way(self) -> None:
        """Forget what plays: the engine is about to put something else in its place."""
        self._music_plays = False
        self._settle_prompt(completed=False)

    # What media and signalling tell

    def on_key(self, key: str) -> None:
        """Take a key: it stops the prompt that allows it, and waits in the buffer."""
        self._keys.push(key)
        if self._playing is not None and self._playing.barge_in:
            self._settle_prompt(completed=False)
            self._engine.stop_play(self._port)
        if self._key_waiter is not None:
            _wake(self._key_waiter)

    def on_play_ended(self, event: PlayEnded) -> None:
        """Take the end of a prompt, or of music that could not be played."""
        playing = self._playing
        if playing is None or playing.play != event.play:
            if event.error:
                _log.warning("music_failed", call_id=self._call_id, reason=event.error)
        elif event.error:
            self._playing = None
            if not playing.done.done():
                playing.done.set_exception(PlatformError(Code.PROMPT_FAILED, event.error))
        else:
            self._settle_prompt(completed=event.completed)

    def fail(self, error: PlatformError) -> None:
        """Wake whoever waits, now and later: the call is over."""
        self._over = error
        playing = self._playing.done if self._playing is not None else None
        for waiter in (playing, self._key_waiter):
            if waiter is not None and not waiter.done():
                waiter.set_exception(error)
                waiter.exception()  # not an error when nobody waits any more

    # Inside

    async def _wait_for_key(self, deadline: float | None) -> bool:
        """Wait until a key is in the buffer; False when the deadline came first."""
        if self._over is not None:
            raise self._over
        waiter: asyncio.Future[None] = self._loop.create_future()
        if self._key_waiter is not None and not self._key_waiter.done():
            raise PlatformError(Code.STATE_FORBIDS, "somebody else waits for keys already")
        self._key_waiter = waiter
        timer = None
        if deadline is not None:
            timer = self._loop.call_at(deadline, _wake, waiter)
        try:
            await waiter
        finally:
            if timer is not None:
                timer.cancel()
            if self._key_waiter is waiter:
                self._key_waiter = None
        return bool(self._keys)

    def _settle_prompt(self, *, completed: bool) -> None:
        """Tell whoever waits for the prompt how it went."""
        playing, self._playing = self._playing, None
        if playing is not None and not playing.done.done():
            playing.done.set_result(completed)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
