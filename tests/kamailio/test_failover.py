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
