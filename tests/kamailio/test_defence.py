"""What Kamailio does not let through: floods, scanners, forged routes and headers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from tests.kamailio.callers import press_keys
from tests.kamailio.proxy import OUTER
from tests.kamailio.site import KEYS, Site
from tests.peers.sipp import Sipp
from tests.peers.waiting import wait_until

pytestmark = [pytest.mark.peer, pytest.mark.asyncio(loop_scope="session")]

FLOODER, SCANNER, STRANGER = "127.0.0.66", "127.0.0.67", "127.0.0.68"


class Wire:
    """A UDP socket that says what it is told to."""

    def __init__(self, site: Site, address: str) -> None:
        self._site = site
        self._socket = socket.socket(type=socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind((address, 0))
        host, port = self._socket.getsockname()
        self.address = f"{host}:{port}"

    def send(self, method: str, *lines: str, to_tag: str = "") -> None:
        server = self._site.proxy.server
        text = "\r\n".join([
            f"{method} sip:{KEYS}@{server} SIP/2.0",
            f"Via: SIP/2.0/UDP {self.address};branch=z9hG4bK{id(lines)}",
            f"From: <sip:1@{self.address}>;tag=a",
            f"To: <sip:{KEYS}@{server}>{to_tag}",
            f"Call-ID: {id(lines)}@{self.address}",
            f"CSeq: 1 {method}",
            f"Contact: <sip:1@{self.address}>",
            "Max-Forwards: 70",
            *lines,
            "Content-Length: 0",
            "",
            "",
        ])  # fmt: skip
        self._socket.sendto(text.encode(), (OUTER, self._site.proxy.ports.sip))

    async def receive(self, timeout_s: float = 3.0) -> str:
        """The next message; TimeoutError when there is none."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(timeout_s):
            return (await loop.sock_recv(self._socket, 65_535)).decode()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def stranger(site: Site) -> Iterator[Wire]:
    wire = Wire(site, STRANGER)
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


async def test_a_scanner_gets_no_answer(site: Site) -> None:
    wire = Wire(site, SCANNER)
    try:
        wire.send("OPTIONS", "User-Agent: friendly-scanner")
        wire.send("OPTIONS", "User-Agent: an honest phone")
        with pytest.raises(TimeoutError):
            await wire.receive(0.5)
    finally:
        wire.close()
    assert SCANNER in await banned(site)


async def test_a_forged_route_leads_nowhere(site: Site, stranger: Wire) -> None:
    victim = Wire(site, "127.0.0.1")
    away = f"Route: <sip:{site.proxy.server};lr>, <sip:{victim.address};lr>"
    try:
        stranger.send("BYE", away, to_tag=";tag=b")
        assert "403" in (await stranger.receive()).splitlines()[0]
        stranger.send("INVITE", away)
        with pytest.raises(TimeoutError):
            await victim.receive(0.5)
    finally:
        victim.close()


async def test_requests_of_nodes_are_taken_from_inside_only(site: Site, stranger: Wire) -> None:
    """The outer address relays to nodes only, whoever asks."""
    victim = Wire(site, "127.0.0.1")
    try:
        stranger.send("NOTIFY", f"Route: <sip:{victim.address};lr>", to_tag=";tag=b")
        assert "40" in (await stranger.receive()).splitlines()[0]
        with pytest.raises(TimeoutError):
            await victim.receive(0.3)
    finally:
        victim.close()
