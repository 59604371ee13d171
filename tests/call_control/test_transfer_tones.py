"""Who hears whom before, during and after a transfer, and what the recordings hold."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cti.audio import read_wav, tone_spans, write_tone
from cti.call import Call, DialTarget
from cti.media import PortId
from cti.media_engine import RtpEngine
from cti.rtp_port import MediaRouter
from tests.call_control.conftest import answered
from tests.call_control.exchange import Exchange, Transferor
from tests.call_control.party import Party
from tests.call_control.platform import until
from tests.call_control.tone_media import ToneMedia

CALLER_HZ, AGENT_HZ, EXPERT_HZ, MUSIC_HZ = 440, 1000, 1400, 800
TALK_MS = 700


@pytest.mark.parametrize("attended", [False, True])
async def test_the_caller_hears_agent_music_and_expert_in_turn(
    tmp_path: Path, engine: RtpEngine, far_ends: MediaRouter, attended: bool
) -> None:
    def tone(hz: int) -> str:
        return str(write_tone(tmp_path / f"{hz}.wav", hz, TALK_MS))

    async def body(call: Call) -> None:
        leg = await call.dial(DialTarget("1001", call.info.caller), timeout_ms=5000)
        await call.bridge(leg, record_party="1001")

    async def speak(media: ToneMedia, hz: int) -> None:
        media.played.clear()
        far_ends.engine.play(media.port.port_id, [tone(hz)])
        await asyncio.wait_for(media.played.wait(), 5)

    exchange = Exchange(tmp_path, engine)
    await exchange.listen()
    exchange.handler = answered(body)
    exchange.hold_music = [Path(tone(MUSIC_HZ))]
    carrier = await Party().listen()
    agent, expert = await exchange.phone("1001"), await exchange.phone("1002")
    names = ("caller", "agent", "expert", "agent-asking")
    medias = {name: ToneMedia(far_ends, tmp_path / f"{name}-heard.wav") for name in names}
    carrier.sdp = medias["caller"].sdp
    agent.next_sdp, expert.next_sdp = medias["agent"].sdp, medias["expert"].sdp

    caller = carrier.call("95598", exchange.hop)
    phone = await agent.next_call()
    phone.answer()
    await medias["agent"].connect(phone)
    await medias["caller"].connect(caller)
    await until(lambda: "bridged" in exchange.sink.names)
    far_ends.engine.play(medias["caller"].port.port_id, [tone(CALLER_HZ)], loop=True)
    await speak(medias["agent"], AGENT_HZ)
    asks = Transferor(agent, phone)
    bridges = 3 if attended else 2
    if attended:
        agent.next_sdp = medias["agent-asking"].sdp
        asking = agent.dial("1002")
        asked = await expert.next_call()
        asked.answer()
        await medias["expert"].connect(asked)
        await medias["agent-asking"].connect(asking)
        asks.refer("sip:1002@cti95598", attended=asking)
    else:
        asks.refer("sip:1002@cti95598")
        asked = await expert.next_call()
        await speak(medias["agent"], AGENT_HZ)  # nobody hears that any more
        asked.answer()
        await medias["expert"].connect(asked)
    await asks.told(200)
    await until(lambda: exchange.sink.names.count("bridged") == bridges)
    await speak(medias["expert"], EXPERT_HZ)
    asked.hang_up()
    await caller.until_ended()
    await until(lambda: exchange.control.calls == 0)
    for name in names if attended else names[:3]:
        await medias[name].close()
    if not attended:
        medias["agent-asking"].port.close()

    (by_agent,), (by_expert,) = (medias["caller"].spans(hz) for hz in (AGENT_HZ, EXPERT_HZ))
    assert abs(by_agent[1] - by_agent[0] - TALK_MS) <= 60
    assert abs(by_expert[1] - by_expert[0] - TALK_MS) <= 60
    music = medias["caller"].spans(MUSIC_HZ)
    assert bool(music) != attended
    assert all(by_agent[1] <= start and end <= by_expert[0] for start, end in music)
    assert medias["expert"].spans(CALLER_HZ)
    assert not medias["expert"].spans(MUSIC_HZ)
    assert not medias["agent"].spans(EXPERT_HZ)
    (left, right) = read_wav(Path(exchange.sink.one("recording_finished").path))
    assert tone_spans(left, CALLER_HZ)
    (agent_said,), (expert_said,) = (tone_spans(right, hz) for hz in (AGENT_HZ, EXPERT_HZ))
    assert agent_said.end_ms <= expert_said.start_ms
    # What was heard and what was recorded keep the same time, whoever spoke.
    between_ms = expert_said.start_ms - agent_said.start_ms
    assert abs(between_ms - (by_expert[0] - by_agent[0])) <= 40
    assert not tone_spans(right, MUSIC_HZ)
    assert engine.figures()["ports"] == 0
    await until(lambda: exchange.user_agent.session_count == 0)
    for party in (exchange, carrier, agent, expert):
        await party.endpoint.aclose()


async def test_early_media_of_an_outside_number_is_heard_before_the_answer(
    tmp_path: Path, engine: RtpEngine, far_ends: MediaRouter
) -> None:
    exchange = Exchange(tmp_path, engine)
    await exchange.listen()
    carrier, desk = await Party().listen(), await exchange.phone("1001")
    exchange.trunks.carriers = [carrier]
    carrier.rings_by_itself = False
    outside = ToneMedia(far_ends, tmp_path / "outside-heard.wav")
    inside = ToneMedia(far_ends, tmp_path / "inside-heard.wav")
    carrier.sdp, desk.next_sdp = outside.sdp, inside.sdp

    call = desk.dial("13900001111")
    rung = await carrier.next_call()
    assert rung.session is not None
    outside.port.answer(rung.session.offer)
    outside.port.connect()
    rung.ring(with_media=True)
    call.answered.set_result(await call.until_media())  # as if it had been the answer
    await inside.connect(call)
    clip = str(write_tone(tmp_path / "ringback.wav", EXPERT_HZ, TALK_MS))
    far_ends.engine.play(PortId(outside.port.port_id), [clip])
    await asyncio.wait_for(outside.played.wait(), 5)
    rung.session.reject(status=480)
    assert (await call.until_ended()).status == 480
    await inside.close()
    outside.port.close()
    (heard,) = inside.spans(EXPERT_HZ)
    assert abs(heard[1] - heard[0] - TALK_MS) <= 60
    await until(lambda: exchange.control.calls == 0)
    assert "call_answered" not in exchange.sink.names
    for party in (exchange, carrier, desk):
        await party.endpoint.aclose()
