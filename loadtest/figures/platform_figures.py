"""What the run cost and what was held: figures of the looks at processes and machine."""

from __future__ import annotations

from collections.abc import Sequence

from loadtest.figures.names import GAUGES, PARTS
from loadtest.figures.process_watch import LOOP_DELAY, ROW_DELAY, Look, Metrics
from loadtest.figures.series import delay_s, gauge, paced_share, platform_columns
from loadtest.figures.tally import Tally

_FEWEST_FOR_A_SLOPE = 20
"""Looks; through fewer a line says nothing of a minute."""


def platform_figures(tally: Tally, looks: Sequence[Look]) -> dict[str, float]:
    """Return the figures of this side; those without a value are left out."""
    counted = _counted(tally, looks)
    if len(counted) < 2:
        return {}
    first, last = counted[0], counted[-1]
    length_s = last.at_s - first.at_s
    figures = _cpu(tally, counted, length_s) | _generator(tally, first, last, length_s)
    figures |= _told(tally, counted)
    for name in GAUGES:
        figures |= _held(name, tally, counted) | _left(name, tally, looks)
    return figures


def _counted(tally: Tally, looks: Sequence[Look]) -> list[Look]:
    """Those from the end of the warm-up to the end of the last call."""
    if tally.counting_from_s is None:
        return []
    counted = [look for look in looks if look.at_s >= tally.counting_from_s]
    if tally.ended_s is None:
        return counted
    within = sum(look.at_s < tally.ended_s for look in counted)
    return counted[: within + 1]


def _cpu(tally: Tally, counted: Sequence[Look], length_s: float) -> dict[str, float]:
    before, after = counted[0].platform, counted[-1].platform
    if before is None or after is None:
        return {}
    spent = dict.fromkeys(PARTS, 0.0) | after.since(before)
    total = sum(spent.values())
    figures = {"cpu_cores": total / length_s}
    figures |= {f"cpu_{part}_cores": spent[part] / length_s for part in PARTS}
    seconds = platform_columns(counted, 0.0)
    figures["cpu_cores_max"] = max(_known(seconds.get("cpu_cores", [])), default=total / length_s)
    if tally.completed:
        figures["cpu_ms_per_call"] = 1000 * total / tally.completed
        without_media_s = total - spent["media"]
        figures["cpu_without_media_ms_per_call"] = 1000 * without_media_s / tally.completed
        figures |= {
            f"cpu_{part}_ms_per_call": 1000 * spent[part] / tally.completed for part in PARTS
        }
    elif not tally.offered and tally.registered:
        figures["cpu_ms_per_registration"] = 1000 * total / tally.registered
    elif not tally.offered and tally.signed_in:
        figures["cpu_ms_per_sign_in"] = 1000 * total / tally.signed_in
    return figures


def _generator(tally: Tally, first: Look, last: Look, length_s: float) -> dict[str, float]:
    own_s = sum(last.generator.since(first.generator).values())
    figures = {"generator_cpu_cores": own_s / length_s}
    if tally.offered and own_s:
        figures["generator_cpu_ms_per_call"] = 1000 * own_s / tally.offered
        figures["generator_calls_per_core"] = tally.offered / own_s
    machine_s = last.machine.total_s - first.machine.total_s
    if machine_s:
        figures["steal_share"] = (last.machine.stolen_s - first.machine.stolen_s) / machine_s
    if first.platform is not None and last.platform is not None:
        known_s = own_s + sum(last.platform.since(first.platform).values())
        busy_s = last.machine.busy_s - first.machine.busy_s
        figures["others_cpu_cores"] = max(0.0, busy_s - known_s) / length_s
    return figures


def _told(tally: Tally, counted: Sequence[Look]) -> dict[str, float]:
    answered = [look for look in counted if look.metrics is not None]
    figures: dict[str, float] = {}
    if len(answered) < 2:
        return figures
    figures["metrics_answer_max_ms"] = 1000 * max(look.answer_s or 0.0 for look in answered)
    figures["metrics_unanswered"] = len(counted) - len(answered)
    before, after = answered[0].metrics, answered[-1].metrics
    if before is None or after is None:
        return figures
    figures |= _pacing(before, after)
    figures["internal_errors"] = _grown(before, after, "sip_internal_errors_total")
    if tally.completed:
        trips = _grown(before, after, "redis_round_trips_total")
        figures["redis_round_trips_per_call"] = trips / tally.completed
    if delays := _grown(before, after, f"{LOOP_DELAY}_count"):
        figures["loop_delay_mean_ms"] = 1000 * _grown(before, after, f"{LOOP_DELAY}_sum") / delays
    if (bound := delay_s(LOOP_DELAY, before, after, 0.99)) is not None:
        figures["loop_delay_p99_ms"] = 1000 * bound
    if (bound := delay_s(ROW_DELAY, before, after, 0.99)) is not None:
        figures["row_delay_p99_ms"] = 1000 * bound
    return figures


def _pacing(before: Metrics, after: Metrics) -> dict[str, float]:
    sent = [f"media_sent_{within}" for within in ("within_1_ms", "within_5_ms", "later")]
    figures = {
        "paced_packets": sum(_grown(before, after, name) for name in sent),
        "skipped_rounds": _grown(before, after, "media_skipped_rounds"),
        "dropped_frames": _grown(before, after, "media_dropped_frames"),
    }
    within_1_ms = paced_share(before, after, "within_1_ms")
    within_5_ms = paced_share(before, after, "within_1_ms", "within_5_ms")
    if within_1_ms is not None and within_5_ms is not None:
        figures["paced_within_1_ms_share"] = within_1_ms
        figures["paced_within_5_ms_share"] = within_5_ms
    return figures


def _held(name: str, tally: Tally, counted: Sequence[Look]) -> dict[str, float]:
    values = [(look.at_s, value) for look in counted if (value := gauge(look, name)) is not None]
    if not values:
        return {}
    figures = {f"{name}_max": max(value for _, value in values), f"{name}_end": values[-1][1]}
    until_s = tally.offered_until_s if tally.offered_until_s is not None else values[-1][0]
    begin_s = values[0][0]
    from_s = begin_s + (until_s - begin_s) / 3
    late = [point for point in values if from_s <= point[0] <= until_s]
    if len(late) >= _FEWEST_FOR_A_SLOPE:
        figures[f"{name}_growth_per_min"] = 60 * slope(late)
    return figures


def _left(name: str, tally: Tally, looks: Sequence[Look]) -> dict[str, float]:
    """What there is more of, once all has settled, than before the first call."""
    calling_s, settled_s = tally.calling_from_s, tally.settled_s
    if calling_s is None or settled_s is None:
        return {}
    known = [(look.at_s, value) for look in looks if (value := gauge(look, name)) is not None]
    before = [value for at_s, value in known if at_s <= calling_s]
    after = [value for at_s, value in known if at_s <= settled_s]
    return {f"{name}_left": after[-1] - before[-1]} if before else {}


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the slope of the straight line through points by least squares; 0 of one place."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def _grown(before: Metrics, after: Metrics, name: str) -> float:
    return after.values.get(name, 0.0) - before.values.get(name, 0.0)


def _known(column: Sequence[float | None]) -> list[float]:
    return [value for value in column if value is not None]
