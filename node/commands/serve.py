"""`cti95598 serve`: start the platform, say where it is and how to call it, and end in order."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import structlog
import typer
import uvloop

from domain.collector import leave_to_the_collector_what_comes
from domain.failures import PlatformError
from node.commands.running import Signals, complain, say_name, tell, unless_stopped
from node.commands.supervise import supervise
from node.config import DEMO_CONFIG, Config, ConfigError, load_config
from node.data_directory import DataDirectory
from node.heartbeat import Heartbeat
from node.how_to_call import how_to_call
from node.logs import configure_logs
from node.services import ALL_SERVICES, Service
from node.supervisor import HUNG_AFTER_S, Supervisor
from node.workers import MOST_WORKERS, PORT_STEP, Worker, worker_config, workers_of

if TYPE_CHECKING:
    from node.service import Node

log = structlog.get_logger(__name__)

_BAD_CONFIGURATION = 78  # EX_CONFIG of sysexits.h

_OPEN_FILES = 65_536
_PORT_MAX = 65535


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
    workers: Annotated[
        int,
        typer.Option(
            min=1,
            max=MOST_WORKERS,
            help="So many processes with one queue, for as many cores; see docs/operations.md.",
        ),
    ] = 1,
    port_step: Annotated[
        int, typer.Option(min=1, max=1000, help="From the ports of a worker to the next one's.")
    ] = PORT_STEP,
    hung_after: Annotated[
        int,
        typer.Option(
            min=3,
            max=3600,
            metavar="SECONDS",
            help="End a worker that does nothing for so long, and begin it again.",
        ),
    ] = HUNG_AFTER_S,
    worker: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """启动平台 · Start the platform and stay until Ctrl-C.

    Without --config it takes calls to 95598 from any loopback address (the demo configuration).
    SIGHUP reads configuration and flows again; where they have faults the present ones stay.
    SIGUSR1 drains: no new calls, those in progress go on. With --workers, signals go to all.
    """
    one = Worker.parse(worker) if worker else None

    def load() -> Config:
        loaded = _with_ports(load_config(config), sip_port, grpc_port, http_port)
        return loaded if one is None else worker_config(loaded, one)

    def command(each: Worker) -> list[str]:
        return [
            *(sys.executable, "-m", "node.cli", "serve", "--worker", str(each)),
            *("--config", str(config), "--data", str(data), "--services", services),
            *_port_options(sip_port, grpc_port, http_port),
        ]

    try:
        wanted = _services(services)
        loaded = load()
        directory = DataDirectory.at(data)
        if one is not None:
            name = loaded.settings.node
            directory = directory.of_worker(name)
            structlog.contextvars.bind_contextvars(node=name)
            say_name(name)
        configure_logs(directory.log)
        allow_open_files()
        if workers > 1:
            all_workers = workers_of(workers, port_step)
            supervisor = Supervisor(
                loaded,
                directory,
                all_workers,
                services=wanted,
                command=command,
                hung_after_s=hung_after,
            )
            status = uvloop.run(supervise(supervisor, directory, load))
        else:
            status = uvloop.run(_serve(loaded, directory, wanted, load, is_alone=one is None))
    except ConfigError as error:
        complain(*(str(problem) for problem in error.problems))
        raise typer.Exit(_BAD_CONFIGURATION) from None
    except PlatformError as error:
        complain(error.detail or str(error))
        raise typer.Exit(1) from None
    raise typer.Exit(status)


async def _serve(
    config: Config,
    directory: DataDirectory,
    services: frozenset[Service],
    load: Callable[[], Config],
    *,
    is_alone: bool,
) -> int:
    from node.service import Node  # noqa: PLC0415 - a supervisor does without all that comes with it

    signals = Signals()
    node = Node(config, directory, services=services, tell=tell)
    await unless_stopped(node.start(), signals)
    if signals.stop.is_set():
        await node.stop()
        return 0
    leave_to_the_collector_what_comes()
    with Heartbeat():
        return await _stay(node, directory, load, signals, is_alone=is_alone)


async def _stay(
    node: Node,
    directory: DataDirectory,
    load: Callable[[], Config],
    signals: Signals,
    *,
    is_alone: bool,
) -> int:
    # First: whoever reads the file that announces us may send the signal at once.
    signals.drain_by(partial(_drain, node))
    _announce(node, directory, is_alone=is_alone)
    try:
        while not await signals.stop_or_reload():
            await _reload(node, load)
    finally:
        tell("正在停止:挂断通话、写完记录、停止数据库 · stopping …")
        await node.stop()
        directory.instance_file.unlink(missing_ok=True)
    tell("已停止 · stopped")
    return 0


def _drain(node: Node) -> None:
    node.drain()
    tell("不再接新来电,现有通话继续 · takes no new calls, those in progress go on")


async def _reload(node: Node, load: Callable[[], Config]) -> None:
    try:
        # Reading is quick, but a file on a network may not be.
        remarks = await node.reload(await asyncio.to_thread(load))
    except ConfigError as error:
        complain("配置未生效,沿用原配置 · the present configuration stays:")
        complain(*(str(problem) for problem in error.problems))
        log.warning("configuration refused", problems=len(error.problems))
        return
    except PlatformError as error:
        complain(f"配置未生效,沿用原配置 · the present configuration stays: {error.detail}")
        log.warning("configuration refused", reason=error.detail)
        return
    for remark in remarks:
        tell(remark)
    tell("配置与流程已重新读取 · configuration and flows were read again")
    log.info("configuration reloaded", remarks=len(remarks))


def _announce(node: Node, directory: DataDirectory, *, is_alone: bool) -> None:
    directory.write_instance({"node": node.settings.node, "addresses": node.addresses})
    health = node.health()
    state = "可以接听来电 · takes calls" if health.takes_calls else "; ".join(health.reasons)
    # READY is said once, when all is there: programs wait for it.
    tell(f"READY  {node.settings.node}  {state}" if is_alone else f"就绪 ready  {state}")
    for trouble in health.impaired:
        tell(f"  注意 note  {trouble}")
    if not is_alone:
        return  # its supervisor has told the rest
    tell(f"  数据 data  {directory.root}")
    for name, address in node.addresses.items():
        tell(f"  {name:<9}  {address}")
    for line in how_to_call(node.settings, node.addresses, directory):
        tell(line)
    tell("Ctrl-C 停止 · stops, SIGHUP 重新读取配置 · reads the configuration again")


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


def _port_options(
    sip_port: int | None, grpc_port: int | None, http_port: int | None
) -> Iterator[str]:
    for option, port in (
        ("--sip-port", sip_port),
        ("--grpc-port", grpc_port),
        ("--http-port", http_port),
    ):
        if port is not None:
            yield from (option, str(port))


def _services(text: str) -> frozenset[Service]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = sorted(set(names) - set(Service))
    if unknown or not names:
        raise typer.BadParameter(
            f"{', '.join(unknown) or 'nothing'} is not one of {', '.join(sorted(ALL_SERVICES))}",
            param_hint="--services",
        )
    return frozenset(Service(name) for name in names)
