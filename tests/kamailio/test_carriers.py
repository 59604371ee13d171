"""Carriers' calls through Kamailio: spread over the nodes, kept at theirs, and showing none."""

from __future__ import annotations

import pytest

from tests.kamailio.callers import press_keys
from tests.kamailio.site import Site
from tests.kamailio.wire import Wire

pytestmark = [pytest.mark.peer, pytest.mark.asyncio(loop_scope="session")]


@pytest.mark.parametrize("transport", ["u1", "t1"])
async def test_calls_are_spread_and_keep_their_node(site: Site, transport: str) -> None:
    before = [await node.calls() for node in site.nodes]
    messages = await press_keys(site, 10, transport=transport)
    new = [await node.calls() - had for node, had in zip(site.nodes, before, strict=True)]
    # In turn, but each of Kamailio's processes may take the next turn at the same moment.
    assert sum(new) == 10
    assert min(new) >= 3
    assert "Record-Route" in messages
    for secret in site.secrets_outside():
        assert secret not in messages


async def test_a_probe_learns_whether_calls_are_taken(site: Site) -> None:
    carrier = Wire("127.0.0.1")
    try:
        carrier.send(site.proxy.server, "OPTIONS", f"sip:{site.proxy.server}")
        assert "200" in (await carrier.receive()).splitlines()[0]
    finally:
        carrier.close()
