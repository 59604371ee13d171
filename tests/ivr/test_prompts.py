"""Prompts with the real espeak-ng and sox, and their cache."""

from __future__ import annotations

import array
import asyncio
import itertools
import math
import wave
from pathlib import Path

import pytest

from cti.call import Clip, JsonValue
from domain.failures import Code, PlatformError
from ivr.library import FlowLibrary
from ivr.model import Prompt
from ivr.music import write_waiting_music
from ivr.prompts import PromptStore
from ivr.recordings import is_telephone_wav
from ivr.speech_cache import SpeechCache
from ivr.synthesis import EspeakSynthesizer
from ivr.wording import Piece
from tests.ivr.desk import SilentSynthesizer, write_wav

RATE_HZ = 8000


def nothing(name: str) -> JsonValue:
    return None


def samples(path: Path) -> array.array[int]:
    assert is_telephone_wav(path)
    with wave.open(str(path)) as file:
        return array.array("h", file.readframes(file.getnframes()))


def stored_bytes(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.rglob("*.wav"))


def loudness(values: array.array[int]) -> float:
    return math.sqrt(sum(value * value for value in values) / len(values))


async def spoken(store: PromptStore, text: str, language: str = "zh") -> list[Clip]:
    prompt = Prompt.model_validate({language: text})
    rendered = await store.render([prompt], language, nothing)
    assert not rendered.failed
    return rendered.clips


@pytest.fixture
def store(tmp_path: Path) -> PromptStore:
    return PromptStore(
        recorded=tmp_path / "recorded", cache=tmp_path / "cache", synthesizer=EspeakSynthesizer()
    )


@pytest.mark.parametrize(
    ("text", "language", "seconds"),
    [
        ("您好，欢迎致电95598供电服务热线。", "zh", (2.5, 6.0)),
        ("For your electricity bill, press 1.", "en", (1.5, 4.0)),
        ("八", "zh", (0.1, 0.8)),
        ("元", "zh", (0.1, 0.8)),
    ],
)
async def test_espeak_speaks(
    store: PromptStore, text: str, language: str, seconds: tuple[float, float]
) -> None:
    (clip,) = await spoken(store, text, language)
    speech = samples(clip)
    assert seconds[0] < len(speech) / RATE_HZ < seconds[1]
    assert 1000 < loudness(speech) < 12_000
    peak = max(map(abs, speech))
    assert 18_000 < peak < 23_000  # -4 dBFS
    # trimmed: sound begins within 60 ms and is there until the last 120 ms
    assert max(map(abs, speech[: RATE_HZ * 60 // 1000])) > peak / 100
    assert max(map(abs, speech[-RATE_HZ * 120 // 1000 :])) > peak / 100


async def test_hanzi_are_read_and_not_spelled_in_english(store: PromptStore) -> None:
    """The voice that spells takes some four times as long for a sentence."""
    (clip,) = await spoken(store, "电费查询请按一")
    assert len(samples(clip)) / RATE_HZ < 3.0


async def test_speech_is_made_once(store: PromptStore, tmp_path: Path) -> None:
    first, second = await asyncio.gather(spoken(store, "请稍候"), spoken(store, "请稍候"))
    assert first == second
    made_at = first[0].stat().st_mtime_ns
    assert await spoken(store, "请稍候") == first
    assert first[0].stat().st_mtime_ns == made_at
    assert list((tmp_path / "cache").rglob("*.part")) == []


@pytest.mark.parametrize("text", ["-v --help", "; rm -rf /", "<speak>hi</speak>", "[[x]]", "a\0b"])
async def test_text_is_never_a_command(store: PromptStore, text: str) -> None:
    assert await spoken(store, text, "en")


async def test_a_synthesizer_that_is_missing_fails_by_code(tmp_path: Path) -> None:
    absent = EspeakSynthesizer(espeak="/nonexistent/espeak-ng")
    with pytest.raises(PlatformError) as caught:
        await absent.synthesize("您好", "zh", tmp_path / "a.wav")
    assert caught.value.code is Code.PROMPT_FAILED


@pytest.mark.parametrize(
    ("script", "reason"),
    [("exit 3", "status 3"), ("exec cat /dev/zero", "took over"), ("cat > /dev/null", "sound|sox")],
)
async def test_a_synthesizer_that_fails_hangs_or_is_silent(
    tmp_path: Path, script: str, reason: str
) -> None:
    program = tmp_path / "espeak-ng"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    broken = EspeakSynthesizer(espeak=str(program), timeout_s=0.3)
    with pytest.raises(PlatformError, match=reason) as caught:
        await broken.synthesize("您好", "zh", tmp_path / "a.wav")
    assert caught.value.code is Code.PROMPT_FAILED


FLOW = """
flow: test
languages: [zh, en]
start: hello
nodes:
  hello:
    kind: play
    text: {key: hello, zh: 您好, en: Hello}
    next: amount
  amount: {kind: say, value: amount, as: money, next: bye}
  bye:
    kind: hangup
    text: {key: only_recorded}
inputs: [amount]
"""


async def _warmed(tmp_path: Path) -> tuple[PromptStore, SilentSynthesizer, FlowLibrary]:
    flows = tmp_path / "flows"
    flows.mkdir(exist_ok=True)
    (flows / "test.yaml").write_text(FLOW, encoding="utf-8")
    library = FlowLibrary(flows)
    assert library.load() == []
    synthesizer = SilentSynthesizer()
    store = PromptStore(
        recorded=flows / "prompts", cache=tmp_path / "cache", synthesizer=synthesizer
    )
    return store, synthesizer, library


async def test_people_are_told_while_prompts_are_made(tmp_path: Path) -> None:
    store, synthesizer, library = await _warmed(tmp_path)
    told: list[str] = []
    await store.warm(library.flows(), tell=told.append)
    count = len(synthesizer.texts)
    assert count > 100
    assert [f": {count}" in line for line in told] == [True, True]
    await store.warm(library.flows(), tell=told.append)
    assert len(told) == 2  # nothing was left to make
    (tmp_path / "flows/test.yaml").write_text(FLOW.replace("Hello", "Good day"), encoding="utf-8")
    library.load()
    synthesizer.fails = True
    await store.warm(library.flows(), tell=told.append)
    assert [line.rpartition(": ")[2].partition(",")[0] for line in told[2:]] == ["1", "0"]


async def test_all_that_a_flow_says_is_ready_before_calls(tmp_path: Path) -> None:
    store, synthesizer, library = await _warmed(tmp_path)
    problems = await store.warm(library.flows())
    # the recording of which there is no text is missed in both languages
    assert [(p.rule, p.node, p.line) for p in problems] == [("prompt_failed", "bye", 13)] * 2
    synthesizer.fails = True
    flow = library.get("test")
    assert flow is not None
    for language in ("zh", "en"):
        for amount in ("0", "128.56", "9999.99", "20.05"):
            rendered = await store.render(
                [Prompt.model_validate({"zh": "{{ amount | money }}"})],
                language,
                {"amount": amount}.__getitem__,
            )
            assert rendered.clips
            assert not rendered.failed


async def test_recordings_precede_speech(tmp_path: Path) -> None:
    store, synthesizer, library = await _warmed(tmp_path)
    prompts = tmp_path / "flows" / "prompts"
    for name in ("zh/hello", "zh/only_recorded", "zh/pieces/元", "music/waiting", "music/jazz"):
        (prompts / name).parent.mkdir(parents=True, exist_ok=True)
        write_wav(prompts / f"{name}.wav")
    (prompts / "en").mkdir()
    write_wav(prompts / "en" / "hello.wav", rate_hz=44_100, channels=2, milliseconds=500)
    (prompts / "en" / "only_recorded.wav").write_bytes(b"no sound at all")
    problems = await store.warm(library.flows())
    assert [problem.node for problem in problems] == ["bye"]  # en/only_recorded is no sound

    hello = Prompt.model_validate({"key": "hello", "zh": "您好", "en": "Hello"})
    assert (await store.render([hello], "zh", nothing)).clips == [prompts / "zh" / "hello.wav"]
    (converted,) = (await store.render([hello], "en", nothing)).clips
    assert converted.is_relative_to(tmp_path / "cache")
    assert 0.45 < len(samples(converted)) / RATE_HZ < 0.55
    amount = Prompt.model_validate("{{ amount | money }}")
    clips = (await store.render([amount], "zh", {"amount": "3"}.__getitem__)).clips
    assert [synthesizer.texts.get(clip.stem, clip.stem) for clip in clips] == ["三", "元"]
    assert clips[1] == prompts / "zh" / "pieces" / "元.wav"
    assert store.music("waiting") == (prompts / "music" / "waiting.wav",)
    assert store.music("jazz") == (prompts / "music" / "jazz.wav",)
    assert store.music("none") == ()

    (prompts / "zh" / "hello.wav").unlink()  # taken away while calls run
    await store.warm(library.flows())
    (clip,) = (await store.render([hello], "zh", nothing)).clips
    assert synthesizer.texts[clip.stem] == "您好"


async def test_a_language_that_nobody_speaks_is_chinese(tmp_path: Path) -> None:
    store, synthesizer, _ = await _warmed(tmp_path)
    (clip,) = (await store.render([Prompt.model_validate("您好")], "fr", nothing)).clips
    assert synthesizer.texts[clip.stem] == "您好"


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


async def test_the_cache_is_bounded(tmp_path: Path) -> None:
    clock = Clock()
    cache = SpeechCache(tmp_path, SilentSynthesizer(), max_bytes=5000, clock=clock)
    held = Piece("zh", "您好")
    await cache.hold([held])
    pieces = [Piece("zh", f"第{number}处") for number in range(20)]
    for piece in pieces:
        clock.now_s += 1000
        path = await cache.make(piece)
        assert path.exists()
        assert cache.ready(piece) == path
    assert cache.ready(held) is not None
    assert cache.ready(pieces[0]) is None
    assert stored_bytes(tmp_path) <= 5000 + 2 * 1004
    # what may still be playing is not taken away
    for number in range(10):
        await cache.make(Piece("zh", f"急{number}"))
    assert all(cache.ready(Piece("zh", f"急{number}")) for number in range(10))


async def test_files_of_earlier_runs_go_when_there_are_too_many(tmp_path: Path) -> None:
    first = SpeechCache(tmp_path, SilentSynthesizer(), max_bytes=10**6)
    for number in range(20):
        await first.make(Piece("zh", f"第{number}处"))
    second = SpeechCache(tmp_path, SilentSynthesizer(), max_bytes=5000)
    await second.hold([Piece("zh", "您好")])
    assert second.ready(Piece("zh", "您好")) is not None
    assert stored_bytes(tmp_path) <= 5000


async def test_a_failure_is_not_tried_again_at_once(tmp_path: Path) -> None:
    clock = Clock()
    synthesizer = SilentSynthesizer()
    cache = SpeechCache(tmp_path, synthesizer, max_bytes=5000, clock=clock)
    synthesizer.fails = True
    piece = Piece("zh", "您好")
    with pytest.raises(PlatformError):
        await cache.make(piece)
    synthesizer.fails = False
    with pytest.raises(PlatformError, match="a moment ago"):
        await cache.make(piece)
    clock.now_s += 60
    assert (await cache.make(piece)).exists()


async def test_a_cache_that_cannot_be_written_fails_by_code(tmp_path: Path) -> None:
    (tmp_path / "speech").write_text("a file where the directory should be")
    cache = SpeechCache(tmp_path / "speech", SilentSynthesizer(), max_bytes=5000)
    with pytest.raises(PlatformError) as caught:
        await cache.make(Piece("zh", "您好"))
    assert caught.value.code is Code.PROMPT_FAILED


async def test_the_music_is_ours_and_loops_without_a_seam(
    store: PromptStore, tmp_path: Path
) -> None:
    await store.warm([])
    (path,) = store.music("waiting")
    tune = samples(path)
    assert 15 < len(tune) / RATE_HZ < 40
    assert max(map(abs, tune)) < 8000  # below speech
    assert loudness(tune) > 500
    steps = [abs(b - a) for a, b in itertools.pairwise(tune)]
    assert abs(tune[0] - tune[-1]) <= max(steps)
    # no second is silent
    for start in range(0, len(tune) - RATE_HZ, RATE_HZ):
        assert loudness(tune[start : start + RATE_HZ]) > 100
    again = tmp_path / "again.wav"
    await asyncio.to_thread(write_waiting_music, again)
    assert again.read_bytes() == path.read_bytes()
    await store.aclose()
