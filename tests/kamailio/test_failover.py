"""Nodes that die or drain: no caller is turned away, and calls in progress stay."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.kamailio.callers import press_keys
from tests.kamailio.site import QUEUE, Site, SiteNode
from tests.peers.waiting import wait_until

pytestmark = [pytest.mark.peer, pytest.mark.asyncio(loop_scope="session")]


@pytest_asyncio.fixture(loop_scope="session")
async def victim(site: Site) -> AsyncIterator[SiteNode]:
    """A node that is started again after the test."""
    node = site.nodes[1]
    yield node
    await node.platform.stop()
    await node.platform.start()
    await site.probed(node, takes_calls=True)


async def test_calls_survive_the_death_of_a_node(site: Site, victim: SiteNode) -> None:
    os.kill(victim.platform.pid, signal.SIGKILL)
    # Kamailio does not know yet: those it sends there are tried at the other node.
    await press_keys(site, 6)
    await site.probed(victim, takes_calls=False)
    messages = await press_keys(site, 10)
    assert "SIP/2.0 5" not in messages
    for user in ("1001", "1002", "1003", "1004"):  # whose hash leads to either node
        async with site.phone(user) as phone:
            assert await phone.register(site.udp, site.password(user)) > 0


async def test_a_draining_node_keeps_its_calls_and_gets_no_new_ones(
    site: Site, victim: SiteNode
) -> None:
    async with site.phone("13900000003") as caller:
        # One of two calls in turn comes to the victim.
        calls = [caller.dial(f"sip:{QUEUE}@{site.proxy.server}", site.udp) for _ in range(2)]
        for call in calls:
            await call.wait_answered(5)
        assert await victim.metric("calls_live") == 1
        os.kill(victim.platform.pid, signal.SIGUSR1)
        # What it refuses with 503 before the next probe goes to the other node.
        await press_keys(site, 4)
        await site.probed(victim, takes_calls=False)
        had = await victim.calls()
        await press_keys(site, 4)
        assert await victim.calls() == had
        for call in calls:
            assert not call.is_over
            call.hang_up()
            await call.wait_closed(5)

        async def is_empty() -> bool:
            return await victim.metric("calls_live") == 0

        await wait_until(is_empty, 5, "the last call of the draining node ended")


async def test_calls_outlive_a_restart_of_kamailio(site: Site) -> None:
    """It keeps nothing of them: the encoded addresses in the messages are all it needs."""
    async with site.phone("13900000004") as caller:
        call = caller.dial(f"sip:{QUEUE}@{site.proxy.server}", site.udp)
        await call.wait_answered(5)
        live = [await node.metric("calls_live") for node in site.nodes]
        assert sorted(live) == [0, 1]
        await site.proxy.stop()
        await site.proxy.start()
        call.hang_up()
        await call.wait_closed(5)

    async def ended() -> bool:
        return sum([await node.metric("calls_live") for node in site.nodes]) == 0

    await wait_until(ended, 5, "the node heard of the end")
    for node in site.nodes:
        await site.probed(node, takes_calls=True)
