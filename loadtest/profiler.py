"""A flame graph of the platform's Python while calls are counted, by py-spy where it is there."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import sys
from pathlib import Path

from domain.failures import Code, PlatformError

_SAMPLES_PER_S = 100
_WRITES_WITHIN_S = 60.0


def find_py_spy() -> str | None:
    """Return the program, on the path or beside this Python."""
    return shutil.which("py-spy") or shutil.which("py-spy", path=Path(sys.executable).parent)


class Profiler:
    """Samples one process from `start` to `stop`, and writes an SVG then."""

    def __init__(self, file: Path, *, program: str | None = None) -> None:
        """PlatformError CONFIG_INVALID where py-spy is not installed, unless it is `program`."""
        program = program or find_py_spy()
        if program is None:
            raise PlatformError(
                Code.CONFIG_INVALID,
                "没有找到 py-spy,可用 pip install py-spy 安装 · "
                "py-spy was not found: pip install py-spy",
            )
        self._program = program
        self._file = file
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, pid: int) -> None:
        """Begin to sample, without stopping the process: its calls would be late for it.

        A few samples are of a stack that changed meanwhile; py-spy leaves these out.
        """
        self._process = await asyncio.create_subprocess_exec(
            self._program, "record", "--pid", str(pid), "--rate", str(_SAMPLES_PER_S),
            "--nonblocking", "--function", "--format", "flamegraph", "--output", str(self._file),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C of the terminal is for us
        )  # fmt: skip

    async def stop(self) -> None:
        """End it and wait for its file; PlatformError tells why there is none."""
        process = self._process
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        try:
            async with asyncio.timeout(_WRITES_WITHIN_S):
                output, _ = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            output = b"it did not end"
        if process.returncode or not self._file.exists():
            said = output.decode(errors="replace").strip().rpartition("\n")[2]
            raise PlatformError(Code.INTERNAL, f"py-spy: {said}")
