"""Whether a caller hears what it should: a known sound, or any.

A known sound is recognised by the engine, which costs CPU while it listens. For any sound the
counts of the legs' packets are looked at, all together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from loadtest.generator.media import Leg, Media

_LOOK_EVERY_S = 0.02


class Prompts:
    """Tells when a leg hears what is expected of it."""

    def __init__(self, media: Media) -> None:
        self._media = media
        self._waiting: dict[Leg, Callable[[], None]] = {}
        self._look: asyncio.Task[None] | None = None

    def expect(self, leg: Leg, file: str, heard: Callable[[], None]) -> None:
        """Call `heard` once the leg hears the file, or anything where none is named.

        `forget` ends the wait. A file that cannot be listened for is never heard, and logged.
        """
        if file:
            leg.recognise(file, heard)
            return
        self._waiting[leg] = heard
        if self._look is None:
            self._look = asyncio.create_task(self._look_at_all())

    def forget(self, leg: Leg) -> None:
        """Wait for this leg no more."""
        self._waiting.pop(leg, None)
        leg.listen_no_more()

    async def _look_at_all(self) -> None:
        while self._waiting:
            received = await self._media.engine.survey()
            for leg in [each for each in self._waiting if received.get(each.port)]:
                heard = self._waiting.pop(leg, None)
                if heard is not None:
                    heard()
            await asyncio.sleep(_LOOK_EVERY_S)
        self._look = None
