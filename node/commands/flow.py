"""`cti95598 flow check`: tell a flow's designer what is wrong before callers notice."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ivr.loader import Loaded, flow_files, load_file
from node.config import ConfigError, load_config


def flow_check(
    paths: Annotated[
        list[Path],
        typer.Argument(help="流程文件或目录 · flow files or directories", exists=True),
    ],
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            metavar="FILE",
            help="配置文件,检查队列是否存在 · configuration whose queues the flows must name",
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(help="提醒也算不通过 · fail on warnings, too"),
    ] = False,
) -> None:
    """检查流程文件,一次列出全部问题 · Check flow files and list all that is wrong.

    以 0 结束表示可以使用,以 1 结束表示有错误。

    Ends with status 0 when the flows can be used and 1 when there are errors.
    """
    queues = None if config is None else _queues_of(config)
    results = [load_file(file, queues=queues) for file in flow_files(paths)]
    if not results:
        typer.echo("没有找到流程文件(*.yaml)\nno flow files (*.yaml) found")
        raise typer.Exit(1)
    for result in results:
        for problem in result.problems:
            typer.echo(problem)
    for line in map(_summary, results):
        typer.echo(line)
    twice = _names_given_twice(results)
    for name in twice:
        typer.echo(f"流程名“{name}”在多个文件中出现\n    flow {name!r} is in several files")
    failed = any(r.flow is None or (strict and r.problems) for r in results)
    raise typer.Exit(1 if failed or twice else 0)


def _queues_of(config: Path) -> frozenset[str]:
    try:
        return load_config(config).settings.queue_ids
    except ConfigError as error:
        for problem in error.problems:
            typer.echo(problem, err=True)
        raise typer.Exit(1) from None


def _summary(result: Loaded) -> str:
    errors = sum(problem.is_error for problem in result.problems)
    warnings = len(result.problems) - errors
    flow = result.flow
    if flow is None:
        zh, en = f"{errors} 个错误,{warnings} 个提醒", f"{errors} errors, {warnings} warnings"
        return f"✗ {result.file}:{zh} · {en}"
    count = len(flow.steps)
    return (
        f"✓ {result.file}:流程 {flow.name} 可用,{count} 个节点,{warnings} 个提醒"
        f" · flow {flow.name} is fine, {count} nodes, {warnings} warnings"
    )


def _names_given_twice(results: list[Loaded]) -> list[str]:
    names = [result.flow.name for result in results if result.flow is not None]
    return sorted({name for name in names if names.count(name) > 1})
