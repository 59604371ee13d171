"""A flame graph of sampled stacks: one SVG without scripts, its colours those of the parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape

from loadtest.profile.stacks import OTHER, Frame, Part, Stacks, part_of, shares

_WIDTH = 1200
_ROW = 16
_TOP = 54
_FONT = 'font-family="Verdana, sans-serif" font-size="11"'
_LETTER = 6.4
_NARROWEST = 1.2
"""What has fewer pixels is left out, with all that it called."""


@dataclass(slots=True)
class _Box:
    """A function where it was called from there, with all that it called."""

    part: Part
    count: int = 0
    inner: dict[Frame, _Box] = field(default_factory=dict)


def flame_graph(stacks: Stacks, title: str) -> str:
    """Return the SVG; callbacks of the event loop are its lowest row."""
    root = _grown(stacks)
    boxes = list(_placed(root, 0.0, _WIDTH / (root.count or 1), 0))
    depth = max((row for *_, row in boxes), default=0) + 1
    height = _TOP + depth * _ROW + 8
    rows = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" {_FONT}>',
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="8" y="20" font-size="15">{escape(title)}</text>',
        *_key(stacks),
    ]
    for frame, box, x, width, row in boxes:
        y = height - 8 - (row + 1) * _ROW
        said = escape(f"{frame.function} ({frame.file}) {100 * box.count / root.count:.1f} %")
        rows.append(
            f'<g><title>{said}</title><rect x="{x:.1f}" y="{y}" width="{width:.1f}" '
            f'height="{_ROW - 1}" fill="{box.part.colour}"/>{_label(frame, x, y, width)}</g>'
        )
    return "\n".join([*rows, "</svg>", ""])


def _grown(stacks: Stacks) -> _Box:
    root = _Box(OTHER)
    for stack, count in stacks.items():
        root.count += count
        box = root
        for at, frame in enumerate(stack, 1):
            if frame not in box.inner:
                box.inner[frame] = _Box(part_of(stack[:at]))
            box = box.inner[frame]
            box.count += count
    return root


def _placed(
    box: _Box, x: float, per_sample: float, row: int
) -> Iterator[tuple[Frame, _Box, float, float, int]]:
    for frame, inner in sorted(box.inner.items(), key=lambda one: one[0].function):
        width = inner.count * per_sample
        if width >= _NARROWEST:
            yield frame, inner, x, width, row
            yield from _placed(inner, x, per_sample, row + 1)
        x += width


def _label(frame: Frame, x: float, y: int, width: float) -> str:
    letters = int((width - 4) / _LETTER)
    if letters < 3:
        return ""
    name = frame.function if len(frame.function) <= letters else frame.function[: letters - 1] + "…"
    return f'<text x="{x + 2:.1f}" y="{y + 11}">{escape(name)}</text>'


def _key(stacks: Stacks) -> Iterator[str]:
    x = 8.0
    for part, share in shares(stacks).items():
        said = f"{part.en} {100 * share:.1f} %"
        yield f'<rect x="{x:.0f}" y="32" width="11" height="11" fill="{part.colour}"/>'
        yield f'<text x="{x + 15:.0f}" y="42">{escape(said)}</text>'
        x += 30 + len(said) * _LETTER
