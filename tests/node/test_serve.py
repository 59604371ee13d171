"""`cti95598 serve` as its users see it: ready, health, reload, errors, and a clean end."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import yaml

from cti.phone import Phone, PhoneSettings
from cti.rtp_port import MediaRouter
from cti.sip.transports.transport import Hop
from demo.ports import free_port
from node.config import DEMO_CONFIG
from node.credentials import read_plain_passwords
from node.stores.child import wrapped
from tests.fakes.media import FakeMedia
from tests.node.running import running_stores, until

pytestmark = pytest.mark.stores

_FLOW = """\
flow: hello
start: end
nodes:
  end: {kind: hangup}
"""


class Serve:
    """One platform process; its output is read as it comes."""

    def __init__(self, directory: Path) -> None:
        self.data = directory / "data"
        self.config = directory / "platform.yaml"
        self.flows = directory / "flows"
        self.output = ""
        self._news = asyncio.Condition()
        self._reader: asyncio.Task[None] | None = None
        self.ports = _free_ports()

    def write_config(self, **changes: object) -> None:
        self.flows.mkdir(exist_ok=True)
        (self.flows / "hello.yaml").write_text(_FLOW)
        sip, grpc, http = self.ports
        config = yaml.safe_load(DEMO_CONFIG.read_text())
        config["sip"]["listen"] = [
            {"transport": kind, "host": "127.0.0.1", "port": sip} for kind in ("udp", "tcp")
        ]
        config["grpc"]["port"], config["http"]["port"] = grpc, http
        config["flows"] = "flows"
        config["tenants"][0]["access_codes"][0]["flow"] = "hello"
        self.config.write_text(yaml.safe_dump({**config, **changes}, allow_unicode=True))

    async def start(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "node.cli", "serve"]
        command += ["--config", str(self.config), "--data", str(self.data), *arguments]
        self.process = await asyncio.create_subprocess_exec(
            *wrapped(command, parent_death=signal.SIGTERM),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        self._reader = asyncio.create_task(self._read())

    async def says(self, words: str, *, within_s: float = 60.0) -> None:
        async with asyncio.timeout(within_s), self._news:
            await self._news.wait_for(
                lambda: words in self.output or self.process.returncode is not None
            )
        assert words in self.output, self.output

    async def ends(self, *, within_s: float = 20.0) -> int:
        async with asyncio.timeout(within_s):
            status = await self.process.wait()
            assert self._reader is not None
            await self._reader
        return status

    async def health(self) -> tuple[int, bool]:
        """The status of /healthz, and whether it says that calls are taken."""
        url = f"http://127.0.0.1:{self.ports[2]}/healthz"
        async with aiohttp.ClientSession() as client, client.get(url) as response:
            return response.status, (await response.json())["takes_calls"]

    def children(self) -> list[int]:
        found = []
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            found += [int(pid) for pid in (task / "children").read_text().split()]
        return found

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            async with self._news:
                self.output += line.decode()
                self._news.notify_all()
        await self.process.wait()
        async with self._news:
            self._news.notify_all()


def _free_ports() -> tuple[int, int, int]:
    return free_port(), free_port(), free_port()


@asynccontextmanager
async def platform(directory: Path) -> AsyncIterator[Serve]:
    serve = Serve(directory)
    serve.write_config()
    await serve.start()
    try:
        await serve.says("Ctrl-C")
        yield serve
    finally:
        if serve.process.returncode is None:
            serve.process.kill()
            await serve.ends()


async def options(port: int, transport: str) -> bytes:
    """Send an OPTIONS and return the answer."""
    hop = Hop("udp", "127.0.0.1", port)
    kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
    with socket.socket(type=kind) as peer:
        peer.setblocking(False)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(5):
            await loop.sock_connect(peer, (hop.host, hop.port))
            host, source = peer.getsockname()
            await loop.sock_sendall(
                peer,
                f"OPTIONS sip:95598@127.0.0.1:{port} SIP/2.0\r\n"
                f"Via: SIP/2.0/{transport.upper()} {host}:{source};branch=z9hG4bK1;rport\r\n"
                "From: <sip:a@127.0.0.1>;tag=1\r\nTo: <sip:95598@127.0.0.1>\r\n"
                "Call-ID: o1\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\n"
                "Content-Length: 0\r\n\r\n".encode(),
            )
            return await loop.sock_recv(peer, 4096)


async def test_serves_reloads_and_ends_in_order(tmp_path: Path) -> None:
    async with platform(tmp_path) as serve:
        for words in ("sip/udp", "sip/tcp", "grpc", "http", "linphonec", "baresip", "sipp"):
            assert words in serve.output
        assert await serve.health() == (200, True)
        for transport in ("udp", "tcp"):
            assert (await options(serve.ports[0], transport)).startswith(b"SIP/2.0 200")

        good = serve.config.read_text()
        serve.config.write_text(good.replace("queues:\n  - bill", "queues:\n  - bell"))
        serve.config.write_text(good + "surprise: 1\n")
        serve.process.send_signal(signal.SIGHUP)
        await serve.says("surprise")
        await serve.says("the present configuration stays")
        assert await serve.health() == (200, True)

        assert "prompts" not in serve.output
        (serve.flows / "hello.yaml").write_text(_FLOW.replace("hangup", "hangup, text: 您好再见"))
        config = yaml.safe_load(good)
        config["tenants"][0]["agents"].append({"id": "2001", "phone": "2001", "queues": ["bill"]})
        serve.config.write_text(yaml.safe_dump(config, allow_unicode=True))
        serve.process.send_signal(signal.SIGHUP)
        await serve.says("preparing prompts: 1")
        await serve.says("prompts made: 1")
        await serve.says("were read again")
        plain = read_plain_passwords(serve.data / "demo-credentials.yaml")
        assert "2001" in plain.agents["demo"]

        children = serve.children()
        assert len(children) >= 2
        serve.process.send_signal(signal.SIGINT)
        assert await serve.ends() == 0
        assert "Traceback" not in serve.output
        await until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))
        assert not list(serve.data.glob("instance.json"))


async def test_a_spoilt_flow_keeps_the_last_good_one(tmp_path: Path) -> None:
    async with platform(tmp_path) as serve:
        (serve.flows / "hello.yaml").write_text("flow: hello\nnodes: {}\n")
        serve.process.send_signal(signal.SIGHUP)
        await serve.says("hello.yaml")
        await serve.says("their last good version stays")
        await serve.says("were read again")
        assert await serve.health() == (200, True)


async def test_nothing_is_left_of_a_killed_platform(tmp_path: Path) -> None:
    async with platform(tmp_path) as serve:
        children = serve.children()
        serve.process.kill()
        await serve.ends()
        await until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))


async def test_a_second_instance_names_the_port_that_is_taken(tmp_path: Path) -> None:
    async with platform(tmp_path) as first:
        second = Serve(tmp_path / "second")
        (tmp_path / "second").mkdir()
        for at, name in enumerate(("sip", "grpc", "http")):
            second.ports = _free_ports()
            ports = list(second.ports)
            ports[at] = first.ports[at]
            second.ports = (ports[0], ports[1], ports[2])
            second.write_config()
            await second.start()
            assert await second.ends(within_s=60) == 1
            assert f"{name} cannot listen at 127.0.0.1:{first.ports[at]}" in second.output
            assert f"--{name}-port" in second.output
            assert "Traceback" not in second.output
            assert not (second.data / "postgres" / "data").exists()
            second.output = ""


async def test_the_same_data_directory_is_refused(tmp_path: Path) -> None:
    async with platform(tmp_path) as first:
        second = Serve(tmp_path)
        second.config = tmp_path / "second.yaml"
        second.write_config()
        await second.start()
        assert await second.ends() == 1
        assert f"in use by process {first.process.pid}" in second.output


async def test_a_bad_configuration_is_refused_with_every_fault(tmp_path: Path) -> None:
    serve = Serve(tmp_path)
    serve.write_config(surprise=1, flows="nowhere")
    await serve.start()
    assert await serve.ends() == 78
    assert "platform.yaml:" in serve.output
    assert "[surprise]: there is no such field" in serve.output
    assert "Traceback" not in serve.output


async def test_only_what_is_asked_for_is_served(tmp_path: Path) -> None:
    serve = Serve(tmp_path)
    serve.write_config()
    await serve.start("--services", "reports,http")
    try:
        await serve.says("READY")
        assert await serve.health() == (503, False)
        assert "sip/udp" not in serve.output
    finally:
        serve.process.send_signal(signal.SIGTERM)
        assert await serve.ends() == 0


async def test_stores_of_others_replace_the_embedded_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_stores(tmp_path / "stores") as stores:
        monkeypatch.setenv("REDIS_URL", stores.redis_server.url)
        monkeypatch.setenv("DATABASE_URL", stores.postgres_server.url)
        async with platform(tmp_path) as serve:
            assert await serve.health() == (200, True)
            assert serve.children() == []
            await invite_unknown_number(serve.ports[0])

            async def recorded() -> bool:
                found = await stores.pool.fetchval("SELECT count(*) FROM call_record")
                return bool(found == 1)

            await until(recorded)
            assert await stores.redis.exists("{demo}:events")
            serve.process.send_signal(signal.SIGTERM)
            assert await serve.ends() == 0


async def invite_unknown_number(port: int) -> None:
    """Call a number that is no access code, and wait for its refusal."""
    media = MediaRouter(FakeMedia())
    phone = Phone(PhoneSettings("13800138000"), media)
    await phone.open()
    try:
        call = phone.dial(f"sip:000@127.0.0.1:{port}", Hop("udp", "127.0.0.1", port))
        assert (await call.wait_ended(5)).status == 404
    finally:
        await phone.aclose()


async def test_a_database_url_of_another_kind_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql://user:hidden@127.0.0.1/x")
    serve = Serve(tmp_path)
    serve.write_config()
    await serve.start()
    assert await serve.ends() == 1
    assert "DATABASE_URL: write postgresql://" in serve.output
    assert "hidden" not in serve.output


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--data", "/dev/null"], 1, "data directory /dev/null: "),
        (["--data", "/dev/null/x"], 1, "data directory /dev/null/x: "),
        (["--sip-port", "65536"], 2, "--sip-port"),
        (["--grpc-port", "-1"], 2, "--grpc-port"),
    ],
)
async def test_a_wrong_command_line_is_told_without_a_traceback(
    tmp_path: Path, arguments: list[str], status: int, words: str
) -> None:
    serve = Serve(tmp_path)
    serve.write_config()
    await serve.start(*arguments)
    assert await serve.ends() == status
    assert words in serve.output
    assert "Traceback" not in serve.output
    assert len(serve.output.splitlines()) < 10
