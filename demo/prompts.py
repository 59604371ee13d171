"""What a caller should hear: the very sound files that the platform plays for a flow's prompts."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cti import audio
from cti.call import Clip, JsonValue
from ivr.loader import load_file
from ivr.model import Prompt
from ivr.prompts import PromptStore
from ivr.synthesis import EspeakSynthesizer


class ExpectedPrompts:
    """The prompts of one flow, rendered from the platform's own cache."""

    def __init__(self, flow_file: Path, recorded: Path, cache: Path) -> None:
        loaded = load_file(flow_file)
        if loaded.flow is None:
            raise ValueError("\n".join(map(str, loaded.problems)))
        self._flow = loaded.flow
        self._store = PromptStore(recorded=recorded, cache=cache, synthesizer=EspeakSynthesizer())

    async def load(self) -> None:
        """Find all files; quick, as the platform has made them."""
        await self._store.warm([self._flow])

    async def sound(self, node: str, data: dict[str, JsonValue] | None = None) -> audio.Sound:
        """Return what the text of a node sounds like in Chinese, with these variables."""
        step: Any = self._flow.steps[node].node
        prompt: Prompt = step.text
        rendered = await self._store.render([prompt], "zh", (data or {}).get)
        return _joined(rendered.clips)

    def music(self) -> audio.Sound:
        """Return the waiting music."""
        return _joined(self._store.music("waiting"))


def _joined(clips: Iterable[Clip]) -> audio.Sound:
    samples = array("h")
    for clip in clips:
        samples.extend(audio.read_wav(clip)[0].samples)
    return audio.Sound(samples)
