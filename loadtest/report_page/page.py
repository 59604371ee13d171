"""The page of a report: the verdict first, then what a supervisor asks, then everything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from zoneinfo import ZoneInfo

import yaml

from loadtest.figures.causes import FAILED_BY_CAUSE
from loadtest.figures.names import PARTS, TIMER, Section, figure, with_timers
from loadtest.figures.report import Report
from loadtest.figures.thresholds import Judgement
from loadtest.report_page.plots import Line, Plot, histogram_svg
from loadtest.report_page.style import STYLE
from loadtest.summary import shown

_SHOWN_IN = ZoneInfo("Asia/Shanghai")
_TILES = (
    "offered_per_s", "completed", "failed_share", "live_max", "setup_p99_ms",
    "time_to_agent_p99_ms", "registered_per_s", "registration_p99_ms", "signed_in_per_s",
    "sign_in_p99_ms",
    "cpu_ms_per_call", "cpu_ms_per_registration", "cpu_cores", "paced_within_5_ms_share",
    "rtp_lost_share", "resident_mib_max",
)  # fmt: skip
_HISTOGRAMS = {
    "setup": "接通时间分布 · Set-up times",
    "time_to_agent": "至坐席应答时间分布 · Times to the agent",
    "refusal": "拒绝时间分布 · Times to a refusal",
    "registration": "注册时间分布 · Times of registrations",
    "sign_in": "签入时间分布 · Times of sign-ins",
}


def page(report: Report) -> str:
    """Return the page as one HTML document that asks nothing of any other machine."""
    name = escape(report.scenario.name)
    body = "".join((
        _head(report), _verdict(report), _thresholds(report.thresholds), _tiles(report),
        _plots(report), _failures(report), _figures(report), _machine(report), _scenario(report),
    ))  # fmt: skip
    return (
        '<!DOCTYPE html>\n<html lang="zh-CN"><head><meta charset="utf-8"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        '<meta http-equiv="Content-Security-Policy"'
        " content=\"default-src 'none'; style-src 'unsafe-inline'\"/>"
        f"<title>{name} · 压力测试报告</title><style>{STYLE}</style></head>"
        f"<body>{body}</body></html>\n"
    )


def _head(report: Report) -> str:
    began = report.began_at.astimezone(_SHOWN_IN)
    small = " · 小规模 smoke" if report.smoke else ""
    says = f"<p>{escape(report.scenario.says)}</p>" if report.scenario.says else ""
    return (
        f"<h1>{escape(report.scenario.name)}</h1>{says}"
        f'<p class="faint">压力测试报告 · Load test report{small} · '
        f"{began:%Y-%m-%d %H:%M:%S} (UTC+8)</p>"
    )


def _verdict(report: Report) -> str:
    if report.interrupted:
        return _banner("bad", "提前结束,数据不完整", "Ended early: not the figures of a whole run")
    if not report.thresholds:
        return _banner("", "场景没有设定指标", "The scenario sets no thresholds")
    if report.holds:
        return _banner("good", "✓ 全部达标", "All thresholds hold")
    missed = sum(not judgement.holds for judgement in report.thresholds)
    return _banner(
        "bad",
        f"✗ {missed} 项未达标,共 {len(report.thresholds)} 项",
        f"{missed} of {len(report.thresholds)} thresholds do not hold",
    )


def _banner(kind: str, zh: str, en: str) -> str:
    return f'<div class="verdict {kind}">{escape(zh)} · {escape(en)}</div>'


def _thresholds(judgements: Sequence[Judgement]) -> str:
    if not judgements:
        return ""
    rows = []
    for judgement in judgements:
        one = figure(judgement.threshold.figure)
        value = "–" if judgement.value is None else shown(one, judgement.value)
        mark = ("good", "✓ 达标 held") if judgement.holds else ("bad", "✗ 未达标 missed")
        rows.append(
            f'<tr><td class="{mark[0]}">{mark[1]}</td>'
            f"<td>{escape(one.zh)}<br/><span class='faint'>{escape(one.en)}</span></td>"
            f'<td class="number">{escape(value)}</td>'
            f"<td>{escape(judgement.zh)} · {escape(judgement.en)}</td>"
            f"<td><code>{escape(one.name)}</code></td></tr>"
        )
    return (
        "<h2>指标 · Thresholds</h2><table><thead><tr><th>结论 result</th><th>内容 figure</th>"
        '<th class="number">实测 measured</th><th>要求 bound</th><th>名称 name</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _tiles(report: Report) -> str:
    tiles = [
        f"<div class='tile'><b>{escape(shown(figure(name), report.figures[name]))}</b>"
        f"<span>{escape(figure(name).zh)}<br/>{escape(figure(name).en)}</span></div>"
        for name in _TILES
        if name in report.figures
    ]
    return f"<h2>概览 · At a glance</h2><div class='tiles'>{''.join(tiles)}</div>"


def _plots(report: Report) -> str:
    drawn = [plot.svg() for plot in _plots_of(report)]
    timers = [name for name in report.histograms if name.startswith(TIMER)]
    titles = {name: f"sipp 计时 · timer {name.removeprefix(TIMER)}" for name in timers}
    for name, title in (_HISTOGRAMS | titles).items():
        if name in report.histograms:
            marks = [
                (report.figures[f"{name}_{share}_ms"], share)
                for share in ("p50", "p99")
                if f"{name}_{share}_ms" in report.figures
            ]
            drawn.append(histogram_svg(title, report.histograms[name], marks))
    return f"<h2>过程 · How it went</h2><div class='plots'>{''.join(drawn)}</div>"


def _plots_of(report: Report) -> Iterator[Plot]:
    calls, platform = report.calls_each_s, report.platform_each_s
    marks = [(0.0, "计数 counted")]
    counted_s = report.figures.get("counted_s")
    if counted_s is not None:
        marks.append((counted_s, "止 end"))

    def of_calls(title: str, unit: str, *lines: tuple[str, str], peaks: bool = False) -> Plot:
        chosen = [Line(name, calls.get(column, []), peaks) for name, column in lines]
        return Plot(title, unit, calls.get("t_s", []), [each for each in chosen if each.values],
                    marks_s=marks)  # fmt: skip

    def of_platform(
        title: str, unit: str, *lines: tuple[str, str],
        is_stacked: bool = False, peaks: bool = False, top: float | None = None,
    ) -> Plot:  # fmt: skip
        chosen = [Line(name, platform.get(column, []), peaks) for name, column in lines]
        return Plot(title, unit, platform.get("t_s", []), [each for each in chosen if each.values],
                    is_stacked=is_stacked, top=top, marks_s=marks)  # fmt: skip

    yield of_calls(
        "每秒呼叫 · Calls a second", "1/s",
        ("发起 offered", "offered_per_s"), ("完成 completed", "completed_per_s"),
        ("失败 failed", "failed_per_s"),
    )  # fmt: skip
    yield of_calls("同时通话 · Calls at once", "", ("在途 live", "live"))
    yield of_calls(
        "接通时间 · Set-up time", "ms",
        ("中位 median", "setup_p50_ms"), ("99 %", "setup_p99_ms"), peaks=True,
    )  # fmt: skip
    yield of_calls(
        "至坐席应答 · Time to the agent", "ms",
        ("中位 median", "time_to_agent_p50_ms"), ("99 %", "time_to_agent_p99_ms"), peaks=True,
    )  # fmt: skip
    yield of_calls(
        "拒绝时间 · Time to a refusal", "ms",
        ("中位 median", "refusal_p50_ms"), ("99 %", "refusal_p99_ms"), peaks=True,
    )  # fmt: skip
    if "registered" in report.figures or "signed_in" in report.figures:
        yield of_calls(
            "每秒注册与签入 · Registrations and sign-ins a second", "1/s",
            ("注册 registered", "registered_per_s"), ("签入 signed in", "signed_in_per_s"),
        )  # fmt: skip
    yield of_platform(
        "占用核数 · Cores kept busy", "",
        *((part, f"cpu_{part}_cores") for part in PARTS),
        ("发生器 generator", "generator_cpu_cores"), ("其他进程 all else", "others_cpu_cores"),
        is_stacked=True,
    )  # fmt: skip
    yield of_platform("平台常驻内存 · Resident memory of the platform", "MiB",
                      ("内存 memory", "resident_mib"))  # fmt: skip
    yield of_platform(
        "按时发出的 RTP · RTP packets sent in time", "",
        ("1 ms 内 within 1 ms", "paced_within_1_ms_share"),
        ("5 ms 内 within 5 ms", "paced_within_5_ms_share"), top=1.0,
    )  # fmt: skip
    yield of_platform("事件循环延迟 99 % · Delay of the event loop, 99 %", "ms",
                      ("延迟 delay", "loop_delay_p99_ms"), peaks=True)  # fmt: skip
    yield of_platform(
        "平台持有 · What the platform holds", "",
        ("SIP 事务 transactions", "transactions"), ("SIP 会话 dialogs", "dialogs"),
        ("定时器 timers", "timers"), ("描述符 descriptors", "descriptors"),
    )  # fmt: skip


def _failures(report: Report) -> str:
    causes = [
        ("呼叫 calls", name.removeprefix(FAILED_BY_CAUSE), count)
        for name, count in report.figures.items()
        if name.startswith(FAILED_BY_CAUSE)
    ]
    causes += [
        ("注册 registrations", *each) for each in report.registrations_failed_by_cause.items()
    ]
    causes += [("签入 sign-ins", *each) for each in report.sign_ins_failed_by_cause.items()]
    if not causes:
        return ""
    rows = "".join(
        f"<tr><td>{of}</td><td>{escape(cause)}</td><td class='number'>{count:,.0f}</td></tr>"
        for of, cause, count in sorted(causes, key=lambda each: -each[2])
    )
    return (
        "<h2>失败原因 · Failures by cause</h2><table><thead><tr><th></th><th>原因 cause</th>"
        f'<th class="number">次数 count</th></tr></thead><tbody>{rows}</tbody></table>'
    )


def _figures(report: Report) -> str:
    return "".join(
        _matrix(section, report.figures) if section.families else _list(section, report.figures)
        for section in with_timers(report.figures)
    )


def _list(section: Section, figures: Mapping[str, float]) -> str:
    rows = "".join(
        f"<tr><td>{escape(one.zh)} <span class='faint'>{escape(one.en)}</span></td>"
        f"<td class='number'>{escape(shown(one, figures[one.name]))}</td>"
        f"<td><code>{escape(one.name)}</code></td></tr>"
        for one in section.figures
        if one.name in figures
    )
    if not rows:
        return ""
    return (
        f"<h2>{section.zh} · {section.en}</h2><table><thead><tr><th>内容 figure</th>"
        '<th class="number">数值 value</th><th>名称 name</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )


def _matrix(section: Section, figures: Mapping[str, float]) -> str:
    """A row a family, a column a member."""
    rows = []
    for family in section.families:
        names = [f"{family.name}_{member.name}" for member in section.members]
        if not any(name in figures for name in names):
            continue
        cells = "".join(
            f"<td class='number'>{escape(shown(figure(name), figures[name]))}</td>"
            if name in figures
            else "<td class='number'>–</td>"
            for name in names
        )
        rows.append(
            f"<tr><td>{escape(family.zh)} <span class='faint'>{escape(family.en)}</span></td>"
            f"{cells}<td><code>{escape(family.name)}_…</code></td></tr>"
        )
    if not rows:
        return ""
    heads = "".join(
        f"<th class='number'>{escape(member.zh)}<br/><code>…_{escape(member.name)}</code></th>"
        for member in section.members
    )
    return (
        f"<h2>{section.zh} · {section.en}</h2><table><thead><tr><th>内容 figure</th>{heads}"
        f"<th>名称 name</th></tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )


def _machine(report: Report) -> str:
    machine = report.machine
    versions = ", ".join(f"{name} {number}" for name, number in machine.versions.items())
    rows = (
        ("处理器 CPU", f"{machine.cores} × {machine.cpu}"),
        ("内存 memory", f"{machine.memory_mib:,} MiB"),
        ("系统 system", f"{machine.system}, Linux {machine.kernel}"),
        ("软件 software", f"{machine.python}, {versions}"),
        ("源码版本 revision", machine.revision),
    )
    cells = "".join(
        f"<tr><td>{name}</td><td>{escape(value)}</td></tr>" for name, value in rows if value
    )
    return f"<h2>机器 · Machine</h2><table><tbody>{cells}</tbody></table>"


def _scenario(report: Report) -> str:
    content = report.scenario.model_dump(mode="json", exclude_defaults=True)
    text = yaml.safe_dump(content, allow_unicode=True, sort_keys=False)
    return f"<h2>场景 · Scenario</h2><pre>{escape(text)}</pre>"
