"""Speech from text by espeak-ng, and any sound file as 8 kHz mono, each by a program of its own.

Text goes in by standard input and never through a shell. sox resamples with a low-pass filter,
trims the silence at both ends and brings speech to one level.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from domain.failures import Code, PlatformError

_VOICES = {"zh": "cmn-latn-pinyin", "en": "en-gb"}  # voice cmn spells many hanzi out in English
_WORDS_A_MINUTE = {"zh": 170, "en": 155}
_SMALLEST_SPEECH_BYTES = 44 + 2 * 8 * 40  # WAV header and 40 ms

_TELEPHONE_FORMAT = ("-t", "wav", "-r", "8000", "-c", "1", "-b", "16", "-e", "signed-integer")
_TRIM_START = ("silence", "1", "0.005", "0.3%")
_TRIM_BOTH = (*_TRIM_START, "reverse", *_TRIM_START, "reverse")
_LEVEL = ("norm", "-4", "pad", "0.01", "0.03")


class Synthesizer(Protocol):
    """Makes speech files."""

    def fingerprint(self, language: str) -> str:
        """Change whenever the same text would sound different."""

    async def synthesize(self, text: str, language: str, target: Path) -> None:
        """Write the text as a WAV of PCM16 mono 8 kHz; PlatformError PROMPT_FAILED."""


class EspeakSynthesizer:
    """Offline speech by the espeak-ng and sox programs of the system."""

    def __init__(
        self, *, espeak: str = "espeak-ng", sox: str = "sox", timeout_s: float = 10.0
    ) -> None:
        self._espeak = espeak
        self._sox = sox
        self._timeout_s = timeout_s

    def fingerprint(self, language: str) -> str:
        """Name voice, speed and treatment."""
        return f"espeak-ng {_VOICES[language]} {_WORDS_A_MINUTE[language]} {_TRIM_BOTH}{_LEVEL}"

    async def synthesize(self, text: str, language: str, target: Path) -> None:
        """Write the text as speech."""
        raw = target.with_suffix(".raw")
        try:
            command = [
                *(self._espeak, "-b", "1", "--stdin", "-w", str(raw)),
                *("-v", _VOICES[language], "-s", str(_WORDS_A_MINUTE[language])),
            ]
            await _run(command, text, self._timeout_s)
            effects = ["rate", "8000", *_TRIM_BOTH, *_LEVEL]
            await _sox(self._sox, raw, target, effects, self._timeout_s)
        finally:
            raw.unlink(missing_ok=True)
        if not _has_sound(target):
            raise PlatformError(Code.PROMPT_FAILED, "the synthesizer gave no sound")


async def convert_sound(source: Path, target: Path, *, timeout_s: float = 60.0) -> None:
    """Write any WAV as PCM16 mono 8 kHz; PlatformError PROMPT_FAILED."""
    await _sox("sox", source, target, ["rate", "8000"], timeout_s)


def _has_sound(speech: Path) -> bool:
    return speech.stat().st_size >= _SMALLEST_SPEECH_BYTES


async def _sox(
    program: str, source: Path, target: Path, effects: Sequence[str], timeout_s: float
) -> None:
    files = ["-t", "wav", str(source), *_TELEPHONE_FORMAT, str(target)]
    await _run([program, "-V1", *files, *effects], "", timeout_s)


async def _run(command: Sequence[str], text: str, timeout_s: float) -> None:
    """Run a program on files only: a pipe that a hung program fills could not be waited for."""
    with tempfile.TemporaryFile() as words, tempfile.TemporaryFile() as complaints:
        words.write(text.encode(errors="replace"))
        words.seek(0)
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=words, stdout=asyncio.subprocess.DEVNULL, stderr=complaints
            )
        except OSError as error:
            raise PlatformError(Code.PROMPT_FAILED, f"{command[0]}: {error.strerror}") from None
        try:
            async with asyncio.timeout(timeout_s):
                status = await process.wait()
        except TimeoutError:
            detail = f"{command[0]}: took over {timeout_s} s"
            raise PlatformError(Code.PROMPT_FAILED, detail) from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if status:
            complaints.seek(0)
            reason = complaints.read(200).decode(errors="replace").strip()
            detail = f"{command[0]}: status {status} {reason}"
            raise PlatformError(Code.PROMPT_FAILED, detail)
