"""Who has answered, judged by synthesised voices in two languages."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from cti.media import Answer, AnswerJudged, Detect
from cti.media_engine import RtpEngine
from tests.media.peer import Events
from tests.media.test_keys_and_tones import connect_pair

SHORT = {"cmn-latn-pinyin": "喂,你好?", "en-us": "Hello?"}
LONG = {
    "cmn-latn-pinyin": "您好,这里是供电营业厅。现在无人接听电话,请在提示音之后留言。",
    "en-us": "Hello, nobody can take your call at the moment. Please leave a message.",
}


def _speak(voice: str, text: str, path: Path) -> str:
    spoken = path.with_suffix(".22k.wav")
    subprocess.run(["espeak-ng", "-v", voice, "-w", str(spoken), text], check=True)
    subprocess.run(
        ["sox", str(spoken), "-r", "8000", "-b", "16", "-c", "1", str(path), "norm", "-9"],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    return str(path)


@pytest.mark.parametrize(("texts", "expected"), [(SHORT, Answer.PERSON), (LONG, Answer.MACHINE)])
async def test_persons_are_told_from_machines(
    inside_engine: RtpEngine,
    events: Events,
    tmp_path: Path,
    texts: dict[str, str],
    expected: Answer,
) -> None:
    engine = inside_engine
    clips = {voice: _speak(voice, text, tmp_path / f"{voice}.wav") for voice, text in texts.items()}
    ports = []
    for clip in clips.values():
        far, near = connect_pair(engine, detect=frozenset({Detect.ANSWER}))
        engine.play(far, [clip])
        ports.append(near)
    judged = await asyncio.gather(*(events.wait(AnswerJudged, port=port) for port in ports))
    assert [each.answer for each in judged] == [expected] * len(ports)
