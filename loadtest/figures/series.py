"""How a run went, second by second."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from loadtest.cpu import Usage
from loadtest.figures.durations import Durations
from loadtest.figures.names import PARTS
from loadtest.figures.process_watch import LOOP_DELAY, Look, Metrics
from loadtest.figures.tally import Tally

Columns = dict[str, list[float | None]]
_MIB = 2**20

HELD: Mapping[str, Callable[[Usage], float]] = {
    "resident_mib": lambda usage: usage.resident_bytes / _MIB,
    "descriptors": lambda usage: float(usage.descriptors),
    "threads": lambda usage: float(usage.threads),
}
"""Gauges that the kernel knows."""
TOLD = {
    "transactions": "sip_transactions",
    "dialogs": "sip_sessions",
    "timers": "sip_timers",
    "platform_calls": "calls_live",
}
"""Gauges that the platform tells, by the names of its metrics."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the tally said at a time."""

    at_s: float
    offered: int
    completed: int
    failed: int
    live: int
    registered: int
    signed_in: int
    setup_s: Durations
    time_to_agent_s: Durations
    refusal_s: Durations


def read(tally: Tally) -> Reading:
    """Read the tally; only its own thread may."""
    return Reading(
        tally.clock_s(),
        tally.offered,
        tally.completed,
        tally.failed.total(),
        tally.live,
        tally.registered,
        tally.signed_in,
        tally.setup_s.copy(),
        tally.time_to_agent_s.copy(),
        tally.refusal_s.copy(),
    )


def gauge(look: Look, name: str) -> float | None:
    """Return what the platform held of this when it was looked at, if that is known."""
    if name in HELD:
        return None if look.platform is None else HELD[name](look.platform)
    return None if look.metrics is None else look.metrics.values.get(TOLD[name])


def paced_share(before: Metrics, after: Metrics, *within: str) -> float | None:
    """Return the share of the packets in between that were sent in time."""

    def grown(name: str) -> float:
        key = f"media_sent_{name}"
        return after.values.get(key, 0.0) - before.values.get(key, 0.0)

    sent = grown("within_1_ms") + grown("within_5_ms") + grown("later")
    return sum(map(grown, within)) / sent if sent > 0 else None


def delay_s(kind: str, before: Metrics, after: Metrics, share: float) -> float | None:
    """Return the bound of the bin that holds this share of the delays in between."""
    earlier = before.bins.get(kind, {})
    bins = {
        bound: count - earlier.get(bound, 0.0) for bound, count in after.bins.get(kind, {}).items()
    }
    total = max(bins.values(), default=0.0)
    if total <= 0:
        return None
    finite = [bound for bound in sorted(bins) if bound != float("inf")]
    return next((bound for bound in finite if bins[bound] >= share * total), finite[-1])


def call_columns(readings: Iterable[Reading], zero_s: float) -> Columns:
    """Return rates and times of calls between readings, `t_s` counted from `zero_s`."""
    columns: Columns = {}
    for before, after in pairwise(readings):
        length = after.at_s - before.at_s
        if length <= 0:
            continue
        row: dict[str, float | None] = {"t_s": after.at_s - zero_s, "live": after.live}
        for count in ("offered", "completed", "failed", "registered", "signed_in"):
            grown = getattr(after, count) - getattr(before, count)
            row[f"{count}_per_s"] = grown / length
        for time in ("setup", "time_to_agent", "refusal"):
            added: Durations = getattr(after, f"{time}_s").since(getattr(before, f"{time}_s"))
            for name, share in (("p50", 0.5), ("p99", 0.99)):
                row[f"{time}_{name}_ms"] = 1000 * added.share_s(share) if added.count else None
        _append(columns, row)
    return columns


def platform_columns(looks: Iterable[Look], zero_s: float) -> Columns:
    """Return what platform, generator and machine spent between looks and held at each."""
    columns: Columns = {}
    for before, after in pairwise(looks):
        length = after.at_s - before.at_s
        if length < 0.2:
            continue
        row: dict[str, float | None] = {"t_s": after.at_s - zero_s}
        row |= _cores(before, after, length)
        row |= {name: gauge(after, name) for name in (*HELD, *TOLD)}
        row |= _told(before.metrics, after.metrics)
        row["metrics_answer_ms"] = None if after.answer_s is None else 1000 * after.answer_s
        _append(columns, row)
    return columns


def _cores(before: Look, after: Look, length: float) -> dict[str, float | None]:
    spent = dict.fromkeys(PARTS, 0.0)
    known = before.platform is not None and after.platform is not None
    if before.platform is not None and after.platform is not None:
        spent |= after.platform.since(before.platform)
    generator = sum(after.generator.since(before.generator).values())
    busy = after.machine.busy_s - before.machine.busy_s
    others = max(0.0, busy - generator - sum(spent.values()))
    return {
        **{f"cpu_{part}_cores": spent[part] / length if known else None for part in PARTS},
        "cpu_cores": sum(spent.values()) / length if known else None,
        "generator_cpu_cores": generator / length,
        "others_cpu_cores": others / length,
    }


def _told(before: Metrics | None, after: Metrics | None) -> dict[str, float | None]:
    if before is None or after is None:
        return dict.fromkeys(
            ("paced_within_1_ms_share", "paced_within_5_ms_share", "skipped_rounds",
             "loop_delay_p99_ms")
        )  # fmt: skip
    delay = delay_s(LOOP_DELAY, before, after, 0.99)
    skipped = "media_skipped_rounds"
    return {
        "paced_within_1_ms_share": paced_share(before, after, "within_1_ms"),
        "paced_within_5_ms_share": paced_share(before, after, "within_1_ms", "within_5_ms"),
        "skipped_rounds": after.values.get(skipped, 0.0) - before.values.get(skipped, 0.0),
        "loop_delay_p99_ms": None if delay is None else 1000 * delay,
    }


def _append(columns: Columns, row: Mapping[str, float | None]) -> None:
    for name, value in row.items():
        columns.setdefault(name, []).append(value)
