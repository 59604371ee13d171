"""Sampled stacks, and which part of the platform each of them was in."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

_FRAME = re.compile(r"(?P<function>.*) \((?P<file>[^():]*)(?::\d+)?\)$")
_RUNS_THE_LOOP = "asyncio/runners.py"
_OF_PYTHON = ("<", "asyncio/", "uvloop/", "threading.py", "concurrent/", "contextlib.py")


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the platform, and where its code is: what begins with one of `paths`."""

    zh: str
    en: str
    colour: str
    paths: tuple[str, ...]


OTHER = Part("其他", "other", "#ebe6dc", ())
PARTS = (
    Part(
        "信令",
        "SIP and SDP",
        "#8fb4ee",
        ("cti/sip/", "cti/sdp/", "cti/trunks/", "cti/admission.py"),
    ),
    Part("呼叫与媒体控制", "calls, media control", "#a8d5a2", ("cti/",)),
    Part("流程", "flows", "#f2cf7d", ("ivr/",)),
    Part(
        "排队与坐席",
        "ACD and agents",
        "#eda77c",
        ("routing/", "agents/", "grpc/", "cti/shared/contacts.py"),
    ),
    Part(
        "事件与记录",
        "events and records",
        "#d79bd0",
        (
            "reports/",
            "recording/",
            "node/event_",
            "domain/",
            "asyncpg/",
            "cti/shared/lamp_exchange.py",
        ),
    ),
    Part(
        "Redis 客户端",
        "Redis client",
        "#ef9a9a",
        ("redis/", "hiredis/", "node/stores/redis_round_trips.py"),
    ),
    Part(
        "节点",
        "node, HTTP",
        "#a3d3d6",
        ("node/", "uvicorn/", "fastapi/", "starlette/", "prometheus_client/"),
    ),
    OTHER,
)
"""A frame belongs to the part with the longest path that it begins with."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A function on a stack."""

    function: str
    file: str

    @property
    def part(self) -> Part | None:
        """Whose it is; None: Python's own, which works for whoever called it."""
        if self.file.startswith(_OF_PYTHON):
            return None
        _, part = max(
            (
                (len(path), part)
                for part in PARTS
                for path in part.paths
                if self.file.startswith(path)
            ),
            key=lambda found: found[0],
            default=(0, None),
        )
        return part


Stacks = Mapping[tuple[Frame, ...], int]


def read_stacks(lines: Iterable[str]) -> Stacks:
    """Count the stacks of py-spy's `raw` format: `function (file:line);... count`.

    What runs the event loop is cut off, so a stack begins with a callback. One in the loop alone
    is left out: it was waiting, but for 2 to 4 % of the thread's time that its own code takes, by
    perf. Lines of another form are passed over.
    """
    stacks: Counter[tuple[Frame, ...]] = Counter()
    for line in lines:
        text, _, count = line.rstrip().rpartition(" ")
        if count.isdecimal() and (stack := _from_the_loop(tuple(_frames(text)))):
            stacks[stack] += int(count)
    return stacks


def _frames(text: str) -> Iterator[Frame]:
    for one in text.split(";"):
        if found := _FRAME.match(one):
            yield Frame(found["function"], found["file"])


def _from_the_loop(stack: tuple[Frame, ...]) -> tuple[Frame, ...]:
    at = max((at for at, one in enumerate(stack) if one.file == _RUNS_THE_LOOP), default=-1)
    return stack[at + 1 :]


def part_of(stack: tuple[Frame, ...]) -> Part:
    """Return the part that the innermost frame of ours, or of a library of ours, belongs to."""
    return next((part for one in reversed(stack) if (part := one.part) is not None), OTHER)


def shares(stacks: Stacks) -> dict[Part, float]:
    """Return the share of each part, most first."""
    counts: Counter[Part] = Counter()
    for stack, count in stacks.items():
        counts[part_of(stack)] += count
    total = counts.total() or 1
    return {part: count / total for part, count in counts.most_common()}
