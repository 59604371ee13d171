"""Whether a caller hears what it should: one small interface over how that is found out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from loadtest.generator.media import Leg, Media

_LOOK_EVERY_S = 0.02


class Prompts:
    """Tells when a leg hears sound, looking at all that listen together."""

    def __init__(self, media: Media) -> None:
        self._media = media
        self._waiting: dict[Leg, Callable[[], None]] = {}
        self._look: asyncio.Task[None] | None = None

    def expect(self, leg: Leg, heard: Callable[[], None]) -> None:
        """Call `heard` once the leg has received sound; `forget` ends the wait."""
        self._waiting[leg] = heard
        if self._look is None:
            self._look = asyncio.create_task(self._look_at_all())

    def forget(self, leg: Leg) -> None:
        """Wait for this leg no more."""
        self._waiting.pop(leg, None)

    async def _look_at_all(self) -> None:
        while self._waiting:
            received = await self._media.engine.survey()
            for leg in [each for each in self._waiting if received.get(each.port)]:
                heard = self._waiting.pop(leg, None)
                if heard is not None:
                    heard()
            await asyncio.sleep(_LOOK_EVERY_S)
        self._look = None
