"""`cti95598 records`: the call records of an instance, running or not, for people or as JSON."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import asyncpg
import typer
from rich.console import Console
from rich.table import Table

from domain.failures import CATALOGUE, Code, PlatformError
from domain.masking import mask_number
from node.data_directory import DataDirectory, InstanceLock
from node.stores.postgres_server import PostgresServer
from recording.integrity import Integrity, verify
from reports.database import DATABASE_ERRORS
from reports.queries import CALENDAR, CallReport, RecordQueries, Row

_WIDTH_OF_A_FILE = 160

_console = Console(highlight=False)
if not _console.is_terminal:
    _console = Console(highlight=False, width=_WIDTH_OF_A_FILE)

_INTEGRITY_WORDS = {
    Integrity.INTACT: "完整 · intact",
    Integrity.CHANGED: "已被改动! · changed!",
    Integrity.MISSING: "文件缺失! · file is missing!",
    Integrity.UNFINISHED: "未完成 · unfinished",
}

Column = tuple[str, str]
"""Heading and column; a column's suffix says how it is shown."""

_CALLS: Sequence[Column] = (
    ("通话 call", "call_id"),
    ("来电时间 arrived", "arrived_at"),
    ("主叫 caller", "caller"),
    ("被叫 called", "called"),
    ("队列 queue", "queue"),
    ("坐席 agent", "agent"),
    ("时长 duration", "duration_ms"),
    ("结果 outcome", "outcome"),
)
_STEPS: Sequence[Column] = (
    ("步骤 step", "step"),
    ("节点 node", "flow_node"),
    ("类型 kind", "kind"),
    ("进入 entered", "entered_at"),
    ("时长 duration", "duration_ms"),
    ("按键 keys", "digits"),
    ("出口 exit", "exit"),
    ("备注 note", "note"),
)
_VISITS: Sequence[Column] = (
    ("队列 queue", "queue"),
    ("进入 queued", "queued_at"),
    ("等待 waited", "waited_ms"),
    ("优先级 priority", "priority"),
    ("结果 outcome", "outcome"),
    ("坐席 agent", "agent"),
)
_LEGS: Sequence[Column] = (
    ("话机 phone", "target"),
    ("开始 started", "started_at"),
    ("振铃 rang", "ring_ms"),
    ("通话 talked", "talk_ms"),
    ("SIP", "sip_status"),
    ("原因 cause", "cause"),
    ("收包 received", "packets_received"),
    ("丢包 lost", "packets_lost"),
    ("对端丢包 lost there", "far_packets_lost"),
    ("往返 round trip", "round_trip_ms"),
    ("语音质量 MOS", "mos"),
    ("最差 worst", "worst_mos"),
)


def records_command(
    call: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Show all of one call, by its id or SIP Call-ID."),
    ] = None,
    last: Annotated[int, typer.Option(min=1, max=10_000, help="How many calls to list.")] = 20,
    number_list: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="List only calls of a black or white list's numbers."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, numbers unmasked.")] = False,
    data: Annotated[
        Path,
        typer.Option("--data", "-d", metavar="DIR", envvar="CTI95598_DATA", help="Data directory."),
    ] = Path(".data"),
) -> None:
    """话单 · List call records, or show one call with its path, legs and recording.

    Reads the database of a running instance; of a stopped one it starts the database for a moment.
    """
    try:
        found = asyncio.run(_show(call, last, number_list, as_json, data))
    except PlatformError as error:
        typer.echo(error.detail or str(error), err=True)
        raise typer.Exit(1) from None
    if not found:
        typer.echo(f"没有这个通话 · there is no call {call}", err=True)
        raise typer.Exit(1)


async def _show(
    call_id: str | None, last: int, number_list: str | None, as_json: bool, data: Path
) -> bool:
    async with _records(data) as records:
        if call_id is None:
            rows = await records.latest_calls(last, number_list=number_list)
            if as_json:
                _print_json([dict(row) for row in rows])
            else:
                _console.print(_table("话单 · call records", _CALLS, rows))
            return True
        report = await records.call(call_id)
    if report is None:
        return False
    if as_json:
        _print_json(_plain(report))
    else:
        await _print_call(report)
    return True


@contextlib.asynccontextmanager
async def _records(data: Path) -> AsyncIterator[RecordQueries]:
    async with contextlib.AsyncExitStack() as stack:
        url = os.environ.get("DATABASE_URL") or await _embedded(data, stack)
        try:
            pool = await stack.enter_async_context(
                asyncpg.create_pool(url, min_size=1, max_size=2, timeout=5)
            )
            yield RecordQueries(pool)
        except asyncpg.UndefinedTableError:
            raise PlatformError(
                Code.STORE_UNAVAILABLE, "还没有话单 · there are no records yet"
            ) from None
        except DATABASE_ERRORS as error:
            raise PlatformError(
                Code.STORE_UNAVAILABLE, f"the database cannot be read: {error}"
            ) from error


async def _embedded(data: Path, stack: contextlib.AsyncExitStack) -> str:
    """Return the URL of the instance's database, started by us if nobody else runs it."""
    if not (data / "postgres" / "data").exists():
        raise PlatformError(
            Code.STORE_UNAVAILABLE, f"{data} 中没有数据 · holds no records; correct --data"
        )
    directory = DataDirectory.at(data)
    lock = InstanceLock(directory)
    server = PostgresServer(directory, lock)
    with contextlib.suppress(PlatformError):  # in use: the instance runs
        lock.acquire(wait_s=0)
        stack.callback(lock.release)
        stack.push_async_callback(server.stop)
        await server.start()
    return server.url


async def _print_call(report: CallReport) -> None:
    record = report.record
    facts = Table(title=f"通话 · call {record['call_id']}", show_header=False)
    for heading, value in _facts(record):
        if value:
            facts.add_row(heading, value)
    _console.print(facts)
    if report.steps:
        _console.print(_table("进线轨迹 · path", _STEPS, report.steps))
    if report.visits:
        _console.print(_table("排队 · queues", _VISITS, report.visits))
    if report.legs:
        _console.print(_table("话机 · phones rung", _LEGS, report.legs))
    for recording in report.recordings:
        state = await asyncio.to_thread(verify, Path(recording["path"]), recording["sha256"])
        _console.print(f"录音 · recording: {recording['path']}", soft_wrap=True)
        _console.print(
            f"  左声道 left: {recording['left_party'] or '-'}, "
            f"右声道 right: {recording['right_party'] or '-'}, "
            f"{_seconds(recording['duration_ms'])}, {_INTEGRITY_WORDS[state]}"
        )
        for start_ms, end_ms in recording["pauses_ms"]:
            _console.print(f"  暂停录音 paused: {_seconds(start_ms)} – {_seconds(end_ms)}")
        if recording["sha256"]:
            _console.print(f"  SHA-256 {recording['sha256']}", soft_wrap=True)


def _facts(record: Row) -> Sequence[tuple[str, str]]:
    return (
        ("租户 tenant", _text(record["tenant"])),
        ("节点 node", _text(record["node"])),
        ("来电时间 arrived", _moment(record["arrived_at"])),
        ("应答 answered", _moment(record["answered_at"])),
        ("结束 ended", _moment(record["ended_at"])),
        ("中继 trunk", _text(record["trunk"])),
        ("名单 number list", _text(record["number_list"])),
        ("主叫 caller", mask_number(record["caller"] or "")),
        ("被叫 called", _text(record["called"])),
        ("流程 flow", f"{record['flow'] or ''} {record['flow_version'] or ''}".strip()),
        ("队列 queue", _text(record["queue"])),
        ("坐席 agent", _text(record["agent"])),
        ("等待 waited", _seconds(record["wait_ms"])),
        ("振铃 rang", _seconds(record["ring_ms"])),
        ("通话 talked", _seconds(record["talk_ms"])),
        ("总时长 duration", _seconds(record["duration_ms"])),
        ("评价 rating", _text(record["rating"])),
        ("结果 outcome", _text(record["outcome"])),
        ("原因 cause", _cause(record["cause"])),
        ("挂机方 ended by", _text(record["ended_by"])),
        ("SIP", _text(record["sip_status"])),
        ("收包 received", _text(record["packets_received"])),
        ("丢包 lost", _text(record["packets_lost"])),
        ("对端丢包 lost there", _text(record["far_packets_lost"])),
        ("编码 codec", _text(record["codec"])),
        ("往返时延 round trip", _cell("round_trip_ms", record["round_trip_ms"])),
        ("语音质量 MOS", _cell("mos", record["mos"])),
        ("最差 worst", _cell("worst_mos", record["worst_mos"])),
    )


def _table(title: str, columns: Sequence[Column], rows: Sequence[Row]) -> Table:
    table = Table(title=title, title_justify="left")
    for heading, name in columns:
        table.add_column(heading, no_wrap=name == "call_id", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(name, row[name]) for _, name in columns))
    return table


def _cell(name: str, value: object) -> str:
    if isinstance(value, dt.datetime):
        return _moment(value)
    if isinstance(value, float):
        return f"{value:.0f} ms" if name.endswith("_ms") else f"{value:.2f}"
    if name.endswith("_ms"):
        return _seconds(value)
    if name == "caller":
        return mask_number(str(value or ""))
    return _cause(value) if name == "cause" else _text(value)


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _seconds(value: object) -> str:
    return f"{value / 1000:.1f} s" if isinstance(value, int) else ""


def _moment(value: dt.datetime | None) -> str:
    return f"{value.astimezone(CALENDAR):%Y-%m-%d %H:%M:%S}" if value else ""


def _cause(value: object) -> str:
    with contextlib.suppress(ValueError):
        return f"{CATALOGUE[Code(str(value))].zh} · {value}"
    return _text(value)


def _plain(report: CallReport) -> dict[str, Any]:
    return {
        "record": dict(report.record),
        "steps": [dict(row) for row in report.steps],
        "queues": [dict(row) for row in report.visits],
        "legs": [dict(row) for row in report.legs],
        "conversations": [dict(row) for row in report.conversations],
        "recordings": [dict(row) for row in report.recordings],
    }


def _print_json(value: Mapping[str, Any] | list[dict[str, Any]]) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2, default=_json_value))


def _json_value(value: object) -> str:
    return value.isoformat() if isinstance(value, dt.datetime) else str(value)
