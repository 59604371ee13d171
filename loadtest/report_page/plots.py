"""Plots as SVG: lines, stacked areas and histograms, without a script and without colours.

Colours are the page's: each series has a class of its number, so that light, dark and print differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape

from loadtest.figures.report import Histogram
from loadtest.report_page.scale import Scale, nice_top, tick_text

_WIDTH, _HEIGHT = 720, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 12, 30
_MOST_POINTS = 480
_BINS_JOINED = 8
"""Bins of a histogram that make one bar: 19 % wide."""

Column = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Line:
    """A series with its name; None where it has no value."""

    name: str
    values: Column
    at_most: bool = False
    """Whether the largest of joined points is shown, and not their mean: for what must not peak."""


@dataclass(frozen=True, slots=True)
class Plot:
    """Lines over the seconds of a run, or areas one upon another."""

    title: str
    unit: str
    t_s: Column
    lines: Sequence[Line]
    is_stacked: bool = False
    top: float | None = None
    """The upper end of the axis, where it is known beforehand."""
    marks_s: Sequence[tuple[float, str]] = field(default=())

    def svg(self) -> str:
        """Draw it; empty when no line has a value."""
        # A line keeps its colour when others have no values and are left out.
        drawn = [each for each in enumerate(self.lines) if any(each[1].values)]
        drawn = drawn or [each for each in enumerate(self.lines) if _known(each[1].values)]
        if not drawn or len(self.t_s) < 2:
            return ""
        t_s, columns = _thin(self.t_s, [line for _, line in drawn])
        bottoms: list[list[float | None]] = [[0.0] * len(t_s) for _ in columns]
        if self.is_stacked:
            bottoms, columns = _stack(columns)
        x = Scale(t_s[0], max(t_s[-1], t_s[0] + 1), _LEFT, _WIDTH - _RIGHT)
        highest = max((max(_known(column), default=0.0) for column in columns), default=0.0)
        y = Scale(0, self.top or nice_top(highest), _HEIGHT - _BOTTOM, _TOP)
        parts = [_axes(x, y, "s")]
        for (number, _), values, lower in zip(drawn, columns, bottoms, strict=True):
            if self.is_stacked:
                parts.append(_area(number, t_s, values, lower, x, y))
            else:
                parts.append(_line(number, t_s, values, x, y))
        for at_s, name in self.marks_s:
            if x.low < at_s < x.high:
                parts.append(_mark(x.px(at_s), name))
        return _figure(self.title, self.unit, "".join(parts), drawn)


def histogram_svg(title: str, histogram: Histogram, marks_ms: Sequence[tuple[float, str]]) -> str:
    """Draw how often durations came, on a logarithmic axis; empty without any."""
    bars = _bars(histogram)
    if not bars:
        return ""
    low, high = bars[0][0] / 1.5, bars[-1][1] * 1.5
    x = Scale(low, high, _LEFT, _WIDTH - _RIGHT, is_logarithmic=True)
    y = Scale(0, nice_top(max(count for _, _, count in bars)), _HEIGHT - _BOTTOM, _TOP)
    parts = [_axes(x, y, "ms")]
    for lower, upper, count in bars:
        left, top = x.px(lower), y.px(count)
        width, height = max(1.0, x.px(upper) - left - 1), _HEIGHT - _BOTTOM - top
        tell = f"≤ {upper:.3g} ms: {count}"
        parts.append(
            f'<rect class="bar" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}"'
            f' height="{height:.1f}"><title>{tell}</title></rect>'
        )
    parts += [_mark(x.px(at_ms), name) for at_ms, name in marks_ms if low < at_ms < high]
    return _figure(title, "", "".join(parts), [])


def _bars(histogram: Histogram) -> list[tuple[float, float, int]]:
    """Join bins: each as lower and upper bound and count."""
    width = 2 ** (_BINS_JOINED / 32)
    joined: list[tuple[float, float, int]] = []
    for upper, count in zip(histogram.upper_ms, histogram.counts, strict=True):
        if joined and upper <= joined[-1][1] * (1 + 1e-6):
            lower, top, so_far = joined[-1]
            joined[-1] = (lower, top, so_far + count)
        else:
            lower = upper / 2 ** (1 / 32)
            joined.append((lower, lower * width, count))
    return joined


def _thin(t_s: Column, lines: Sequence[Line]) -> tuple[list[float], list[list[float | None]]]:
    """Join neighbouring points until there are few enough for a page."""
    size = -(-len(t_s) // _MOST_POINTS)
    places = range(0, len(t_s), size)
    times = [_known(t_s[at : at + size])[-1] for at in places]
    columns = []
    for line in lines:
        join: Callable[[list[float]], float] = max if line.at_most else _mean
        groups = (_known(line.values[at : at + size]) for at in places)
        columns.append([join(group) if group else None for group in groups])
    return times, columns


def _stack(
    columns: list[list[float | None]],
) -> tuple[list[list[float | None]], list[list[float | None]]]:
    bottoms, tops = [], []
    below: list[float | None] = [0.0] * len(columns[0])
    for column in columns:
        top: list[float | None] = [
            None if value is None or lower is None else lower + value
            for value, lower in zip(column, below, strict=True)
        ]
        bottoms.append(below)
        tops.append(top)
        below = top
    return bottoms, tops


def _line(number: int, t_s: list[float], values: Column, x: Scale, y: Scale) -> str:
    path, is_down = [], False
    for at_s, value in zip(t_s, values, strict=True):
        if value is None:
            is_down = False
            continue
        path.append(f"{'L' if is_down else 'M'}{x.px(at_s):.1f} {y.px(min(value, y.high)):.1f}")
        is_down = True
    # A point without neighbours would not be seen as a line.
    return f'<path class="line s{number}" d="{"".join(path)}h.01"/>'


def _area(number: int, t_s: list[float], tops: Column, bottoms: Column, x: Scale, y: Scale) -> str:
    points = [
        (x.px(at_s), y.px(min(top, y.high)), y.px(bottom))
        for at_s, top, bottom in zip(t_s, tops, bottoms, strict=True)
        if top is not None and bottom is not None
    ]
    there = "L".join(f"{at:.1f} {top:.1f}" for at, top, _ in points)
    back = "L".join(f"{at:.1f} {bottom:.1f}" for at, _, bottom in reversed(points))
    return f'<path class="area s{number}" d="M{there}L{back}Z"/>' if points else ""


def _axes(x: Scale, y: Scale, x_unit: str) -> str:
    floor = _HEIGHT - _BOTTOM
    parts = []
    for value in y.ticks():
        at = y.px(value)
        parts.append(
            f'<path class="grid" d="M{_LEFT} {at:.1f}H{_WIDTH - _RIGHT}"/>'
            f'<text class="tick" x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">'
            f"{tick_text(value)}</text>"
        )
    parts.append(f'<path class="axis" d="M{_LEFT} {floor}H{_WIDTH - _RIGHT}"/>')
    ticks = x.ticks(8)
    for value in ticks:
        unit = f" {x_unit}" if value == ticks[-1] else ""
        parts.append(
            f'<text class="tick" x="{x.px(value):.1f}" y="{floor + 18}" text-anchor="middle">'
            f"{tick_text(value)}{unit}</text>"
        )
    return "".join(parts)


def _mark(at_px: float, name: str) -> str:
    return (
        f'<path class="mark" d="M{at_px:.1f} {_TOP}V{_HEIGHT - _BOTTOM}"/>'
        f'<text class="tick" x="{at_px + 4:.1f}" y="{_TOP + 9}">{escape(name)}</text>'
    )


def _figure(title: str, unit: str, content: str, lines: Sequence[tuple[int, Line]]) -> str:
    keys = "".join(
        f'<span class="key"><i class="s{number}"></i>{escape(line.name)}</span>'
        for number, line in lines
    )
    unit = f' <span class="unit">{escape(unit)}</span>' if unit else ""
    return (
        f"<figure><figcaption>{escape(title)}{unit}</figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{content}</svg><p>{keys}</p></figure>"
    )


def _known(column: Column) -> list[float]:
    return [value for value in column if value is not None]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
