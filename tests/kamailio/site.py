"""Two nodes that share their stores, behind Kamailio."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from agents.toolbar_client import ToolbarClient
from cti.phone import Phone, PhoneSettings, phone_media
from cti.rtp_port import MediaRouter
from cti.sip.transports.transport import Hop
from demo.platform import RunningPlatform, configuration
from demo.ports import Ports, free_ports
from domain.yaml_source import YamlSource
from node.config import PlatformSettings
from node.credentials import ensure_credentials
from tests.kamailio.proxy import INNER, OUTER, Kamailio
from tests.node.running import RunningStores, running_stores
from tests.peers.bench import TENANT, Toolbar
from tests.peers.waiting import wait_until

FLOWS = Path(__file__).parents[1] / "peers" / "flows"
QUEUE, KEYS = "96000", "96001"
"""Access codes: straight to the agents; a menu that hangs up for a key."""


class SiteNode:
    """One node at an address of its own, so that the address gives away where it shows."""

    def __init__(self, name: str, host: str, directory: Path, stores: RunningStores) -> None:
        self.name = name
        self.host = host
        self.ports: Ports = free_ports()
        self.config = self._configuration()
        environment = {
            "REDIS_URL": stores.redis_server.url,
            "DATABASE_URL": stores.postgres_server.url,
        }
        self.platform = RunningPlatform(directory, self.ports, self.config, environment)

    @property
    def address(self) -> str:
        return f"{self.host}:{self.ports.sip}"

    def _configuration(self) -> dict[str, Any]:
        config = configuration(self.ports)
        config["node"] = self.name
        config["flows"] = str(FLOWS)
        config["sip"]["trusted_proxies"] = [INNER]
        for listener in config["sip"]["listen"]:
            listener["host"] = self.host
        (tenant,) = config["tenants"]
        tenant["access_codes"] = [
            {"code": QUEUE, "flow": "straight"},
            {"code": KEYS, "flow": "keys"},
        ]
        # Kamailio is at another address: calls come in by what it says of their source.
        tenant["trunks"] = [{"name": "carrier", "addresses": [OUTER]}]
        for queue in tenant["queues"]:
            queue |= {"after_call_work_s": 0, "answer_within_s": 5}
        return config

    async def calls(self) -> float:
        """Calls that have come to this node, ended or not."""
        return await self.metric("calls_total", "calls_live")

    async def metric(self, *names: str) -> float:
        """The sum of figures at one moment, over their labels."""
        url = f"http://127.0.0.1:{self.ports.http}/metrics"
        timeout = aiohttp.ClientTimeout(total=5)
        async with aiohttp.ClientSession(timeout=timeout) as client, client.get(url) as response:
            text = await response.text()
        wanted = tuple(name + after for name in names for after in " {")
        rows = (line for line in text.splitlines() if line.startswith(wanted))
        return sum(float(row.rsplit(" ", 1)[1]) for row in rows)


@dataclass
class Site:
    """Everything, and ways to it."""

    nodes: tuple[SiteNode, SiteNode]
    proxy: Kamailio
    media: MediaRouter
    root: Path
    _directories: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def directory(self, name: str) -> Path:
        """A fresh path for a peer's files."""
        return self.root / "peers" / f"{next(self._directories)}-{name}"

    @property
    def udp(self) -> Hop:
        return Hop("udp", OUTER, self.proxy.ports.sip)

    def password(self, user: str) -> str:
        return self.nodes[0].platform.passwords().phones[TENANT][user]

    def phone(self, user: str) -> AbstractAsyncContextManager[Phone]:
        """A caller of ours on UDP."""
        return open_phone(self.media, PhoneSettings(user=user))

    @asynccontextmanager
    async def toolbar(self, agent: str) -> AsyncIterator[Toolbar]:
        """An agent, signed in at the first node and ready."""
        platform = self.nodes[0].platform
        client = ToolbarClient(platform.grpc)
        toolbar = Toolbar(client, agent)
        password = platform.passwords().agents[TENANT][agent]
        assert (await client.sign_in(TENANT, agent, password)).result.accepted
        following = asyncio.create_task(toolbar.follow())
        try:
            assert (await client.ready()).accepted
            yield toolbar
        finally:
            await client.sign_out()
            following.cancel()
            await client.aclose()

    async def probed(self, node: SiteNode, *, takes_calls: bool) -> None:
        """Wait until Kamailio's probe has found a node up, or down."""

        async def known() -> bool:
            return await self.proxy.takes_calls(node.address) == takes_calls

        await wait_until(known, 10, f"{node.name} takes calls: {takes_calls}")

    def secrets_outside(self) -> list[str]:
        """What nobody outside may read in a message: addresses of nodes and of our inner side."""
        return [*(node.host for node in self.nodes), INNER]


@asynccontextmanager
async def open_phone(media: MediaRouter, settings: PhoneSettings) -> AsyncIterator[Phone]:
    phone = Phone(settings, media)
    await phone.open()
    try:
        yield phone
    finally:
        await phone.aclose()


@asynccontextmanager
async def running_site(root: Path) -> AsyncIterator[Site]:
    async with AsyncExitStack() as leaving:
        stores = await leaving.enter_async_context(running_stores(root / "stores"))
        nodes = (
            SiteNode("north", "127.0.0.11", root / "north", stores),
            SiteNode("south", "127.0.0.12", root / "south", stores),
        )
        proxy = Kamailio(
            root / "kamailio", [node.address for node in nodes], FLOOD_PER_2S=100, BAN_S=60
        )
        _share_passwords(nodes)
        for node in nodes:
            leaving.push_async_callback(node.platform.stop)
        leaving.push_async_callback(proxy.stop)
        await asyncio.gather(proxy.start(), *(node.platform.start() for node in nodes))
        media = await leaving.enter_async_context(phone_media(41_000, 41_999))
        site = Site(nodes, proxy, media, root)
        for node in nodes:
            await site.probed(node, takes_calls=True)
        yield site


def _share_passwords(nodes: tuple[SiteNode, ...]) -> None:
    """All nodes have the same ones: their operator copies the file."""
    first = nodes[0].platform.directory
    text = yaml.safe_dump(nodes[0].config, allow_unicode=True)
    settings = PlatformSettings.model_validate(YamlSource(text, numbers=False).data)
    ensure_credentials(settings, first.secrets, first.demo_credentials)
    for node in nodes[1:]:
        directory = node.platform.directory
        for source, target in (
            (first.secrets, directory.secrets),
            (first.demo_credentials, directory.demo_credentials),
        ):
            target.touch(mode=0o600)
            target.write_bytes(source.read_bytes())
