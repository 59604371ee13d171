"""A peer program as a child process: its lines are waited for, it is always ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import Sequence
from pathlib import Path

from node.stores.child import wrapped

_STOP_WITHIN_S = 5.0


class PeerProcess:
    """Runs a program in a directory of its own and keeps what it prints."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.lines: list[str] = []
        self._news = asyncio.Condition()
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._owns_group = False

    async def start(
        self, command: Sequence[str], *, home: bool = False, has_children: bool = False
    ) -> None:
        """Run it; one that `has_children` ends them itself, or they are ended with it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        parent_death = signal.SIGTERM if has_children else signal.SIGKILL
        self._owns_group = has_children
        self._process = await asyncio.create_subprocess_exec(
            *wrapped(command, parent_death=parent_death),
            cwd=self.directory,
            env={
                "PATH": "/usr/bin:/bin",
                "LANG": "C.UTF-8",
                "HOME": str(self.directory if home else Path.home()),
            },
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=2**20,
            start_new_session=has_children,
        )
        self._reader = asyncio.create_task(self._read())

    def type(self, line: str) -> None:
        """Enter a line."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())

    async def printed(self, pattern: str, *, timeout_s: float = 10.0, since: int = 0) -> str:
        """Wait for a line with the pattern, printed from line `since` on; return it."""
        wanted = re.compile(pattern)

        def found() -> str | None:
            return next((line for line in self.lines[since:] if wanted.search(line)), None)

        try:
            async with asyncio.timeout(timeout_s), self._news:
                await self._news.wait_for(lambda: found() is not None or self._ended())
        except TimeoutError:
            pass
        line = found()
        assert line is not None, f"no {pattern!r} in:\n" + "\n".join(self.lines[since:])
        return line

    async def exited(self, timeout_s: float) -> int:
        """Wait for the program's own end."""
        assert self._process is not None
        async with asyncio.timeout(timeout_s):
            return await self._process.wait()

    async def stop(self) -> None:
        if self._process is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                if self._owns_group:
                    os.killpg(self._process.pid, number)
                else:
                    self._process.send_signal(number)
            with contextlib.suppress(TimeoutError):
                await self.exited(_STOP_WITHIN_S)
                break
        if self._reader is not None:
            await self._reader

    def _ended(self) -> bool:
        return self._reader is not None and self._reader.done()

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            async for data in self._process.stdout:
                # baresip draws its status line again and again with \r.
                for part in data.decode(errors="replace").split("\r"):
                    if text := part.strip():
                        self.lines.append(text)
                async with self._news:
                    self._news.notify_all()
        finally:
            async with self._news:
                self._news.notify_all()
