"""What the platform's Python does while calls are counted, by py-spy where it is installed."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from domain.failures import Code, PlatformError
from loadtest.profile.stacks import Stacks, read_stacks

_SAMPLES_PER_S = 100
_WRITES_WITHIN_S = 60.0


def find_py_spy() -> str | None:
    """Return the program, on the path or beside this Python."""
    return shutil.which("py-spy") or shutil.which("py-spy", path=Path(sys.executable).parent)


class Profiler:
    """Samples one process from `start` to `stop`."""

    def __init__(self, *, program: str | None = None) -> None:
        """PlatformError CONFIG_INVALID where py-spy is not installed, unless it is `program`."""
        program = program or find_py_spy()
        if program is None:
            raise PlatformError(
                Code.CONFIG_INVALID,
                "没有找到 py-spy,可用 pip install py-spy 安装 · "
                "py-spy was not found: pip install py-spy",
            )
        self.stacks: Stacks = {}
        """What was seen, once it has stopped."""
        self._program = program
        self._directory = tempfile.TemporaryDirectory(prefix="cti95598-profile-")
        self._file = Path(self._directory.name) / "stacks"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, pid: int) -> None:
        """Begin to sample, without stopping the process: its calls would be late for it.

        A few samples are of a stack that changed meanwhile; py-spy leaves these out.
        """
        self._process = await asyncio.create_subprocess_exec(
            self._program, "record", "--pid", str(pid), "--rate", str(_SAMPLES_PER_S),
            "--nonblocking", "--function", "--format", "raw", "--output", str(self._file),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C of the terminal is for us
        )  # fmt: skip

    async def stop(self) -> None:
        """End it and take what it has seen; PlatformError tells why there is nothing."""
        process = self._process
        if process is None:
            return
        with self._directory:
            await self._end(process)
            self.stacks = read_stacks(self._file.read_text(encoding="utf-8").splitlines())

    async def _end(self, process: asyncio.subprocess.Process) -> None:
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
