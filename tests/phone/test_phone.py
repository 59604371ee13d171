"""Two phones of ours call each other: real sockets, real RTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cti import audio
from cti.phone import Phone, PhoneSettings, phone_media
from cti.rtp_port import MediaRouter
from cti.sip.transports.transport import Hop
from domain.failures import Code, PlatformError


@pytest.fixture
async def media() -> AsyncIterator[MediaRouter]:
    async with phone_media(42_000, 42_099) as router:
        yield router


@asynccontextmanager
async def opened(settings: PhoneSettings, media: MediaRouter) -> AsyncIterator[tuple[Phone, Hop]]:
    phone = Phone(settings, media)
    host, port = await phone.open()
    try:
        yield phone, Hop("tcp" if settings.transport == "tcp" else "udp", host, port)
    finally:
        await phone.aclose()


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_both_hear_the_other_and_keys_arrive(
    transport: str, media: MediaRouter, tmp_path: Path
) -> None:
    caller_tone = audio.write_tone(tmp_path / "caller.wav", 440, 1000)
    agent_tone = audio.write_tone(tmp_path / "agent.wav", 1000, 1000)
    async with (
        opened(PhoneSettings(user="13800138000", transport=transport), media) as (caller, _),
        opened(PhoneSettings(user="1001", transport=transport), media) as (callee, address),
    ):
        callee.record_to = tmp_path / "callee.wav"
        out = caller.dial(
            f"sip:1001@{address.host}:{address.port}", address, record=tmp_path / "heard.wav"
        )
        into = await callee.next_call(2)
        assert into.far_number == "13800138000"
        assert await out.wait_ringing(2)
        assert not out.is_answered
        into.answer()
        await out.wait_answered(2)
        out.play(caller_tone, loop=True)
        into.play(agent_tone, loop=True)
        await out.wait_heard(lambda heard: bool(audio.tone_spans(heard, 1000, min_ms=400)), 5)
        await into.wait_heard(lambda heard: bool(audio.tone_spans(heard, 440, min_ms=400)), 5)
        await out.press("12#")
        out.hang_up()
        end = await into.wait_ended(2)
        assert end.by_peer
        figures = await out.wait_closed(2)
        assert figures.packets_received > 20
        await into.wait_closed(2)
        assert into.keys_heard == "12#"


async def test_a_played_file_ends_and_the_pause_after_it_is_heard(
    media: MediaRouter, tmp_path: Path
) -> None:
    prompt = audio.write_tone(tmp_path / "prompt.wav", 600, 700)
    async with (
        opened(PhoneSettings(user="13800138000"), media) as (caller, _),
        opened(PhoneSettings(user="95598", auto_answer=True), media) as (callee, address),
    ):
        out = caller.dial(
            f"sip:95598@{address.host}:{address.port}", address, record=tmp_path / "heard.wav"
        )
        into = await callee.next_call(2)
        await out.wait_answered(2)
        await asyncio.wait_for(into.play(prompt), 3)
        await out.wait_pause(4, quiet_ms=600)
        (span,) = audio.tone_spans(out.heard(), 600)
        assert span.duration_ms == pytest.approx(700, abs=60)


async def test_declined_and_given_up_calls_say_so(media: MediaRouter) -> None:
    async with (
        opened(PhoneSettings(user="13800138000"), media) as (caller, _),
        opened(PhoneSettings(user="1001"), media) as (callee, address),
    ):
        uri = f"sip:1001@{address.host}:{address.port}"
        declined = caller.dial(uri, address)
        (await callee.next_call(2)).hang_up(Code.DECLINED)
        with pytest.raises(PlatformError) as refusal:
            await declined.wait_answered(2)
        assert refusal.value.code is Code.DECLINED

        given_up = caller.dial(uri, address)
        ringing = await callee.next_call(2)
        await given_up.wait_ringing(2)
        given_up.hang_up()
        await ringing.wait_ended(2)
        assert not ringing.is_answered
        await given_up.wait_closed(2)


async def test_one_phone_records_each_call_to_a_file_of_its_own(
    media: MediaRouter, tmp_path: Path
) -> None:
    async with (
        opened(PhoneSettings(user="13800138000"), media) as (caller, _),
        opened(PhoneSettings(user="1001", auto_answer=True), media) as (callee, address),
    ):
        callee.record_to = tmp_path / "heard.wav"
        for _ in range(2):
            out = caller.dial(f"sip:1001@{address.host}:{address.port}", address)
            into = await callee.next_call(2)
            await out.wait_answered(2)
            out.hang_up()
            await into.wait_closed(2)
    for name in ("heard.wav", "heard-2.wav"):
        assert len(audio.read_wav(tmp_path / name)) == 1
