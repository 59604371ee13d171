"""A real browser's media on the engine: ICE, DTLS and SRTP, voices both ways, keys."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cti.audio import read_wav, tone_spans, write_tone
from cti.media import (
    DigitReceived,
    PortClosed,
    RecordingEnded,
    SecureMediaFailed,
    SecureMediaReady,
)
from cti.media_engine import RtpEngine
from cti.media_policy import MediaAddress, MediaPolicy, PortPlan
from cti.rtp_port import MediaRouter, RtpPort
from cti.sdp import Codec, Protection, SrtpPolicy
from tests.media.peer import Events
from tests.webrtc.browser import Page

pytestmark = pytest.mark.peer

OUR_HZ, PAGE_HZ = 1000, 700
HEARD_WITHIN_MS = 10_000
MIN_HEARD_MS = 100
CODECS = (Codec.PCMA, Codec.PCMU, Codec.G722, Codec.OPUS)


class Station:
    """Our side of a browser's call: plays one tone, records what it hears."""

    def __init__(self, engine: RtpEngine, directory: Path, codec: Codec = Codec.PCMA) -> None:
        policy = MediaPolicy(codecs=(codec,), srtp=SrtpPolicy.REQUIRED)
        plan = PortPlan(MediaAddress("127.0.0.1"), policy, Protection.DTLS)
        self.port = RtpPort(MediaRouter(engine), plan, 0)
        self.heard = directory / "heard.wav"
        self._engine = engine
        self._tone = write_tone(directory / "ours.wav", OUR_HZ, 1000)

    def start(self) -> None:
        self.port.connect()
        port = self.port.port_id
        self._engine.play(port, [str(self._tone)], loop=True)
        self._recording = self._engine.start_recording(str(self.heard), [port], None)

    async def close(self, events: Events) -> None:
        self._engine.stop_recording(self._recording)
        self.port.close()
        await events.wait(RecordingEnded)

    def spans_ms(self) -> int:
        """How long the page's tone was heard."""
        spans = tone_spans(read_wav(self.heard)[0], PAGE_HZ)
        return sum(span.duration_ms for span in spans)


async def new_voice(page: Page, codec: Codec = Codec.PCMA) -> None:
    await page.run(f"voice = new Voice({PAGE_HZ}, {codec.value!r}), 0")


async def hears_us(page: Page) -> bool:
    heard = await page.run(f"voice.heard({OUR_HZ}, {HEARD_WITHIN_MS})")
    spoke = await page.run(f"voice.spoke(25, {HEARD_WITHIN_MS})")
    return abs(float(heard["hz"]) - OUR_HZ) < 30 and float(heard["db"]) > -60 and int(spoke) >= 25


@pytest.mark.parametrize("codec", CODECS)
async def test_a_browser_calls_and_voices_pass_both_ways(
    page: Page, engine: RtpEngine, events: Events, tmp_path: Path, codec: Codec
) -> None:
    station = Station(engine, tmp_path, codec)
    await new_voice(page, codec)
    answer = station.port.answer((await page.run("voice.offer()")).encode())
    station.start()
    await page.call("voice.take", answer.decode())
    assert await hears_us(page)
    await events.wait(SecureMediaReady)
    await page.call("voice.press", "15#")
    await events.wait(DigitReceived, 3)
    facts = await page.run("voice.facts()")
    await station.close(events)
    assert [digit.digit for digit in events.of(DigitReceived)] == ["1", "5", "#"]
    assert facts["codec"].lower() == f"audio/{codec.value.lower()}"
    assert (facts["dtls"], facts["lost"]) == ("connected", 0)
    assert station.spans_ms() >= MIN_HEARD_MS


async def test_a_browser_is_called(
    page: Page, engine: RtpEngine, events: Events, tmp_path: Path
) -> None:
    station = Station(engine, tmp_path)
    await new_voice(page)
    station.port.take_answer((await page.call("voice.answer", offer_of(station))).encode())
    station.start()
    assert await hears_us(page)
    await page.call("voice.press", "0")
    await events.wait(DigitReceived)
    await station.close(events)
    assert station.spans_ms() >= MIN_HEARD_MS


async def test_reports_pass_both_ways_on_the_one_port(
    page: Page, engine: RtpEngine, events: Events, tmp_path: Path
) -> None:
    station = Station(engine, tmp_path)
    await new_voice(page)
    answer = station.port.answer((await page.run("voice.offer()")).encode())
    station.start()
    await page.call("voice.take", answer.decode())
    # A browser reports every five seconds at most: two of its reports answer ours.
    await page.run("voice.spoke(600, 25000)")
    facts = await page.run("voice.reported(25000)")
    await station.close(events)
    figures = (await events.wait(PortClosed)).figures
    assert 0 <= facts["roundTripS"] < 1
    assert facts["lostThere"] == 0
    assert figures.round_trip_ms is not None
    assert figures.far_packets_lost == 0
    assert figures.packets_invalid == 0
    assert figures.mos is not None


def offer_of(station: Station) -> str:
    return station.port.offer().decode()


async def test_media_goes_on_through_a_restart_of_ice(
    page: Page, engine: RtpEngine, events: Events, tmp_path: Path
) -> None:
    station = Station(engine, tmp_path)
    await new_voice(page)
    answer = station.port.answer((await page.run("voice.offer()")).encode())
    station.start()
    await page.call("voice.take", answer.decode())
    assert await hears_us(page)
    offer = await page.run("voice.connection.restartIce(), voice.offer()")
    again = station.port.answer(offer.encode())
    station.port.connect()
    await page.call("voice.take", again.decode())
    assert ufrag(again) != ufrag(answer)
    await page.call("voice.press", "7")
    await events.wait(DigitReceived)
    assert await hears_us(page)
    await station.close(events)
    assert len(events.of(SecureMediaReady)) == 1


def ufrag(description: bytes) -> bytes:
    found = re.search(rb"a=ice-ufrag:(\S+)", description)
    assert found is not None
    return found[1]


async def test_another_certificate_than_that_of_the_sdp_is_refused(
    page: Page, engine: RtpEngine, events: Events, tmp_path: Path
) -> None:
    station = Station(engine, tmp_path)
    await new_voice(page)
    offer: str = await page.run("voice.offer()")
    forged = re.sub(r"(a=fingerprint:sha-256 )..:..", r"\g<1>00:11", offer)
    answer = station.port.answer(forged.encode())
    station.start()
    await page.call("voice.take", answer.decode())
    assert (await events.wait(SecureMediaFailed)).reason == "fingerprint"
    await station.close(events)
    assert station.spans_ms() == 0
