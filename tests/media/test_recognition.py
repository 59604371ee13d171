"""Known sounds are recognised at the far side of a call, whatever codecs it goes through."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cti.media import (
    Codec,
    PortId,
    RecognitionFailed,
    SoundRecognised,
)
from cti.media_engine import RtpEngine
from ivr.synthesis import EspeakSynthesizer
from tests.media.peer import Events, bridge, connect

SPOKEN = {
    "您好,欢迎致电供电服务热线,请稍候。": "zh",
    "您输入的客户编号不正确,请重新输入。": "zh",
    "The customer number you have entered is not correct.": "en",
    "Please hold while we transfer you to an agent.": "en",
}
LOOPBACK = "127.0.0.1"


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    directory = tmp_path_factory.mktemp("sounds")
    paths = [directory / f"{index}.wav" for index in range(len(SPOKEN))]

    async def speak() -> None:
        synthesizer = EspeakSynthesizer()
        for (text, language), path in zip(SPOKEN.items(), paths, strict=True):
            await synthesizer.synthesize(text, language, path)

    asyncio.run(speak())
    return [str(path) for path in paths]


def pair(one: RtpEngine, other: RtpEngine, codec: Codec) -> tuple[PortId, PortId]:
    """Two ports that hear each other, one of each engine."""
    port, number = one.open_port(LOOPBACK)
    other_port, other_number = other.open_port(LOOPBACK)
    connect(one, port, other_number, codec=codec)
    connect(other, other_port, number, codec=codec)
    return port, other_port


@pytest.mark.parametrize("codec", Codec)
async def test_a_prompt_is_recognised_behind_a_bridge(
    inside_engine: RtpEngine,
    far_ends: RtpEngine,
    far_events: Events,
    sounds: list[str],
    codec: Codec,
) -> None:
    speakers, listeners = [], []
    for other in (Codec.PCMA, Codec.PCMU):
        speaker, heard = pair(far_ends, inside_engine, codec)
        listener, told = pair(far_ends, inside_engine, other)
        bridge(inside_engine, heard, told)
        speakers.append(speaker)
        listeners.append(listener)
    wanted = [far_ends.recognise(port, sounds) for port in listeners]
    far_ends.play(speakers[0], [sounds[1]])
    far_ends.play(speakers[1], [sounds[3], sounds[2]])
    for listener, recognition, sound in zip(listeners, wanted, (1, 3), strict=True):
        found = await far_events.wait(SoundRecognised, port=listener)
        assert (found.recognition, found.sound) == (recognition, sound)
        assert 0 <= found.began_ms <= found.at_ms - 600


async def test_a_sound_is_told_once_and_not_after_another_command(
    engine: RtpEngine, far_ends: RtpEngine, events: Events, sounds: list[str]
) -> None:
    speaker, listener = pair(far_ends, engine, Codec.PCMA)
    engine.recognise(listener, [sounds[0]])
    latest = engine.recognise(listener, [sounds[3], sounds[2]])
    far_ends.play(speaker, [sounds[0], sounds[2], sounds[3]])
    found = await events.wait(SoundRecognised, port=listener)
    assert (found.recognition, found.sound) == (latest, 1)
    again = engine.recognise(listener, [sounds[3]])
    assert (await events.wait(SoundRecognised, recognition=again)).sound == 0
    assert len(events.of(SoundRecognised)) == 2


async def test_what_cannot_be_listened_for_is_told(
    engine: RtpEngine, far_ends: RtpEngine, events: Events, tmp_path: Path
) -> None:
    _, listener = pair(far_ends, engine, Codec.PCMA)
    absent, silent = tmp_path / "absent.wav", tmp_path / "silent.wav"
    silent.write_bytes(
        b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0"
        b"data\xff\xff\xff\xff" + bytes(32_000)
    )
    for path in (absent, silent):
        recognition = engine.recognise(listener, [str(path)])
        failed = await events.wait(RecognitionFailed, recognition=recognition)
        assert str(path) in failed.error
