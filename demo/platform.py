"""The platform as a child of a demo or a test, and the business system beside it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import yaml

from cti.sip.transports.transport import Hop
from demo.business import running_business
from demo.ports import Ports
from node.config import DEMO_CONFIG
from node.credentials import PlainPasswords, read_plain_passwords
from node.data_directory import DataDirectory, InstanceLock
from node.stores.child import wrapped
from node.stores.postgres_server import PostgresServer
from reports.queries import RecordQueries

_READY_WITHIN_S = 240.0  # a first start makes all prompts, on a busy machine for minutes
_STOP_WITHIN_S = 20.0
_LOCALHOST = "127.0.0.1"


class StartError(Exception):
    """A child did not start, or ended by itself."""


def configuration(ports: Ports) -> dict[str, Any]:
    """Return the demo configuration on these ports."""
    config: dict[str, Any] = yaml.safe_load(DEMO_CONFIG.read_text(encoding="utf-8"))
    config["sip"]["listen"] = [
        {"transport": transport, "host": _LOCALHOST, "port": ports.sip}
        for transport in ("udp", "tcp")
    ]
    config["media"] |= {"port_min": ports.rtp_min, "port_max": ports.rtp_max}
    config["grpc"]["port"] = ports.grpc
    config["http"]["port"] = ports.http
    config["flows"] = str((DEMO_CONFIG.parent / config["flows"]).resolve())
    for tenant in config["tenants"]:
        tenant["business"]["url"] = f"http://{_LOCALHOST}:{ports.business}"
    return config


class RunningPlatform:
    """`cti95598 serve` and the business system, with what clients have to know of them.

    The business system is served by this process; the platform asks it over HTTP all the same.
    """

    def __init__(
        self,
        data: Path,
        ports: Ports,
        config: dict[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        """Make one; `environment` adds to this process's, such as with other stores.

        `arguments` are further ones of `cti95598 serve`.
        """
        self._arguments = arguments
        self.directory = DataDirectory.at(data)
        self.ports = ports
        self._environment = environment or {}
        self._config = config if config is not None else configuration(ports)
        self._business = contextlib.AsyncExitStack()
        self._children: list[Child] = []

    @property
    def sip(self) -> Hop:
        """Where trunks and phones send SIP."""
        return Hop("udp", _LOCALHOST, self.ports.sip)

    @property
    def grpc(self) -> str:
        """Where toolbars connect."""
        return f"{_LOCALHOST}:{self.ports.grpc}"

    @property
    def log(self) -> Path:
        """What the platform prints."""
        return self.directory.log / "serve.log"

    @property
    def pid(self) -> int:
        """The platform's process."""
        return self._children[-1].pid

    @property
    def business_url(self) -> str:
        """Where the business system is."""
        return f"http://{_LOCALHOST}:{self.ports.business}"

    @property
    def flow_file(self) -> Path:
        """The flow of the hotline."""
        return Path(self._config["flows"]) / "95598.yaml"

    def passwords(self) -> PlainPasswords:
        """Return the passwords that the first start made."""
        return read_plain_passwords(self.directory.demo_credentials)

    def access_url(self, number: str = "95598") -> str:
        """Return what a caller dials."""
        return f"sip:{number}@{_LOCALHOST}:{self.ports.sip}"

    @contextlib.asynccontextmanager
    async def records(self) -> AsyncIterator[RecordQueries]:
        """Open the records of the embedded PostgreSQL, read only by habit."""
        url = PostgresServer(self.directory, InstanceLock(self.directory)).url
        async with asyncpg.create_pool(url, min_size=1, max_size=2) as pool:
            yield RecordQueries(pool)

    async def start(self) -> None:
        """Start both and wait until calls are taken; StartError tells why not."""
        await self._business.enter_async_context(running_business(port=self.ports.business))
        await self._serve()

    async def crash_and_start_again(self, meanwhile: Callable[[], Awaitable[None]]) -> None:
        """Kill the platform, which ends its stores, and start it on the same data."""
        await self._children.pop().kill()
        await meanwhile()
        await self._serve()

    async def _serve(self) -> None:
        config_path = self.directory.root / "config.yaml"
        text = yaml.safe_dump(self._config, allow_unicode=True, sort_keys=False)
        config_path.write_text(text, encoding="utf-8")
        data = str(self.directory.root)
        await self._child(
            "platform",
            [
                "-m",
                "node.cli",
                "serve",
                "--config",
                str(config_path),
                "--data",
                data,
                *self._arguments,
            ],
            self.log,
        )

    async def stop(self) -> None:
        """Stop all, the platform first."""
        while self._children:
            await self._children.pop().stop()
        await self._business.aclose()

    async def _child(self, name: str, arguments: Sequence[str], log: Path) -> None:
        child = Child(name, log)
        self._children.append(child)
        await child.start(arguments, self._environment)


class Child:
    """One process; its output goes to a log, a line with READY says that it serves."""

    def __init__(self, name: str, log: Path) -> None:
        self._name = name
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def pid(self) -> int:
        """Process id."""
        assert self._process is not None  # noqa: S101 - asked for after start only
        return self._process.pid

    async def start(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start it and wait for its READY line; StartError tells why there is none."""
        self._process = await asyncio.create_subprocess_exec(
            *wrapped([sys.executable, *arguments], parent_death=signal.SIGTERM),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
            # Ctrl-C of the terminal is for us; we stop the children in order.
            start_new_session=True,
        )
        self._reader = asyncio.create_task(self._read())
        try:
            async with asyncio.timeout(_READY_WITHIN_S):
                await asyncio.shield(self._ready)
        except TimeoutError:
            raise StartError(
                f"the {self._name} was not ready within {_READY_WITHIN_S:.0f} s; see {self._log}"
            ) from None

    async def stop(self) -> None:
        """End it: first asked (SIGINT), then forced."""
        process = self._process
        self._ready.cancel()
        if process is None:
            return
        for number in (signal.SIGINT, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_STOP_WITHIN_S):
                    await process.wait()
                    break
        if self._reader is not None:
            await self._reader

    async def kill(self) -> None:
        """End it as a crash does."""
        assert self._process is not None  # noqa: S101 - asked for after start only
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        assert self._reader is not None  # noqa: S101
        await self._reader

    async def _read(self) -> None:
        assert self._process is not None  # noqa: S101
        assert self._process.stdout is not None  # noqa: S101
        last = ""
        with self._log.open("ab") as log:
            async for line in self._process.stdout:
                log.write(line)
                log.flush()
                last = line.decode(errors="replace").strip() or last
                if b"READY" in line and not self._ready.done():
                    self._ready.set_result(None)
        await self._process.wait()
        if not self._ready.done():
            self._ready.set_exception(
                StartError(f"the {self._name} ended: {last}; see {self._log}")
            )
