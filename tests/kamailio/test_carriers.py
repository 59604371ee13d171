"""Carriers' calls through Kamailio: spread, kept at their node, hidden, and saved when one dies."""

from __future__ import annotations

import pytest

from tests.kamailio.site import KEYS, Site
from tests.peers.sipp import Sipp

pytestmark = [pytest.mark.peer, pytest.mark.asyncio(loop_scope="session")]


async def press_keys(site: Site, calls: int, *, per_second: int = 10) -> str:
    """Make calls that each press a key inside their dialog; return the messages of all."""
    sipp = Sipp(site.directory("carrier"))
    try:
        await sipp.start(
            "keys",
            site.proxy.server,
            service=KEYS,
            pause_ms=200,
            calls=calls,
            per_second=per_second,
            caller="13800000001",
            key="1",
        )
        await sipp.succeeded("keys", 30)
    finally:
        await sipp.stop()
    return sipp.messages("keys")


async def test_calls_are_spread_and_keep_their_node(site: Site) -> None:
    before = [await node.calls() for node in site.nodes]
    messages = await press_keys(site, 10)
    new = [await node.calls() - had for node, had in zip(site.nodes, before, strict=True)]
    assert new == [5, 5]
    for secret in site.secrets_outside():
        assert secret not in messages
