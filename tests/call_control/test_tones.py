"""Who hears whom, on real SIP and real RTP: each party and each prompt has its own tone."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

from cti.admission import Admission
from cti.audio import read_wav, tone_spans, write_tone
from cti.call import Call, DialTarget
from cti.media_engine import RtpEngine
from cti.rtp_port import MediaRouter
from domain.failures import Code
from tests.call_control.conftest import answered
from tests.call_control.party import Party
from tests.call_control.platform import Platform, until
from tests.call_control.tone_media import ToneMedia

PROMPT_HZ, MUSIC_HZ, RATING_HZ, CALLER_HZ, PHONE_HZ = 600, 800, 700, 440, 1000
TALK_MS = 1000


async def test_everyone_hears_what_they_should(
    admission: Admission, tmp_path: Path, engine: RtpEngine, far_ends: MediaRouter
) -> None:
    clips = {
        hz: write_tone(tmp_path / f"{hz}.wav", hz, ms)
        for hz, ms in (
            (PROMPT_HZ, 3000), (MUSIC_HZ, 500), (RATING_HZ, 400), (CALLER_HZ, 500),
            (PHONE_HZ, TALK_MS),
        )
    }  # fmt: skip
    keys: list[str] = []

    async def body(call: Call) -> None:
        collected = await call.collect([clips[PROMPT_HZ]])  # the key stops the long prompt
        keys.append(collected.digits)
        call.start_music([clips[MUSIC_HZ]])
        leg = await call.dial(DialTarget("1001", call.info.caller), timeout_ms=5000)
        await call.bridge(leg, record_party="1001")
        await call.play([clips[RATING_HZ]])

    platform = await Platform(admission, tmp_path, engine).listen()
    platform.handler = answered(body)
    carrier, desk = await Party().listen(), await Party().listen()
    platform.register(desk)
    caller_media = ToneMedia(far_ends, tmp_path / "caller-heard.wav")
    phone_media = ToneMedia(far_ends, tmp_path / "phone-heard.wav")
    carrier.sdp, desk.sdp = caller_media.sdp, phone_media.sdp

    caller = carrier.call("95598", platform.hop)
    await caller_media.connect(caller)
    rtp = far_ends.engine
    rtp.play(caller_media.port.port_id, [str(clips[CALLER_HZ])])
    await asyncio.wait_for(caller_media.played.wait(), 5)  # meanwhile the prompt is heard
    rtp.send_digits(caller_media.port.port_id, "1", tone_ms=100, gap_ms=500)
    phone = await desk.next_call()
    rtp.play(caller_media.port.port_id, [str(clips[CALLER_HZ])], loop=True)
    phone.answer()
    await phone_media.connect(phone)
    await until(lambda: "bridged" in platform.sink.names)
    rtp.play(phone_media.port.port_id, [str(clips[PHONE_HZ])])
    await asyncio.wait_for(phone_media.played.wait(), 5)
    phone.hang_up()
    end = await caller.until_ended()
    assert end.by_peer
    await caller_media.close()
    await phone_media.close()
    await until(lambda: platform.sink.names[-1] == "call_ended")

    assert keys == ["1"]
    prompt, rating = caller_media.spans(PROMPT_HZ), caller_media.spans(RATING_HZ)
    music, talk = caller_media.spans(MUSIC_HZ), caller_media.spans(PHONE_HZ)
    assert sum(end_ms - start_ms for start_ms, end_ms in prompt) < 1500
    assert len(talk) == 1
    assert abs(talk[0][1] - talk[0][0] - TALK_MS) <= 60
    for earlier, later in ((prompt, talk), (talk, rating)):
        assert earlier[-1][1] <= later[0][0]
    assert all(end_ms <= talk[0][0] for _, end_ms in music)
    assert phone_media.spans(CALLER_HZ)
    assert not any(phone_media.spans(hz) for hz in (PROMPT_HZ, MUSIC_HZ, RATING_HZ))

    finished = platform.sink.one("recording_finished")
    assert _sha256(finished.path) == finished.sha256
    left, right = read_wav(Path(finished.path))
    assert tone_spans(left, CALLER_HZ)
    assert not tone_spans(left, PHONE_HZ)
    assert not tone_spans(right, CALLER_HZ)
    (spoken,) = tone_spans(right, PHONE_HZ)
    assert abs(spoken.duration_ms - TALK_MS) <= 60
    figures = platform.sink.one("call_ended").media
    assert figures.packets_received > 0
    assert figures.packets_lost == 0
    assert platform.sink.cause("leg_ended") == Code.AGENT_HUNG_UP
    assert engine.figures()["ports"] == 0
    assert platform.user_agent.session_count == 0
    for endpoint in (platform.endpoint, carrier.endpoint, desk.endpoint):
        await endpoint.aclose()


def _sha256(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
