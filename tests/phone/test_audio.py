from __future__ import annotations

import random
import struct
import wave
from array import array
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cti import audio


def test_a_tone_is_found_at_its_frequency_and_level() -> None:
    sound = audio.tone(440, 1000, level_dbfs=-9)
    assert audio.tone_dbfs(sound, 440) == pytest.approx(-12, abs=0.2)
    assert audio.level_dbfs(sound) == pytest.approx(-12, abs=0.2)
    assert audio.tone_dbfs(sound, 1000) < -60
    assert audio.tone_share(sound, 440) == pytest.approx(1, abs=0.01)


def test_spans_and_onset_tell_when_a_tone_sounds(tmp_path: Path) -> None:
    path = audio.write_wav(
        tmp_path / "a.wav", audio.silence(703), audio.tone(1000, 500), audio.silence(300)
    )
    (sound,) = audio.read_wav(path)
    (span,) = audio.tone_spans(sound, 1000)
    assert span.start_ms == pytest.approx(703, abs=20)
    assert span.end_ms == pytest.approx(1203, abs=20)
    assert audio.tone_onset_ms(sound, 1000) == pytest.approx(703, abs=1)
    assert audio.tone_onset_ms(sound, 440) is None
    assert audio.quiet_at_end_ms(sound) == pytest.approx(300, abs=20)


def test_pauses_between_words_do_not_part_speech() -> None:
    parts = [audio.tone(300, 200), audio.silence(200), audio.tone(500, 200), audio.silence(800)]
    samples = array("h")
    for part in [*parts, audio.tone(300, 200)]:
        samples.extend(part.samples)
    spans = audio.sound_spans(audio.Sound(samples))
    assert [(span.start_ms, span.end_ms) for span in spans] == [(0, 600), (1400, 1600)]


def test_channels_of_a_stereo_file_come_apart(tmp_path: Path) -> None:
    path = tmp_path / "stereo.wav"
    left, right = audio.tone(440, 400), audio.tone(1000, 400)
    with wave.open(str(path), "wb") as file:
        file.setparams((2, 2, 8000, 0, "NONE", ""))
        file.writeframes(
            b"".join(
                struct.pack("<hh", a, b) for a, b in zip(left.samples, right.samples, strict=True)
            )
        )
    channels = audio.read_wav(path)
    assert [channel.samples for channel in channels] == [left.samples, right.samples]


def test_a_growing_file_is_read_to_its_present_end(tmp_path: Path) -> None:
    path = audio.write_tone(tmp_path / "growing.wav", 440, 100)
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, 40, 0)  # the header still says: nothing yet
    path.write_bytes(bytes(data) + b"\x01")
    (sound,) = audio.read_wav(path)
    assert sound.duration_ms == 100


def speech(seed: int, count: int) -> audio.Sound:
    words = random.Random(seed)
    samples = array("h")
    for _ in range(count):
        samples.extend(audio.tone(words.randrange(200, 900), words.randrange(60, 300)).samples)
        samples.extend(audio.silence(words.randrange(20, 200)).samples)
    return audio.Sound(samples)


def test_a_prompt_is_found_in_what_was_heard() -> None:
    noise = random.Random(5)
    prompt, other = speech(1, 12), speech(2, 12)
    heard = array("h", audio.silence(1230).samples)
    heard.extend(sample + noise.randrange(-300, 300) for sample in prompt.samples)
    match = audio.find(audio.Sound(heard), prompt)
    assert match.likeness > 0.9
    assert match.offset_ms == pytest.approx(1230, abs=20)
    assert audio.find(audio.Sound(heard), other).likeness < 0.7
    assert audio.find(audio.silence(10), prompt).likeness == 0


def test_a_prompt_is_found_though_a_jitter_buffer_had_to_wait_in_its_midst() -> None:
    prompt = speech(1, 40)
    half = len(prompt.samples) // 2
    heard = array("h", audio.silence(500).samples)
    heard.extend(prompt.samples[:half])
    heard.extend(audio.silence(60).samples)
    heard.extend(prompt.samples[half:])
    assert audio.find(audio.Sound(heard), prompt).likeness > 0.9
    for seed in range(2, 6):
        assert audio.find(audio.Sound(heard), speech(seed, 40)).likeness < 0.7
    assert audio.find(audio.Sound(heard), speech(1, 20)).likeness > 0.99


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not a WAV file"),
        (b"RIFF\0\0\0\0WAVE", "no data chunk"),
        (b"RIFF\0\0\0\0WAVEdata\x02\0\0\0ab", "data before format"),
        (
            b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0" + struct.pack("<HHIIHH", 7, 1, 8000, 8000, 1, 8),
            "format 7",
        ),
    ],
)
def test_files_that_are_not_wav_are_refused_with_a_reason(
    tmp_path: Path, data: bytes, words: str
) -> None:
    path = tmp_path / "bad.wav"
    path.write_bytes(data)
    with pytest.raises(audio.AudioError, match=words):
        audio.read_wav(path)


@settings(max_examples=200)
@given(st.binary(max_size=80))
def test_reading_never_fails_otherwise(data: bytes) -> None:
    path = Path("/dev/shm/cti95598-test-audio.wav")
    path.write_bytes(b"RIFF\0\0\0\0WAVE" + data)
    try:
        audio.read_wav(path)
    except audio.AudioError:
        pass
    finally:
        path.unlink()
