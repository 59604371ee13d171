"""A report's figures for a terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from loadtest.figures.causes import FAILED_BY_CAUSE
from loadtest.figures.names import Figure, Section, figure, with_timers
from loadtest.figures.report import Report


def summary(report: Report) -> RenderableType:
    """Return tables of all figures that the run has."""
    tables = [
        _matrix(section, report.figures) if section.families else _list(section, report.figures)
        for section in with_timers(report.figures)
    ]
    return Group(*(table for table in tables if table.row_count))


def _list(section: Section, figures: Mapping[str, float]) -> Table:
    table = _table(section)
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_column("含义")
    rows = [one for one in section.figures if one.name in figures]
    if section.name == "calls":
        rows += [figure(name) for name in figures if name.startswith(FAILED_BY_CAUSE)]
    for one in rows:
        table.add_row(escape(one.name), shown(one, figures[one.name]), escape(one.zh))
    return table


def _matrix(section: Section, figures: Mapping[str, float]) -> Table:
    """A row a family, a column a member."""
    table = _table(section)
    table.add_column("figure")
    for member in section.members:
        table.add_column(f"…_{member.name}", justify="right")
    for family in section.families:
        names = [f"{family.name}_{member.name}" for member in section.members]
        if any(name in figures for name in names):
            values = [
                shown(figure(name), figures[name]) if name in figures else "–" for name in names
            ]
            table.add_row(escape(family.name), *values)
    return table


def _table(section: Section) -> Table:
    return Table(title=f"{section.zh} · {section.en}", title_justify="left", box=box.SIMPLE)


def verdict(report: Report) -> str:
    """Return a line for each threshold, and one for the whole."""
    lines = []
    for judgement in report.thresholds:
        name = judgement.threshold.figure
        value = "–" if judgement.value is None else shown(figure(name), judgement.value)
        mark = "✓" if judgement.holds else "✗"
        lines.append(f"{mark} {name} = {value}  {judgement.zh} · {judgement.en}")
    if report.interrupted:
        lines.append("提前结束,结果不完整 · ended early: the figures are not those of a whole run")
    elif not report.thresholds:
        lines.append("场景没有设定指标 · the scenario sets no thresholds")
    elif report.holds:
        lines.append("✓ 全部达标 · all thresholds hold")
    else:
        missed = sum(not judgement.holds for judgement in report.thresholds)
        lines.append(f"✗ {missed} 项未达标 · {missed} thresholds do not hold")
    return "\n".join(lines)


def shown(one: Figure, value: float) -> str:
    """Return a figure as people read it, with its unit."""
    if one.unit == "share":
        return f"{value:.3%}"
    if value == int(value) and abs(value) < 1e15:
        number = f"{value:,.0f}"
    elif abs(value) >= 100:
        number = f"{value:,.1f}"
    else:
        number = f"{value:,.2f}" if abs(value) >= 1 else f"{value:.3g}"
    return f"{number} {one.unit}".rstrip()
