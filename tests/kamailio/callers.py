"""A carrier's calls by sipp."""

from __future__ import annotations

from tests.kamailio.site import KEYS, Site
from tests.peers.sipp import Sipp


async def press_keys(site: Site, calls: int, *, transport: str = "u1", per_second: int = 10) -> str:
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
            transport=transport,
            caller="13800000001",
            key="1",
        )
        await sipp.succeeded("keys", 30)
    finally:
        await sipp.stop()
    return sipp.messages("keys")
