"""What Kamailio does not let through: floods, scanners, forged routes and headers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kamailio.callers import press_keys
from tests.kamailio.site import KEYS, Site
from tests.kamailio.wire import Wire
from tests.peers.sipp import Sipp
from tests.peers.waiting import wait_until

pytestmark = [pytest.mark.peer, pytest.mark.asyncio(loop_scope="session")]

FLOODER, SCANNER, STRANGER = "127.0.0.66", "127.0.0.67", "127.0.0.68"


@pytest.fixture
def stranger(site: Site) -> Iterator[Wire]:
    wire = Wire(STRANGER)
    yield wire
    wire.close()


async def banned(site: Site) -> str:
    return await site.proxy.rpc("htable.dump", "ban")


async def test_a_flood_is_banned_while_others_call(site: Site) -> None:
    flood = Sipp(site.directory("flood"), address=FLOODER)
    try:
        await flood.start(
            "keys",
            site.proxy.server,
            service=KEYS,
            calls=100_000,
            per_second=300,
            caller="13800000066",
            key="1",
        )

        async def is_banned() -> bool:
            return FLOODER in await banned(site)

        await wait_until(is_banned, 5, "the flood is banned")
        await press_keys(site, 10)
    finally:
        await flood.stop()


async def test_a_scanner_gets_no_answer_and_shuts_nobody_out_in_whose_name_it_sends(
    site: Site,
) -> None:
    wire = Wire(SCANNER)
    uri = f"sip:{KEYS}@{site.proxy.server}"
    try:
        wire.send(site.proxy.server, "OPTIONS", uri, "User-Agent: friendly-scanner")
        with pytest.raises(TimeoutError):
            await wire.receive(timeout_s=0.5)
        assert SCANNER not in await banned(site)
        wire.send(site.proxy.server, "OPTIONS", uri, "User-Agent: an honest phone")
        assert "SIP/2.0" in (await wire.receive()).splitlines()[0]
    finally:
        wire.close()


async def test_a_forged_route_leads_nowhere(site: Site, stranger: Wire) -> None:
    victim = Wire("127.0.0.1")
    away = f"Route: <sip:{site.proxy.server};lr>, <sip:{victim.address};lr>"
    try:
        stranger.send(
            site.proxy.server, "BYE", f"sip:{KEYS}@{site.proxy.server}", away, to_tag=";tag=b"
        )
        assert "403" in (await stranger.receive()).splitlines()[0]
        stranger.send(site.proxy.server, "INVITE", f"sip:{KEYS}@{site.proxy.server}", away)
        with pytest.raises(TimeoutError):
            await victim.receive(timeout_s=0.5)
    finally:
        victim.close()


async def test_nodes_learn_the_real_source_and_believe_nobody_else(
    site: Site, stranger: Wire
) -> None:
    """The trunk's address is 127.0.0.1: only Kamailio's word makes a call one of the trunk's."""
    forged = "X-Source-Address: 127.0.0.1"
    stranger.send(site.proxy.server, "INVITE", f"sip:{KEYS}@{site.proxy.server}", forged)
    assert "401" in (await stranger.receive("SIP/2.0 4")).splitlines()[0]
    known = Wire("127.0.0.1")
    try:
        known.send(site.proxy.server, "INVITE", f"sip:000@{site.proxy.server}")
        assert "404" in (await known.receive("SIP/2.0 4")).splitlines()[0]
    finally:
        known.close()
