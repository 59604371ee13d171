"""`cti95598 serve`: start the platform, say where it is and how to call it, and end in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import structlog
import typer
import uvloop
from rich.console import Console

from domain.failures import PlatformError
from node.config import DEMO_CONFIG, Config, ConfigError, load_config
from node.data_directory import DataDirectory
from node.how_to_call import how_to_call
from node.logs import configure_logs
from node.service import ALL_SERVICES, Node, Service

log = structlog.get_logger(__name__)

_BAD_CONFIGURATION = 78  # EX_CONFIG of sysexits.h
_FORCED = 130

_OPEN_FILES = 65_536
_PORT_MAX = 65535

_console = Console(highlight=False, soft_wrap=True)


def serve_command(
    config: Annotated[
        Path,
        typer.Option("--config", "-c", metavar="FILE", help="Configuration file (YAML)."),
    ] = DEMO_CONFIG,
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            "-d",
            metavar="DIR",
            envvar="CTI95598_DATA",
            help="Data directory of this instance; a second instance needs another.",
        ),
    ] = Path(".data"),
    services: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help=f"Comma-separated list of what to run, of {', '.join(Service)}.",
        ),
    ] = ",".join(Service),
    sip_port: Annotated[
        int | None,
        typer.Option(min=0, max=_PORT_MAX, help="SIP port (UDP and TCP), instead of the file's."),
    ] = None,
    grpc_port: Annotated[
        int | None, typer.Option(min=0, max=_PORT_MAX, help="gRPC port, instead of the file's.")
    ] = None,
    http_port: Annotated[
        int | None, typer.Option(min=0, max=_PORT_MAX, help="HTTP port, instead of the file's.")
    ] = None,
) -> None:
    """启动平台 · Start the platform and stay until Ctrl-C.

    Without --config it takes calls to 95598 from any loopback address (the demo configuration).
    SIGHUP reads configuration and flows again; where they have faults the present ones stay.
    SIGUSR1 drains: no new calls, those in progress go on.
    """

    def load() -> Config:
        return _with_ports(load_config(config), sip_port, grpc_port, http_port)

    try:
        wanted = _services(services)
        loaded = load()
        directory = DataDirectory.at(data)
        configure_logs(directory.log)
        allow_open_files()
        status = uvloop.run(_serve(loaded, directory, wanted, load))
    except ConfigError as error:
        _complain(*(str(problem) for problem in error.problems))
        raise typer.Exit(_BAD_CONFIGURATION) from None
    except PlatformError as error:
        _complain(error.detail or str(error))
        raise typer.Exit(1) from None
    raise typer.Exit(status)


async def _serve(
    config: Config,
    directory: DataDirectory,
    services: frozenset[Service],
    load: Callable[[], Config],
) -> int:
    signals = _Signals()
    node = Node(config, directory, services=services, tell=_tell)
    await _unless_stopped(node.start(), signals)
    if signals.stop.is_set():
        await node.stop()
        return 0
    _announce(node, directory)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, _drain, node)
    try:
        while not await signals.stop_or_reload():
            await _reload(node, load)
    finally:
        _console.print("正在停止:挂断通话、写完记录、停止数据库 · stopping …")
        await node.stop()
        directory.instance_file.unlink(missing_ok=True)
    _console.print("已停止 · stopped")
    return 0


class _Signals:
    """SIGINT and SIGTERM stop in order, the second one at once; SIGHUP reloads."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self._news = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._news.set)

    def _stop(self) -> None:
        if self.stop.is_set():
            sys.stderr.write("已强制结束 · ended by force\n")
            os._exit(_FORCED)  # the kernel ends the stores with us
        self.stop.set()
        self._news.set()

    async def stop_or_reload(self) -> bool:
        """Wait for a signal; True to stop, False to reload."""
        await self._news.wait()
        self._news.clear()
        return self.stop.is_set()


async def _unless_stopped(work: object, signals: _Signals) -> None:
    """Await the start, or give it up when a signal comes first."""
    starting = asyncio.ensure_future(work)  # type: ignore[call-overload]
    stopping = asyncio.create_task(signals.stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not starting.done():
        starting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await starting
        return
    starting.result()


def _drain(node: Node) -> None:
    node.drain()
    _console.print("不再接新来电,现有通话继续 · takes no new calls, those in progress go on")
    sys.stdout.flush()


async def _reload(node: Node, load: Callable[[], Config]) -> None:
    try:
        # Reading is quick, but a file on a network may not be.
        remarks = await node.reload(await asyncio.to_thread(load))
    except ConfigError as error:
        _complain("配置未生效,沿用原配置 · the present configuration stays:")
        _complain(*(str(problem) for problem in error.problems))
        log.warning("configuration refused", problems=len(error.problems))
        return
    except PlatformError as error:
        _complain(f"配置未生效,沿用原配置 · the present configuration stays: {error.detail}")
        log.warning("configuration refused", reason=error.detail)
        return
    for remark in remarks:
        _console.print(remark, markup=False)
    _console.print("配置与流程已重新读取 · configuration and flows were read again")
    log.info("configuration reloaded", remarks=len(remarks))


def _announce(node: Node, directory: DataDirectory) -> None:
    directory.write_instance({"node": node.settings.node, "addresses": node.addresses})
    health = node.health()
    state = "可以接听来电 · takes calls" if health.takes_calls else "; ".join(health.reasons)
    _console.print(f"READY  {node.settings.node}  {state}", markup=False)
    for trouble in health.impaired:
        _console.print(f"  注意 note  {trouble}", markup=False)
    _console.print(f"  数据 data  {directory.root}", markup=False)
    for name, address in node.addresses.items():
        _console.print(f"  {name:<9}  {address}", markup=False)
    for line in how_to_call(node.settings, node.addresses, directory):
        _console.print(line, markup=False)
    _console.print("Ctrl-C 停止 · stops, SIGHUP 重新读取配置 · reads the configuration again")
    sys.stdout.flush()


def allow_open_files() -> None:
    """Ask for more files than the usual 1024: each connection and each media port is one."""
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if most == resource.RLIM_INFINITY else min(_OPEN_FILES, most)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def _with_ports(
    config: Config, sip_port: int | None, grpc_port: int | None, http_port: int | None
) -> Config:
    settings = config.settings
    changes: dict[str, object] = {}
    if sip_port is not None:
        listen = [
            one.model_copy(update={"port": sip_port}) if one.transport in {"udp", "tcp"} else one
            for one in settings.sip.listen
        ]
        changes["sip"] = settings.sip.model_copy(update={"listen": listen})
    if grpc_port is not None:
        changes["grpc"] = settings.grpc.model_copy(update={"port": grpc_port})
    if http_port is not None:
        changes["http"] = settings.http.model_copy(update={"port": http_port})
    return replace(config, settings=settings.model_copy(update=changes))


def _services(text: str) -> frozenset[Service]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = sorted(set(names) - set(Service))
    if unknown or not names:
        raise typer.BadParameter(
            f"{', '.join(unknown) or 'nothing'} is not one of {', '.join(sorted(ALL_SERVICES))}",
            param_hint="--services",
        )
    return frozenset(Service(name) for name in names)


def _tell(line: str) -> None:
    _console.print(line, markup=False)


def _complain(*lines: str) -> None:
    for line in lines:
        typer.echo(line, err=True)
