"""`cti95598 trunks`: how the trunks of a running instance are, and the passwords of carriers."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from domain.failures import PlatformError
from node.config import DEMO_CONFIG, ConfigError, load_config
from node.credentials import ensure_credentials, set_trunk_password
from node.data_directory import DataDirectory

_WIDTH_OF_A_FILE = 180
_TIMEOUT_S = 5.0

_console = Console(highlight=False)
if not _console.is_terminal:
    _console = Console(highlight=False, width=_WIDTH_OF_A_FILE)

_STATES = {
    "up": "[green]正常 up[/]",
    "down": "[bold red]中断 down[/]",
    "unknown": "[yellow]未知 unknown[/]",
}
_REGISTRATIONS = {
    "registered": "[green]已注册 registered[/]",
    "trying": "[yellow]注册中 trying[/]",
    "failed": "[bold red]失败 failed[/]",
}
_INBOUND_ONLY = "[dim]仅呼入 inbound only[/]"

Row = Mapping[str, Any]


def trunks_command(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    set_password: Annotated[
        str | None,
        typer.Option(
            metavar="TENANT/TRUNK",
            help="Ask for the password agreed on with a trunk's carrier, and keep it.",
        ),
    ] = None,
    config: Annotated[
        Path,
        typer.Option("--config", "-c", metavar="FILE", help="For --set-password: configuration."),
    ] = DEMO_CONFIG,
    data: Annotated[
        Path,
        typer.Option("--data", "-d", metavar="DIR", envvar="CTI95598_DATA", help="Data directory."),
    ] = Path(".data"),
) -> None:
    """中继 · Show the trunks of a running instance: state, calls, probes, registrations."""
    try:
        if set_password is not None:
            _set_password(set_password, config, data)
            return
        rows = _rows(data)
    except ConfigError as error:
        for problem in error.problems:
            typer.echo(str(problem), err=True)
        raise typer.Exit(1) from None
    except PlatformError as error:
        typer.echo(error.detail or str(error), err=True)
        raise typer.Exit(1) from None
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False, indent=2))
    else:
        _console.print(_table(rows))


def _rows(data: Path) -> list[Row]:
    url = _gateway(data)
    try:
        with urllib.request.urlopen(f"{url}/trunks", timeout=_TIMEOUT_S) as reply:  # noqa: S310
            rows: list[Row] = json.load(reply)
    except (OSError, urllib.error.URLError, ValueError) as error:
        _give_up(f"实例没有回答 · the instance does not answer at {url}/trunks: {error}")
    return rows


def _gateway(data: Path) -> str:
    """Return the URL of the running instance's gateway."""
    try:
        instance = json.loads(DataDirectory(data.resolve()).instance_file.read_text("utf-8"))
        url = str(instance["addresses"]["http"])
    except (OSError, ValueError, KeyError, TypeError):
        _give_up(f"{data} 中没有运行的实例 · no instance with service http runs in {data}")
    if not url.startswith("http://"):
        _give_up(f"{data}: 实例文件不对 · the instance file is wrong")
    return url


def _table(rows: Sequence[Row]) -> Table:
    table = Table(title="中继 · trunks", title_justify="left")
    for heading in (
        "租户 tenant", "中继 trunk", "状态 state", "持续 for", "通话 calls", "每秒 CPS",
        "探测 last probe", "注册 registration", "最近故障 last failure",
    ):  # fmt: skip
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(
            row["tenant"],
            row["trunk"],
            _STATES[row["state"]] if row["is_outbound"] else _INBOUND_ONLY,
            _span(row["for_s"]),
            f"{row['calls']}/{row['max_calls']} (↑{row['outbound_calls']})",
            f"{row['calls_per_second']:g}/{row['max_calls_per_second']}",
            "\n".join(map(_hop, row["hops"])),
            "\n".join(map(_registration, row["registrations"])),
            _failure(row["hops"]),
        )
    return table


def _hop(hop: Row) -> str:
    notes = [hop["address"] or f"{hop['server']} 找不到 not found"]
    if hop["probed_ago_s"] is not None:
        notes.append(f"{_span(hop['probed_ago_s'])}前 ago")
    if len(notes) > 1 and hop["state"] != "up":
        notes.append(_STATES[hop["state"]])
    if hop["is_suspect"]:
        notes.append("[yellow]可疑 suspect[/]")
    if hop["rests_for_s"]:
        notes.append(f"[yellow]暂停 rests {_span(hop['rests_for_s'])}[/]")
    return " ".join(notes)


def _registration(one: Row) -> str:
    text = f"{_REGISTRATIONS[one['state']]} {_span(one['for_s'])}"
    return f"{text} {one['last_failure']}" if one["last_failure"] else text


def _failure(hops: Sequence[Row]) -> str:
    failed = [hop for hop in hops if hop["last_failure"]]
    if not failed:
        return ""
    last = min(failed, key=lambda hop: hop["last_failure_ago_s"] or 0.0)
    ago = (
        "" if last["last_failure_ago_s"] is None else f" {_span(last['last_failure_ago_s'])}前 ago"
    )
    return f"{last['last_failure']}{ago}"


def _span(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def _set_password(place: str, config: Path, data: Path) -> None:
    settings = load_config(config).settings
    tenant_id, _, name = place.partition("/")
    tenants = [tenant for tenant in settings.tenants if tenant.id == tenant_id]
    trunks = [trunk for tenant in tenants for trunk in tenant.trunks if trunk.name == name]
    if not trunks:
        known = ", ".join(f"{t.id}/{trunk.name}" for t in settings.tenants for trunk in t.trunks)
        _give_up(f"没有中继 {place} · there is no trunk {place}; known: {known[:500]}")
    (trunk,) = trunks
    if not (trunk.user or trunk.auth_user or trunk.register_ is not None):
        _give_up(
            f"{place} 不用密码 · uses no password: give it authentication: digest, auth_user or "
            "register"
        )
    password = typer.prompt(f"{place} 密码 · password", hide_input=True)
    directory = DataDirectory.at(data)
    ensure_credentials(settings, directory.secrets, directory.demo_credentials)
    set_trunk_password(directory.secrets, settings.sip.realm, tenant_id, trunk, password)
    typer.echo("已保存;向运行的实例发 SIGHUP · kept; send SIGHUP to a running instance")


def _give_up(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(1)
