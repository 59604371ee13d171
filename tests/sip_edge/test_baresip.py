"""baresip on TCP, registered at one node, called from another."""

from __future__ import annotations

from pathlib import Path

import pytest

from cti import audio
from domain.failures import Code
from tests.peers.baresip import Baresip
from tests.sip_edge.platform import PASSWORD, USER, PlatformNode

pytestmark = [pytest.mark.stores, pytest.mark.peer]

OFFER = (
    b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    b"m=audio 40998 RTP/AVP 8 0\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\n"
)


@pytest.mark.parametrize("caller_hangs_up", [True, False])
async def test_a_real_phone_is_reached_through_its_node(
    main: PlatformNode, standby: PlatformNode, tmp_path: Path, caller_hangs_up: bool
) -> None:
    voice = tmp_path / "voice.wav"
    audio.write_wav(voice, audio.tone(440, 1000))
    phone = Baresip(tmp_path / "baresip", user=USER, voice=voice)
    server = f"127.0.0.1:{main.addresses['tcp'][1]}"
    await phone.start(server, password=PASSWORD, auto_answer=True, transport="tcp")
    try:
        await phone.registered()
        (binding,) = await standby.phones()
        (way,) = binding.ways
        assert len(way.route) == 1
        session, told = standby.ring(way, OFFER)
        while (event := await told.next())[0] != "answered":
            assert event[0] == "progress"
        assert b"m=audio" in event[1]
        if caller_hangs_up:
            session.end(Code.FLOW_ENDED)
        else:
            phone.command("hangup")
            assert (await told.end()).by_peer
        await phone.event("CALL_CLOSED")
        await standby.forgotten()
    finally:
        await phone.stop()
