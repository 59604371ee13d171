"""Phones on TLS and WebSocket: registered at one node, rung by either, always through Kamailio."""

from __future__ import annotations

from pathlib import Path

import pytest

from cti import audio
from cti95598.agents.v1 import agents_pb2 as pb
from tests.kamailio.proxy import OUTER
from tests.kamailio.site import KEYS, QUEUE, Site
from tests.kamailio.web_phone import WebPhone
from tests.peers.baresip import Baresip
from tests.peers.bench import Toolbar
from tests.peers.waiting import wait_until

pytestmark = [pytest.mark.peer, pytest.mark.asyncio(loop_scope="session")]


async def talk_from_each_node(site: Site, toolbar: Toolbar) -> None:
    """Two calls in turn come to two nodes; the phone registered at one of them."""
    before = [await node.calls() for node in site.nodes]
    async with site.phone("13900000001") as caller:
        for _ in site.nodes:
            toolbar.events.clear()
            call = caller.dial(f"sip:{QUEUE}@{site.proxy.server}", site.udp)
            await call.wait_answered(5)
            await call.press("1")
            await toolbar.reached(pb.AGENT_STATE_TALKING)
            call.hang_up()
            await call.wait_closed(5)
            await toolbar.reached(pb.AGENT_STATE_READY)
    new = [await node.calls() - had for node, had in zip(site.nodes, before, strict=True)]
    assert new == [1, 1]


@pytest.mark.parametrize("outbound", [False, True])
async def test_baresip_on_tls_is_rung_by_both_nodes(
    site: Site, tmp_path: Path, outbound: bool
) -> None:
    voice = audio.write_tone(tmp_path / "voice.wav", 1000, 5_000)
    phone = Baresip(site.directory("baresip"), user="1001", voice=voice)
    try:
        await phone.start(
            f"{OUTER}:{site.proxy.ports.tls}",
            password=site.password("1001"),
            auto_answer=True,
            transport="tls",
            authority=site.proxy.authority,
            outbound=outbound,
        )
        await phone.registered()
        async with site.toolbar("1001") as toolbar:
            await talk_from_each_node(site, toolbar)
    finally:
        await phone.stop()


async def test_a_browsers_phone_is_rung_through_its_connection(site: Site) -> None:
    phone = WebPhone("1002", "cti95598", site.password("1002"))
    await phone.connect(site.proxy.ports.wss, site.proxy.authority)
    try:
        assert (await phone.register()).status == 200
        async with site.toolbar("1002") as toolbar, site.phone("13900000002") as caller:
            call = caller.dial(f"sip:{QUEUE}@{site.proxy.server}", site.udp)
            await call.wait_answered(5)
            await call.press("1")
            invite = await phone.take_call(10)
            await toolbar.reached(pb.AGENT_STATE_TALKING)
            assert (await phone.hang_up(invite)).status == 200
            await wait_until(lambda: toolbar.state == pb.AGENT_STATE_READY, 5, "agent free again")
            call.hang_up()
            await call.wait_closed(5)
    finally:
        await phone.aclose()
    for secret in site.secrets_outside():
        assert secret not in "\n".join(phone.received)


async def test_a_phone_calls_out_by_the_node_that_rang_it(site: Site) -> None:
    """A transfer needs both calls of the agent at one node."""
    async with site.phone("1003") as phone, site.phone("13900000005") as caller:
        await phone.register(site.udp, site.password("1003"))
        async with site.toolbar("1003"):
            call = caller.dial(f"sip:{QUEUE}@{site.proxy.server}", site.udp)
            await call.wait_answered(5)
            await call.press("1")
            await phone.next_call(10)
            before = [await node.calls() for node in site.nodes]
            live = [await node.metric("calls_live") for node in site.nodes]
            for _ in range(2):
                consultation = phone.dial(f"sip:{KEYS}@{site.proxy.server}", site.udp)
                await consultation.wait_answered(5)
                consultation.hang_up()
                await consultation.wait_closed(5)
            new = [await node.calls() - had for node, had in zip(site.nodes, before, strict=True)]
            assert new == [2 * each for each in live]
            call.hang_up()
            await call.wait_closed(5)
