"""Peers over TCP and TLS, straight to a node: sipp, baresip and linphone."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cti95598.agents.v1 import agents_pb2 as pb
from demo.ports import free_port
from tests.peers.baresip import Baresip
from tests.peers.bench import Bench, hears
from tests.peers.linphone import Linphone
from tests.peers.process import PeerProcess
from tests.peers.sipp import Sipp
from tests.peers.test_talk import (
    AGENT_HZ,
    CALLER_HZ,
    check_recording,
    conversation_recorded,
)

pytestmark = [pytest.mark.peer, pytest.mark.asyncio(loop_scope="session")]


async def press_keys(bench: Bench, server: str, transport: str, **options: str) -> None:
    """Twenty calls of sipp that each press a key by INFO, which makes the platform hang up."""
    sipp = Sipp(bench.directory("sipp-keys"))
    try:
        await sipp.start(
            "keys",
            server,
            service="96001",
            pause_ms=100,
            calls=20,
            per_second=20,
            transport=transport,
            caller=bench.caller_number(),
            key="1",
            **options,
        )
        await sipp.succeeded("keys", 30)
    finally:
        await sipp.stop()


@pytest.mark.parametrize("transport", ["t1", "tn"])
async def test_sipp_calls_over_tcp(bench: Bench, transport: str) -> None:
    """All calls on one connection, and each on its own."""
    await press_keys(bench, bench.server, transport)


@asynccontextmanager
async def tls_tunnel(bench: Bench) -> AsyncIterator[str]:
    """A TCP port whose connections socat carries on over TLS, to the platform it verifies."""
    port = free_port()
    tunnel = PeerProcess(bench.directory("socat"))
    verified = f"OPENSSL:127.0.0.1:{bench.tls_port},cafile={bench.authority},verify=1"
    listening = f"TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork"
    await tunnel.start(["/usr/bin/socat", "-d", "-d", listening, verified], has_children=True)
    try:
        await tunnel.printed("listening on")
        yield f"127.0.0.1:{port}"
    finally:
        await tunnel.stop()


@pytest.mark.parametrize("transport", ["t1", "tn"])
async def test_sipp_calls_over_tls(bench: Bench, transport: str) -> None:
    async with tls_tunnel(bench) as server:
        await press_keys(bench, server, transport, via="TLS")


def for_linphone(bench: Bench, transport: str) -> str:
    """Its TLS compares names only, not the addresses in a certificate."""
    return bench.server_over(transport).replace("127.0.0.1", "localhost")


@pytest.mark.parametrize("transport", ["tcp", "tls"])
async def test_baresip_calls_linphone(bench: Bench, tones: dict[int, Path], transport: str) -> None:
    number, begun = bench.caller_number(), time.time()
    server = bench.server_over(transport)
    caller = Baresip(bench.directory("baresip"), user=number, voice=tones[CALLER_HZ])
    agent = Linphone(bench.directory("linphone"), user="1004", voice=tones[AGENT_HZ])
    try:
        await agent.start(
            for_linphone(bench, transport),
            password=bench.phone_password("1004"),
            realm=bench.realm,
            auto_answer=True,
            transport=transport,
            authority=bench.authority,
        )
        await caller.start(transport=transport, authority=bench.authority)
        async with bench.toolbar("1004") as toolbar:
            caller.command("dial", f"sip:96000@{server}")  # by its account's transport
            await caller.event("CALL_ESTABLISHED")
            caller.command("sndcode", "1")
            await agent.in_call()
            await conversation_recorded(bench, toolbar, begun)
            agent.type("terminate")
            await toolbar.reached(pb.AGENT_STATE_AFTER_CALL_WORK)
            await caller.event("CALL_CLOSED")
    finally:
        await caller.stop()
        await agent.stop()
    hears(caller.heard(), AGENT_HZ, not_hertz=CALLER_HZ, at_least_ms=2000)
    await check_recording(bench, number, "1004")


async def test_linphone_calls_baresip_over_tls(bench: Bench, tones: dict[int, Path]) -> None:
    number, begun = bench.caller_number(), time.time()
    server = bench.server_over("tls")
    caller = Linphone(bench.directory("linphone"), user=number, voice=tones[CALLER_HZ])
    agent = Baresip(bench.directory("baresip"), user="1005", voice=tones[AGENT_HZ])
    try:
        await agent.start(
            server,
            password=bench.phone_password("1005"),
            auto_answer=True,
            transport="tls",
            authority=bench.authority,
        )
        await agent.registered()
        await caller.start(transport="tls", authority=bench.authority)
        async with bench.toolbar("1005") as toolbar:
            await caller.dial(f"sip:96000@{for_linphone(bench, 'tls')};transport=tls")
            caller.type("1")
            await agent.event("CALL_ESTABLISHED")
            await conversation_recorded(bench, toolbar, begun)
            agent.command("hangup")
            await toolbar.reached(pb.AGENT_STATE_AFTER_CALL_WORK)
            caller.type("terminate")
            await caller.printed("ended")
    finally:
        await caller.stop()
        await agent.stop()
    hears(caller.heard(), AGENT_HZ, not_hertz=CALLER_HZ, at_least_ms=2000)
    await check_recording(bench, number, "1005")
