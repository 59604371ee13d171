"""One turn of the event loop: what is due now happens, no time passes."""

from __future__ import annotations

import asyncio


async def turn() -> None:
    loop = asyncio.get_running_loop()
    passed: asyncio.Future[None] = loop.create_future()
    loop.call_soon(passed.set_result, None)
    await passed
