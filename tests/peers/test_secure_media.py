"""SRTP by SDES with a peer that refuses plain media, and one that takes the keys beside plain."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from cti95598.agents.v1 import agents_pb2 as pb
from tests.peers.baresip import Baresip
from tests.peers.bench import Bench, hears
from tests.peers.test_talk import AGENT_HZ, CALLER_HZ, check_recording, conversation_recorded

pytestmark = [pytest.mark.peer, pytest.mark.asyncio(loop_scope="session")]


async def test_both_sides_encrypt(bench: Bench, tones: dict[int, Path]) -> None:
    number, begun = bench.caller_number(), time.time()
    caller = Baresip(bench.directory("caller"), user=number, voice=tones[CALLER_HZ])
    agent = Baresip(bench.directory("agent"), user="1005", voice=tones[AGENT_HZ])
    try:
        await agent.start(
            bench.server_over("tls"),
            password=bench.phone_password("1005"),
            auto_answer=True,
            transport="tls",
            authority=bench.authority,
            encryption="srtp",
        )
        await agent.registered()
        await caller.start(encryption="srtp-mand")
        async with bench.toolbar("1005") as toolbar:
            caller.command("dial", bench.platform.access_url("96000"))
            await caller.event("CALL_ESTABLISHED")
            await caller.secured()
            caller.command("sndcode", "1")
            await agent.event("CALL_ESTABLISHED")
            await agent.secured()
            await conversation_recorded(bench, toolbar, begun)
            agent.command("hangup")
            await toolbar.reached(pb.AGENT_STATE_AFTER_CALL_WORK)
            await caller.event("CALL_CLOSED")
    finally:
        await caller.stop()
        await agent.stop()
    hears(caller.heard(), AGENT_HZ, not_hertz=CALLER_HZ, at_least_ms=2000)
    hears(agent.heard(), CALLER_HZ, not_hertz=AGENT_HZ, at_least_ms=2000)
    await check_recording(bench, number, "1005")
