"""Tasks end when they are told to, also those that lose a cancellation."""

from __future__ import annotations

import asyncio
import contextlib

from domain.tasks import end_tasks


async def test_a_task_that_loses_cancellations_ends_all_the_same() -> None:
    lost = 0

    async def deaf() -> None:
        nonlocal lost
        while lost < 2:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                lost += 1
        await asyncio.Event().wait()

    task = asyncio.create_task(deaf())
    await asyncio.wait_for(_begun(), 1)
    await asyncio.wait_for(end_tasks([task]), 5)
    assert task.cancelled()
    assert lost == 2


async def test_what_has_ended_or_fails_is_no_matter() -> None:
    async def fail() -> None:
        raise ValueError

    ended, failing = asyncio.create_task(_begun()), asyncio.create_task(fail())
    await ended
    await end_tasks([ended, failing])
    with contextlib.suppress(ValueError):
        failing.result()
    await end_tasks([])


async def _begun() -> None:
    """Let tasks that were made before have their first step."""
