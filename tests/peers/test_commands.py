"""`cti95598 call` and `cti95598 agent` as people start them."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from cti import audio
from tests.peers.bench import Bench, dual_channel, hears
from tests.peers.process import PeerProcess
from tests.peers.waiting import wait_until

pytestmark = [pytest.mark.peer, pytest.mark.asyncio(loop_scope="session")]

CTI95598 = [str(Path(sys.executable).parent / "cti95598")]


async def test_call_and_agent_talk(bench: Bench) -> None:
    number, begun = bench.caller_number(), time.time()
    directory = bench.directory("commands")
    agent, caller = PeerProcess(directory), PeerProcess(directory)
    credentials = str(bench.platform.directory.demo_credentials)
    try:
        await agent.start([
            *CTI95598, "agent", "--agent", "1005", "--grpc", bench.platform.grpc,
            "--sip", bench.server, "--credentials", credentials, "--tone", "1000",
            "--record", "agent.wav", "--auto-answer",
        ])  # fmt: skip
        await agent.printed("已签入")
        agent.type("接听")
        await agent.printed("refused: .*no_call|refused: .*state_forbids")
        agent.type("示闲")
        await agent.printed("状态 state: 示闲 ready")
        await caller.start([
            *CTI95598, "call", bench.platform.access_url("96000"), "--from", number,
            "--press", "1", "--tone", "440", "--record", "caller.wav", "--transport", "tcp",
        ])  # fmt: skip
        await caller.printed("接通 · answered")
        await caller.printed("pressed 1", timeout_s=20)
        await agent.printed("来电弹屏 screen pop")
        await agent.printed("状态 state: 通话 talking")
        await wait_until(bench.recording_begun(begun), 15, "three seconds of recording")
        agent.type("挂断")
        await caller.printed("far end hung up", timeout_s=20)
        assert await caller.exited(10) == 0
        agent.type("统计")
        await agent.printed("坐席 agent 1005")
        agent.type("签出")
        assert await agent.exited(10) == 0
    finally:
        await agent.stop()
        await caller.stop()
    (caller_heard,) = audio.read_wav(directory / "caller.wav")
    (agent_heard,) = audio.read_wav(directory / "agent.wav")
    hears(caller_heard, 1000, not_hertz=440, at_least_ms=2500)
    hears(agent_heard, 440, not_hertz=1000, at_least_ms=2500)
    left, right = dual_channel(await bench.record_of(number))
    hears(left, 440, not_hertz=1000)
    hears(right, 1000, not_hertz=440)


@pytest.mark.parametrize(
    ("number", "words"),
    [("95599", r"refused: 404"), ("", r"not reachable")],
)
async def test_a_call_that_fails_says_why(bench: Bench, number: str, words: str) -> None:
    caller = PeerProcess(bench.directory("failing"))
    uri = bench.platform.access_url(number) if number else "sip:95598@127.0.0.1:9"
    try:
        await caller.start([*CTI95598, "call", uri])
        await caller.printed(words, timeout_s=15)
        assert await caller.exited(10) == 1
    finally:
        await caller.stop()


async def test_a_wrong_agent_password_is_refused(bench: Bench) -> None:
    directory = bench.directory("wrong-password")
    directory.mkdir(parents=True)
    (directory / "password").write_text("guess\n")
    agent = PeerProcess(directory)
    try:
        await agent.start([
            *CTI95598, "agent", "--agent", "1004", "--grpc", bench.platform.grpc,
            "--password-file", "password", "--no-softphone",
        ])  # fmt: skip
        await agent.printed("refused: .*password_wrong|refused: .*agent_unknown")
        assert await agent.exited(10) == 1
    finally:
        await agent.stop()
