"""`cti95598 bans`: which addresses are shut out, and an end to a ban that should not be."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from node.commands.gateway import Data, ask

_console = Console(highlight=False)

_OFFENCES = {
    "scanner": "扫描 · scanner",
    "authentication": "猜测密码 · guesses passwords",
    "unknown_caller": "陌生来源呼叫 · calls from an unknown address",
    "malformed": "畸形报文 · malformed messages",
    "broken_stream": "慢速或超长连接 · dripping or oversized streams",
    "flood": "流量过大 · flood",
}


def bans_command(
    lift: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="解除对此地址的封禁 · End the ban of this address."),
    ] = None,
    data: Data = Path(".data"),
) -> None:
    """封禁 · List the addresses that a running instance shuts out for a while, or lift a ban.

    An address that must never be shut out belongs into `sip.defence.allow` of the configuration.
    """
    if lift is not None:
        _lift(data, lift)
        return
    _, bans = ask(data, "/bans")
    if not bans:
        _console.print("没有封禁的地址 · no address is shut out")
        return
    table = Table("地址 address", "原因 offence", "剩余 lasts")
    for ban in bans:
        table.add_row(ban["address"], _OFFENCES[ban["offence"]], f"{ban['lasts_s']} s")
    _console.print(table)


def _lift(data: Path, address: str) -> None:
    status, _ = ask(data, f"/bans/{address}", method="DELETE")
    if status != 204:
        typer.echo(f"{address} 没有被封禁 · is not shut out", err=True)
        raise typer.Exit(1)
    _console.print(f"{address} 已解除封禁 · may send again")
