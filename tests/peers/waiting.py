"""Waiting without fixed pauses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

_INTERVAL_S = 0.1


async def wait_until(
    condition: Callable[[], bool | Awaitable[bool]], timeout_s: float, what: str
) -> None:
    """Look again and again until the condition holds; AssertionError after the time."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + timeout_s
    while True:
        held = condition()
        if held if isinstance(held, bool) else await held:
            return
        assert loop.time() < deadline_s, f"not within {timeout_s} s: {what}"
        tick: asyncio.Future[None] = loop.create_future()
        loop.call_later(_INTERVAL_S, tick.set_result, None)
        await tick
