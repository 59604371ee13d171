"""What commands that stay have in common: their signals, and what they say to people."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable

import typer
from rich.console import Console

_FORCED = 130

_console = Console(highlight=False, soft_wrap=True)
_prefix: list[str] = []


def say_name(name: str) -> None:
    """Begin each line with a name from now on: several processes write to one terminal."""
    _prefix[:] = [f"{name}  "]


def tell(line: str) -> None:
    """Print a line for people."""
    _console.print("".join(_prefix) + line, markup=False)
    sys.stdout.flush()


def complain(*lines: str) -> None:
    """Print what is wrong."""
    for line in lines:
        typer.echo("".join(_prefix) + line, err=True)


class Signals:
    """SIGINT and SIGTERM stop in order, the second one at once; SIGHUP reloads, SIGUSR1 drains."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self._news = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._news.set)
        self.drains = False
        """Whether no new calls are wanted; until `drain_by` that is only noted."""
        self._drain: Callable[[], None] = _nothing
        loop.add_signal_handler(signal.SIGUSR1, self._begin_to_drain)

    def drain_by(self, drain: Callable[[], None]) -> None:
        """Have this done at the signal, and at once where it has come before."""
        self._drain = drain
        if self.drains:
            drain()

    def _begin_to_drain(self) -> None:
        self.drains = True
        self._drain()

    def _stop(self) -> None:
        if self.stop.is_set():
            sys.stderr.write("已强制结束 · ended by force\n")
            os._exit(_FORCED)  # the kernel ends the stores with us
        self.stop.set()
        self._news.set()

    async def stop_or_reload(self) -> bool:
        """Wait for a signal; True to stop, False to reload."""
        await self._news.wait()
        self._news.clear()
        return self.stop.is_set()


async def unless_stopped(work: object, signals: Signals) -> None:
    """Await the start, or give it up when a signal comes first."""
    starting = asyncio.ensure_future(work)  # type: ignore[call-overload]
    stopping = asyncio.create_task(signals.stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not starting.done():
        starting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await starting
        return
    starting.result()


def _nothing() -> None:
    """Nothing can drain yet."""
