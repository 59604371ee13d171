"""Keys from one far end to the other through a whole conversation, on real SIP and real RTP."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cti.admission import Admission
from cti.call import Call, DialTarget
from cti.media import DigitReceived, MediaEvent
from cti.media_engine import RtpEngine
from cti.rtp_port import MediaRouter
from tests.call_control.conftest import answered
from tests.call_control.party import Party
from tests.call_control.platform import Platform, until
from tests.call_control.tone_media import ToneMedia


@pytest.mark.parametrize("by_info", [False, True])
async def test_a_callers_keys_reach_the_phone_and_the_phones_the_caller(
    admission: Admission,
    tmp_path: Path,
    engine: RtpEngine,
    far_ends: MediaRouter,
    *,
    by_info: bool,
) -> None:
    async def body(call: Call) -> None:
        leg = await call.dial(DialTarget("1001", call.info.caller), timeout_ms=5000)
        await call.bridge(leg)

    platform = await Platform(admission, tmp_path, engine).listen()
    platform.handler = answered(body)
    carrier, desk = await Party().listen(), await Party().listen()
    platform.register(desk)
    caller_media = ToneMedia(far_ends, tmp_path / "caller-heard.wav")
    phone_media = ToneMedia(far_ends, tmp_path / "phone-heard.wav")
    carrier.sdp, desk.sdp = caller_media.sdp, phone_media.sdp
    heard: dict[str, str] = {"caller": "", "phone": ""}

    def note(name: str, event: MediaEvent) -> None:
        if isinstance(event, DigitReceived):
            heard[name] += event.digit

    caller = carrier.call("95598", platform.hop)
    await caller_media.connect(caller)
    phone = await desk.next_call()
    phone.answer()
    await phone_media.connect(phone)
    await until(lambda: "bridged" in platform.sink.names)
    caller_media.port.listen(lambda event: note("caller", event))
    phone_media.port.listen(lambda event: note("phone", event))
    rtp = far_ends.engine
    assert caller.session is not None
    if by_info:
        for digit in "159":
            body_ = f"Signal={digit}\r\nDuration=120\r\n".encode()
            caller.session.send("INFO", body=body_, content_type="application/dtmf-relay")
            await asyncio.sleep(0)
    else:
        rtp.send_digits(caller_media.port.port_id, "159", tone_ms=100, gap_ms=100)
        rtp.send_digits(phone_media.port.port_id, "*#", tone_ms=100, gap_ms=100)
        await until(lambda: heard["caller"] == "*#")
    await until(lambda: heard["phone"] == "159")
    phone.hang_up()
    await caller.until_ended()
