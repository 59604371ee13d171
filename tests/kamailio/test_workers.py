"""Two workers of one machine behind Kamailio, with one queue: `serve --workers 2`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
import yaml

from agents.toolbar_client import ToolbarClient
from cti.phone import Phone, PhoneSettings, phone_media
from cti.rtp_port import MediaRouter
from cti.sip.transports.transport import Hop
from cti95598.agents.v1 import agents_pb2 as pb
from demo.platform import Child, configuration
from demo.ports import free_ports
from node.credentials import read_plain_passwords
from node.data_directory import DataDirectory
from tests.kamailio.proxy import INNER, OUTER, Kamailio
from tests.kamailio.site import FLOWS, QUEUE, open_phone
from tests.peers.bench import TENANT, Toolbar
from tests.peers.waiting import wait_until

pytestmark = [pytest.mark.peer, pytest.mark.asyncio(loop_scope="module")]

STEP = 7
AGENT = "1001"


class Workers:
    """`serve --workers 2` and Kamailio before it, with the list that it has written."""

    def __init__(self, root: Path) -> None:
        self.directory = DataDirectory.at(root / "data")
        self.root = root
        self.ports = free_ports(workers=2, step=STEP)
        self.child = Child("platform", root / "serve.log")
        self.media: MediaRouter
        self.proxy: Kamailio

    async def start(self) -> None:
        config = configuration(self.ports)
        config["flows"] = str(FLOWS)
        config["sip"]["trusted_proxies"] = [INNER]
        (tenant,) = config["tenants"]
        del tenant["business"]
        tenant["access_codes"] = [{"code": QUEUE, "flow": "straight"}]
        tenant["trunks"] = [{"name": "carrier", "addresses": [OUTER]}]
        for queue in tenant["queues"]:
            queue |= {"after_call_work_s": 0, "answer_within_s": 5}
        path = self.root / "platform.yaml"
        path.write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
        await self.child.start(
            [
                "-m", "node.cli", "serve", "--config", str(path),
                "--data", str(self.directory.root), "--workers", "2", "--port-step", str(STEP),
                "--hung-after", "5",
            ],
            {},
        )  # fmt: skip

    def sip(self, number: int) -> Hop:
        return Hop("udp", "127.0.0.1", self.ports.sip + (number - 1) * STEP)

    def grpc(self, number: int) -> str:
        return f"127.0.0.1:{self.ports.grpc + (number - 1) * STEP}"

    def pid(self, number: int) -> int:
        file = self.directory.workers / f"node1-{number}" / "instance.json"
        return int(json.loads(file.read_text())["pid"])

    async def live(self, number: int) -> int | None:
        """Calls in progress at a worker; None: nobody is there."""
        url = f"http://127.0.0.1:{self.ports.http + (number - 1) * STEP}/healthz"
        try:
            async with aiohttp.ClientSession() as client, client.get(url) as response:
                return int((await response.json())["calls"])
        except aiohttp.ClientError:
            return None

    def log(self) -> str:
        return (self.root / "serve.log").read_text(errors="replace")

    def phone(self, user: str) -> AbstractAsyncContextManager[Phone]:
        return open_phone(self.media, PhoneSettings(user=user, auto_answer=True))

    @asynccontextmanager
    async def agent(self, number: int) -> AsyncIterator[Toolbar]:
        """An agent whose toolbar is at one worker; Kamailio chooses where the phone registers."""
        plain = read_plain_passwords(self.directory.demo_credentials)
        client = ToolbarClient(self.grpc(number))
        toolbar = Toolbar(client, AGENT)
        async with self.phone(AGENT) as phone:
            proxy = Hop("udp", OUTER, self.proxy.ports.sip)
            assert await phone.register(proxy, plain.phones[TENANT][AGENT]) > 0
            signed_in = await client.sign_in(TENANT, AGENT, plain.agents[TENANT][AGENT])
            assert signed_in.result.accepted
            following = asyncio.create_task(toolbar.follow())
            try:
                assert (await client.ready()).accepted
                yield toolbar
            finally:
                await client.sign_out()
                following.cancel()
                await client.aclose()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def workers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Workers]:
    running = Workers(tmp_path_factory.mktemp("workers"))
    async with AsyncExitStack() as leaving:
        leaving.push_async_callback(running.child.stop)
        await running.start()
        running.media = await leaving.enter_async_context(phone_media(42_000, 42_499))
        lines = running.directory.dispatcher_list.read_text().splitlines()
        nodes = [line.split()[1].removeprefix("sip:") for line in lines if line[0] != "#"]
        running.proxy = Kamailio(running.root / "kamailio", nodes, FLOOD_PER_2S=100)
        leaving.push_async_callback(running.proxy.stop)
        await running.proxy.start()
        for node in nodes:

            async def is_known(node: str = node) -> bool:
                return await running.proxy.takes_calls(node)

            await wait_until(is_known, 10, f"Kamailio gives calls to {node}")
        yield running


async def calls_at(workers: Workers, *counts: int) -> None:
    """Wait until the workers have so many calls."""

    async def reached() -> bool:
        return [await workers.live(number) for number in (1, 2)] == list(counts)

    await wait_until(reached, 10, f"calls at the workers: {counts}")


@pytest.mark.parametrize("number", [1, 2])
async def test_an_agent_at_one_worker_serves_a_caller_of_any(workers: Workers, number: int) -> None:
    async with workers.agent(1) as toolbar, workers.phone("13900000001") as caller:
        hop = workers.sip(number)
        call = caller.dial(f"sip:{QUEUE}@{hop.host}:{hop.port}", hop)
        await call.wait_answered(10)
        await call.press("1")
        await toolbar.reached(pb.AGENT_STATE_TALKING)
        assert await workers.live(number) == 1
        assert (await toolbar.client.hold()).accepted
        assert (await toolbar.client.retrieve()).accepted
        await toolbar.client.hang_up()
        await calls_at(workers, 0, 0)


async def test_kamailio_spreads_calls_over_the_workers(workers: Workers) -> None:
    hop = Hop("udp", OUTER, workers.proxy.ports.sip)
    async with workers.phone("13900000002") as caller:
        calls = [caller.dial(f"sip:{QUEUE}@{workers.proxy.server}", hop) for _ in range(4)]
        for call in calls:
            await call.wait_answered(10)
        await calls_at(workers, 2, 2)
        for call in calls:
            call.hang_up()
        await calls_at(workers, 0, 0)


async def test_a_worker_that_dies_comes_back_and_the_others_calls_go_on(workers: Workers) -> None:
    hop = workers.sip(1)
    async with workers.phone("13900000003") as caller:
        call = caller.dial(f"sip:{QUEUE}@{hop.host}:{hop.port}", hop)
        await call.wait_answered(10)
        dead = workers.pid(2)
        os.kill(dead, signal.SIGKILL)

        async def is_back() -> bool:
            return workers.pid(2) != dead and await workers.live(2) == 0

        await wait_until(is_back, 30, "the second worker is back")
        assert not call.is_over
        assert await workers.live(1) == 1
        assert "worker died, restarting it" in workers.log()
        assert workers.log().count("preparing prompts") == 1  # the first one, for all
        os.kill(workers.child.pid, signal.SIGHUP)

        async def have_reloaded() -> bool:
            return workers.log().count("were read again") == 2

        await wait_until(have_reloaded, 10, "both have read the configuration")
        call.hang_up()
        await call.wait_closed(5)
        await calls_at(workers, 0, 0)


async def test_a_worker_that_hangs_is_replaced_and_counted(workers: Workers) -> None:
    hung = workers.pid(2)
    os.kill(hung, signal.SIGSTOP)

    async def is_back() -> bool:
        return workers.pid(2) != hung and await workers.live(2) == 0

    await wait_until(is_back, 60, "the second worker is back")
    assert "工作进程 node1-2 已" in workers.log()
    assert "given no sign" in workers.log()
    url = f"http://127.0.0.1:{workers.ports.http + STEP}/metrics"
    async with aiohttp.ClientSession() as client, client.get(url) as response:
        assert 'worker_restarts_total{cause="hung"} 1.0' in await response.text()


async def test_too_few_ports_end_the_start_with_a_remedy(workers: Workers) -> None:
    config = yaml.safe_load((workers.root / "platform.yaml").read_text())
    config["media"]["port_max"] = config["media"]["port_min"] + 49
    path = workers.root / "narrow.yaml"
    path.write_text(yaml.safe_dump(config))
    for arguments, status, words in (
        (["--workers", "2"], 78, "give 80 ports at least"),
        (["--workers", "17"], 2, "--workers"),
    ):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "node.cli", "serve", "--config", str(path),
            "--data", str(workers.root / "narrow"), *arguments,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await process.communicate()
        assert process.returncode == status
        assert words in output.decode()
        assert b"Traceback" not in output
