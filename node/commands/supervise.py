"""`cti95598 serve --workers N`: what people see and send while many workers run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog
from rich.console import Console
from rich.table import Table

from domain.failures import PlatformError
from node.commands.running import Signals, complain, tell, unless_stopped
from node.config import Config, ConfigError
from node.data_directory import DataDirectory
from node.supervisor import Supervisor, leftovers

log = structlog.get_logger(__name__)

_console = Console(highlight=False, soft_wrap=True)


async def supervise(
    supervisor: Supervisor, directory: DataDirectory, load: Callable[[], Config]
) -> int:
    """Run until a signal says to stop; return the exit status."""
    signals = Signals()
    _console.print(_table(supervisor))
    await unless_stopped(supervisor.start(), signals)
    if signals.stop.is_set():
        await supervisor.stop()
        return 0
    signals.drain_by(supervisor.drain)
    _announce(supervisor, directory)
    try:
        while not await signals.stop_or_reload():
            await _reload(supervisor, load)
    finally:
        tell("正在停止:所有进程不再接新来电,挂断通话、写完记录、停止数据库 · stopping …")
        await supervisor.stop()
        directory.instance_file.unlink(missing_ok=True)
    tell("已停止 · stopped")
    return 0


async def _reload(supervisor: Supervisor, load: Callable[[], Config]) -> None:
    try:
        await supervisor.reload(await asyncio.to_thread(load))
    except PlatformError as error:
        complain("配置未生效,沿用原配置 · the present configuration stays:")
        told = error.problems if isinstance(error, ConfigError) else [error.detail]
        complain(*map(str, told))
        log.warning("configuration refused", reason=error.code)


def _table(supervisor: Supervisor) -> Table:
    table = Table(title="工作进程 · workers", title_justify="left")
    for heading in ("节点 node", "SIP", "gRPC", "HTTP", "RTP"):
        table.add_column(heading)
    for one in supervisor.workers:
        settings = one.config.settings
        sip = [f"{each.transport} {each.host}:{each.port}" for each in settings.sip.listen]
        table.add_row(
            one.name,
            "\n".join(sip),
            f"{settings.grpc.host}:{settings.grpc.port}",
            f"{settings.http.host}:{settings.http.port}",
            f"{settings.media.port_min}-{settings.media.port_max}",
        )
    return table


def _announce(supervisor: Supervisor, directory: DataDirectory) -> None:
    for left in leftovers(directory, supervisor.workers):
        tell(
            f"  注意 note  {left} 里还有待送的事件,用更多 --workers 再启动一次送出 · "
            "holds events to be sent: start once with more --workers"
        )
    tell(f"READY  {len(supervisor.workers)} 个进程都已就绪 · workers are there")
    tell(f"  数据 data  {directory.root}")
    tell(f"  Kamailio   {directory.dispatcher_list}")
    tell("Ctrl-C 停止 · stops, SIGHUP 重新读取配置 · reads the configuration again")
