"""Speech made from text, kept on disk under the hash of all that decides how it sounds."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog
from prometheus_client import Counter

from domain.failures import Code, PlatformError
from ivr.recordings import unfinished_beside
from ivr.synthesis import Synthesizer
from ivr.wording import Piece

_log = structlog.get_logger(__name__)
_synthesised = Counter("ivr_synthesis", "Texts made into speech", ["result"])

_FAILURE_REMEMBERED_S = 30.0
_KEPT_AT_LEAST_S = 600.0  # longer than a clip can still be playing
_CONCURRENT = 2


@dataclass(slots=True)
class _Kept:
    path: Path
    size: int
    used_s: float


class SpeechCache:
    """Finds or makes speech. Held pieces stay; others go when there is no room."""

    def __init__(
        self,
        directory: Path,
        synthesizer: Synthesizer,
        *,
        max_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = directory
        self._synthesizer = synthesizer
        self._max_bytes = max_bytes
        self._clock = clock
        self._held: dict[Piece, Path] = {}
        self._loose: OrderedDict[Piece, _Kept] = OrderedDict()
        self._loose_bytes = 0
        self._making: dict[Piece, asyncio.Task[Path]] = {}
        self._failed_until_s: dict[Piece, float] = {}
        self._slots = asyncio.Semaphore(_CONCURRENT)

    def ready(self, piece: Piece) -> Path | None:
        """Return the file of a piece that was made before; never waits."""
        held = self._held.get(piece)
        if held is not None:
            return held
        kept = self._loose.get(piece)
        if kept is None:
            return None
        kept.used_s = self._clock()
        self._loose.move_to_end(piece)
        return kept.path

    async def make(self, piece: Piece) -> Path:
        """Return the file of a piece that is not ready; PlatformError PROMPT_FAILED."""
        path = await self._made_once(piece)
        self._keep(piece, path)
        return path

    def missing(self, pieces: Iterable[Piece]) -> int:
        """Count the pieces that have yet to be made."""
        return sum(not self._path(piece).exists() for piece in pieces)

    async def hold(self, pieces: Sequence[Piece]) -> dict[Piece, PlatformError]:
        """Make these pieces ready and keep them, in place of those held before.

        Return what failed.
        """
        outcomes = await asyncio.gather(*map(self._made_once, pieces), return_exceptions=True)
        held: dict[Piece, Path] = {}
        failures: dict[Piece, PlatformError] = {}
        for piece, outcome in zip(pieces, outcomes, strict=True):
            if isinstance(outcome, Path):
                held[piece] = outcome
                if (kept := self._loose.pop(piece, None)) is not None:
                    self._loose_bytes -= kept.size
            elif isinstance(outcome, PlatformError):
                failures[piece] = outcome
            else:
                raise outcome
        self._held = held
        await asyncio.to_thread(self._remove_oldest)
        return failures

    async def aclose(self) -> None:
        """Stop what is being made."""
        tasks = list(self._making.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _made_once(self, piece: Piece) -> Path:
        """Make a piece once, however many calls want it; a caller who leaves stops nothing."""
        task = self._making.get(piece)
        if task is None:
            path = self._path(piece)
            if path.exists():
                os.utime(path)
                return path
            if self._failed_until_s.get(piece, 0.0) > self._clock():
                raise PlatformError(Code.PROMPT_FAILED, "failed a moment ago")
            task = asyncio.create_task(self._make(piece, path))
            self._making[piece] = task
            task.add_done_callback(lambda done: self._finished(piece, done))
        return await asyncio.shield(task)

    async def _make(self, piece: Piece, target: Path) -> Path:
        async with self._slots:
            try:
                unfinished = unfinished_beside(target)
                try:
                    await self._synthesizer.synthesize(piece.text, piece.language, unfinished)
                    unfinished.replace(target)
                finally:
                    unfinished.unlink(missing_ok=True)
            except OSError as error:
                raise PlatformError(Code.PROMPT_FAILED, str(error)) from None
        return target

    def _finished(self, piece: Piece, task: asyncio.Task[Path]) -> None:
        del self._making[piece]
        error = None if task.cancelled() else task.exception()
        if error is None:
            _synthesised.labels("made").inc()
            return
        _synthesised.labels("failed").inc()
        if len(self._failed_until_s) > 1000:
            self._failed_until_s.clear()
        self._failed_until_s[piece] = self._clock() + _FAILURE_REMEMBERED_S
        _log.info("speech was not made", language=piece.language, error=str(error))

    def _path(self, piece: Piece) -> Path:
        fingerprint = self._synthesizer.fingerprint(piece.language)
        digest = hashlib.sha256(f"{fingerprint}\n{piece.text}".encode()).hexdigest()[:32]
        return self._directory / piece.language / f"{digest}.wav"

    def _keep(self, piece: Piece, path: Path) -> None:
        if piece in self._held or piece in self._loose:
            return
        now_s = self._clock()
        size = path.stat().st_size
        self._loose[piece] = _Kept(path, size, now_s)
        self._loose_bytes += size
        while self._loose_bytes > self._max_bytes:
            oldest, kept = next(iter(self._loose.items()))
            if now_s - kept.used_s < _KEPT_AT_LEAST_S:
                return
            del self._loose[oldest]
            self._loose_bytes -= kept.size
            kept.path.unlink(missing_ok=True)

    def _remove_oldest(self) -> None:
        """Remove files of earlier runs, the longest unused first, until the cache has room."""
        in_use = {*self._held.values(), *(kept.path for kept in list(self._loose.values()))}
        files = [(path.stat(), path) for path in self._directory.glob("*/*.wav")]
        total = sum(status.st_size for status, _ in files)
        for status, path in sorted(files, key=lambda file: file[0].st_mtime):
            if total <= self._max_bytes:
                return
            if path not in in_use:
                path.unlink(missing_ok=True)
                total -= status.st_size
