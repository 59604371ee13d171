"""Sound files that people recorded, and the waiting music."""

from __future__ import annotations

import asyncio
import hashlib
import os
import wave
from pathlib import Path

import structlog

from domain.failures import PlatformError
from ivr.music import VERSION, write_waiting_music
from ivr.synthesis import convert_sound

_log = structlog.get_logger(__name__)

WAITING = "waiting"
"""The music that is always there."""


class Recordings:
    """`<directory>/<language>/<key>.wav` and `<directory>/music/<name>.wav`.

    Files of another rate or coding are converted once into the cache.
    """

    def __init__(self, directory: Path, cache: Path) -> None:
        self._directory = directory
        self._cache = cache
        self._prompts: dict[tuple[str, str], Path] = {}
        self._music: dict[str, Path] = {}

    def prompt(self, language: str, key: str) -> Path | None:
        """Return the recording of a prompt."""
        return self._prompts.get((language, key))

    def piece(self, language: str, text: str) -> Path | None:
        """Return the recording of a word of spoken numbers: `<language>/pieces/<word>.wav`."""
        return self._prompts.get((language, f"pieces/{text}"))

    def music(self, name: str) -> Path | None:
        """Return a piece of music."""
        return self._music.get(name)

    async def scan(self) -> None:
        """Look again what there is."""
        prompts: dict[tuple[str, str], Path] = {}
        music: dict[str, Path] = {}
        for path in sorted(self._directory.rglob("*.wav")):
            folder, *rest = path.relative_to(self._directory).with_suffix("").parts
            try:
                playable = await self._playable(path)
            except (PlatformError, OSError) as error:
                _log.warning("recording cannot be used", file=str(path), error=str(error))
                continue
            if folder == "music":
                music["/".join(rest)] = playable
            else:
                prompts[folder, "/".join(rest)] = playable
        if WAITING not in music:
            try:
                music[WAITING] = await self._own_music()
            except OSError as error:
                _log.warning("music cannot be written", error=str(error))
        self._prompts, self._music = prompts, music

    async def _playable(self, path: Path) -> Path:
        if is_telephone_wav(path):
            return path
        digest = hashlib.sha256(await asyncio.to_thread(path.read_bytes)).hexdigest()[:32]
        target = self._cache / "recorded" / f"{digest}.wav"
        if not target.exists():
            unfinished = unfinished_beside(target)
            try:
                await convert_sound(path, unfinished)
                unfinished.replace(target)
            finally:
                unfinished.unlink(missing_ok=True)
        return target

    async def _own_music(self) -> Path:
        target = self._cache / "music" / f"{WAITING}-{VERSION}.wav"
        if not target.exists():
            unfinished = unfinished_beside(target)
            await asyncio.to_thread(write_waiting_music, unfinished)
            unfinished.replace(target)
        return target


def is_telephone_wav(path: Path) -> bool:
    """Tell whether the media engine plays the file as it is: PCM16 mono at 8 kHz."""
    try:
        with wave.open(str(path)) as file:
            return (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 8000)
    except (wave.Error, EOFError):
        return False


def unfinished_beside(target: Path) -> Path:
    """Return a name to write to before the rename, of this process only."""
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.with_suffix(f".{os.getpid()}.part")
