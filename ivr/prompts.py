"""Prompts as sound files: recordings first, else speech from text.

Static texts and the words of spoken values are made ready by `warm`, so that calls find them; what
only a call knows (an address, say) is synthesised when it is first needed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import structlog

from cti.call import Clip
from domain.failures import PlatformError
from domain.words import Words
from ivr.expressions import Hole, Lookup
from ivr.flow import Flow
from ivr.model import Prompt, leaves, prompts_of
from ivr.problems import Problem, Severity
from ivr.recordings import Recordings
from ivr.speech_cache import SpeechCache
from ivr.spoken import LANGUAGES, Format, speak, vocabulary
from ivr.synthesis import Synthesizer
from ivr.wording import Piece, cut

_log = structlog.get_logger(__name__)

_CALL_WAITS_S = 4.0  # for speech that is not ready
_LONGEST_TEXT = 500


@dataclass(slots=True)
class Rendered:
    """What to play, and whether something of it could not be made."""

    clips: list[Clip] = field(default_factory=list)
    failed: bool = False


class _Use(NamedTuple):
    """Where a flow uses a piece; no node for the words of values."""

    piece: Piece
    node: str
    line: int


class PromptStore:
    """Finds or makes the sound files of prompts. `recorded` may be missing, `cache` is made."""

    def __init__(
        self,
        *,
        recorded: Path,
        cache: Path,
        synthesizer: Synthesizer,
        max_cache_bytes: int = 256 * 1024 * 1024,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._recordings = Recordings(recorded, cache)
        self._speech = SpeechCache(
            cache / "speech", synthesizer, max_bytes=max_cache_bytes, clock=clock
        )

    async def render(
        self, items: Sequence[Prompt | Hole], language: str, lookup: Lookup
    ) -> Rendered:
        """Return the clips of prompts and values; waits only for speech that is not ready."""
        if language not in LANGUAGES:
            language = "zh"
        result = Rendered()
        for item in items:
            if isinstance(item, Hole):
                await self._render_part(item, language, lookup, result)
                continue
            recording = self._recordings.prompt(language, item.key) if item.key else None
            text = item.text(language)
            if recording is not None:
                result.clips.append(recording)
            elif text is not None:
                for part in text.parts:
                    await self._render_part(part, language, lookup, result)
            else:
                result.failed = True
        return result

    def music(self, name: str) -> tuple[Clip, ...]:
        """Return the music of that name, nothing when there is none."""
        path = self._recordings.music(name)
        return () if path is None else (path,)

    async def warm(
        self, flows: Iterable[Flow], *, tell: Callable[[str], None] = _log.info
    ) -> list[Problem]:
        """Make ready all that the flows are known to play; await it before taking calls.

        Call it again, with all flows, when flows or recordings have changed. What fails is
        reported, and skipped in calls. Where speech has to be made, which takes a while, `tell` is
        given a line for people before and after.
        """
        await self._recordings.scan()
        problems: list[Problem] = []
        uses = [(flow, use) for flow in flows for use in self._uses(flow, problems)]
        pieces = list(dict.fromkeys(use.piece for _, use in uses))
        missing = self._speech.missing(pieces)
        if missing:
            tell(
                f"正在准备 {missing} 段提示音,首次约一分钟"
                f" · preparing prompts: {missing}, about a minute at the first start"
            )
        failures = await self._speech.hold(pieces)
        if missing:
            made = missing - len(failures)
            tell(f"已备好 {made} 段提示音 · prompts made: {made}")
        for flow, use in uses:
            if use.node and use.piece in failures:
                problems.append(_unmade(flow, use.line, use.node, failures[use.piece].detail))
        return list(dict.fromkeys(problems))  # a line may hold several pieces

    async def aclose(self) -> None:
        """Stop what is being made."""
        await self._speech.aclose()

    async def _render_part(
        self, part: str | Hole, language: str, lookup: Lookup, result: Rendered
    ) -> None:
        for piece in _pieces(part, language, lookup):
            path = self._recordings.piece(*piece) or self._speech.ready(piece)
            if path is None:
                try:
                    async with asyncio.timeout(_CALL_WAITS_S):
                        path = await self._speech.make(piece)
                except (PlatformError, TimeoutError):
                    result.failed = True
                    continue
            result.clips.append(path)

    def _uses(self, flow: Flow, problems: list[Problem]) -> Iterator[_Use]:
        forms: set[Format] = set()
        for name, step in flow.steps.items():
            forms.update(leaf for _, leaf in leaves(step.node) if isinstance(leaf, Format))
            for place, prompt in prompts_of(step.node):
                line = flow.line(name, place)
                for language in flow.languages:
                    if prompt.key and self._recordings.prompt(language, prompt.key):
                        continue
                    if (text := prompt.text(language)) is None:
                        missing = f"{language}/{prompt.key}.wav"
                        problems.append(_unmade(flow, line, name, missing))
                        continue
                    for part in text.parts:
                        if isinstance(part, Hole):
                            forms.add(part.form)
                        else:
                            yield from (_Use(piece, name, line) for piece in cut(part, language))
        today = datetime.now(UTC).date()
        for language in flow.languages:
            for form in sorted(forms):
                for word in sorted(vocabulary(form, language, today)):
                    yield _Use(Piece(language, word), "", 0)


def _pieces(part: str | Hole, language: str, lookup: Lookup) -> Iterable[Piece]:
    if isinstance(part, str):
        return cut(part, language)
    value = part.expression.evaluate(lookup)
    if part.form is not Format.TEXT:
        spoken = speak(value, part.form, language)
        if spoken is not None:
            return [Piece(language, word) for word in spoken]
    text = speak(value, Format.TEXT, language)
    return cut(text[0][:_LONGEST_TEXT], language) if text else ()


def _unmade(flow: Flow, line: int, node: str, detail: str) -> Problem:
    return Problem(
        Severity.WARNING,
        "prompt_failed",
        flow.file,
        line,
        node,
        Words(f"语音没有做成({detail}),通话中将跳过", f"speech not made ({detail}), calls skip it"),
        Words(
            "检查 espeak-ng 和 sox 是否安装,或放入录音文件",
            "check that espeak-ng and sox are installed, or put a recording in place",
        ),
    )
