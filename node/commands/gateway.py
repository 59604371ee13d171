"""Asks a running instance over its HTTP gateway, on behalf of operators' commands."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any, NoReturn

import aiohttp
import typer

from node.data_directory import DataDirectory

_TIMEOUT_S = 5.0

Data = Annotated[
    Path,
    typer.Option(
        "--data",
        "-d",
        metavar="DIR",
        envvar="CTI95598_DATA",
        help="数据目录 · Data directory of the running instance.",
    ),
]


def ask(data: Path, path: str, *, method: str = "GET") -> tuple[int, Any]:
    """Return status and JSON of a page; ends the command, with a remedy, where nobody answers."""
    address = _address(data)
    try:
        return asyncio.run(_ask(address + path, method))
    except (aiohttp.ClientError, OSError, TimeoutError):
        _give_up(
            f"{address} 没有应答 · does not answer",
            "看实例是否在运行 · is the instance running? tail " + str(data / "log/platform.log"),
        )


def _address(data: Path) -> str:
    try:
        instance = json.loads(DataDirectory(data).instance_file.read_text(encoding="utf-8"))
        return str(instance["addresses"]["http"])
    except (OSError, ValueError, KeyError):
        _give_up(
            f"{data} 里没有运行中的实例,或它没有 http 服务 · no running instance with http there",
            "用 --data 指明数据目录 · name its data directory by --data",
        )


async def _ask(url: str, method: str) -> tuple[int, Any]:
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.request(method, url) as response,
    ):
        text = await response.text()
        return response.status, json.loads(text) if text else None


def _give_up(what: str, remedy: str) -> NoReturn:
    typer.echo(f"错误 error: {what}\n改法 remedy: {remedy}", err=True)
    raise typer.Exit(1)
