"""What a run came to, in one document that machines and people can read."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from loadtest.figures.causes import FAILED_BY_CAUSE
from loadtest.figures.durations import Durations
from loadtest.figures.machine import Machine
from loadtest.figures.names import DURATIONS, TIMER
from loadtest.figures.platform_figures import platform_figures
from loadtest.figures.process_watch import Look
from loadtest.figures.series import Columns, Reading, call_columns, platform_columns
from loadtest.figures.tally import Tally
from loadtest.figures.thresholds import Judgement, judge
from loadtest.scenario.model import Callers, Scenario

MASK = "***"
_SHARES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


class Histogram(BaseModel):
    """How often durations came in bins; empty bins are left out."""

    model_config = ConfigDict(frozen=True)

    upper_ms: list[float]
    counts: list[int]


class Report(BaseModel):
    """One run. `figures` are those of `loadtest.figures.names`, `series` one row a second."""

    model_config = ConfigDict(frozen=True)

    report: Literal["cti95598.loadtest.1"] = "cti95598.loadtest.1"
    """The form of this document; another number when a name changes its meaning."""
    began_at: datetime
    smoke: bool
    interrupted: bool
    """Whether it was ended by hand: its thresholds say little then."""
    scenario: Scenario
    machine: Machine
    figures: dict[str, float]
    thresholds: list[Judgement]
    registrations_failed_by_cause: dict[str, int]
    sign_ins_failed_by_cause: dict[str, int]
    calls_each_s: Columns
    """Of the generator; `t_s` counts from the end of the warm-up."""
    platform_each_s: Columns
    histograms: dict[str, Histogram]

    @property
    def holds(self) -> bool:
        """Whether all thresholds hold."""
        return all(judgement.holds for judgement in self.thresholds)


def make_report(
    scenario: Scenario,
    tally: Tally,
    readings: list[Reading],
    looks: list[Look],
    *,
    machine: Machine,
    began_at: datetime | None = None,
    smoke: bool = False,
    interrupted: bool = False,
) -> Report:
    """Put together what was counted and seen."""
    figures = call_figures(tally, readings) | platform_figures(tally, looks)
    live, cores = figures.get("live_mean"), figures.get("generator_cpu_cores")
    if live and cores:
        figures["generator_live_per_core"] = live / cores
    zero_s = tally.counting_from_s if tally.counting_from_s is not None else tally.clock_s()
    end_s = tally.ended_s if tally.ended_s is not None else tally.clock_s()
    # The first second after the end shows that all is given back.
    seen = [look for look in looks if look.at_s <= end_s + 1.5]
    return Report(
        began_at=began_at or datetime.now(UTC),
        smoke=smoke,
        interrupted=interrupted,
        scenario=_without_keys(scenario),
        machine=machine,
        figures={name: round(value, 6) for name, value in figures.items()},
        thresholds=judge(scenario.thresholds, figures),
        registrations_failed_by_cause=dict(tally.registrations_failed),
        sign_ins_failed_by_cause=dict(tally.sign_ins_failed),
        calls_each_s=_rounded(call_columns(readings, zero_s)),
        platform_each_s=_rounded(platform_columns(seen, zero_s)),
        histograms={
            name: _histogram(durations)
            for name, durations in _all_durations(tally)
            if durations.count
        },
    )


def call_figures(tally: Tally, readings: list[Reading]) -> dict[str, float]:
    """Return the figures of the generator's side; those without a value are left out."""
    figures: dict[str, float] = {}
    counted_s = counted_time_s(tally)
    if counted_s:
        figures["counted_s"] = counted_s
    if tally.offered:
        figures |= _calls(tally, counted_s, readings)
    for name, durations in _all_durations(tally):
        figures |= _shares(name, durations)
    if tally.prompts_expected:
        figures["prompts_expected"] = tally.prompts_expected
        figures["prompts_recognised"] = tally.prompts_recognised
        figures["prompts_recognised_share"] = tally.prompts_recognised / tally.prompts_expected
    return figures | _rtp(tally) | _sign_ins(tally)


def counted_time_s(tally: Tally) -> float:
    """Return for how long calls were begun and counted, 0 of a run that did not come so far."""
    if tally.counting_from_s is None:
        return 0.0
    until_s = tally.offered_until_s if tally.offered_until_s is not None else tally.clock_s()
    return max(0.0, until_s - tally.counting_from_s)


def _calls(tally: Tally, counted_s: float, readings: list[Reading]) -> dict[str, float]:
    failed = tally.failed.total()
    figures: dict[str, float] = {
        "offered": tally.offered,
        "answered": tally.answered,
        "completed": tally.completed,
        "failed": failed,
        "failed_share": failed / tally.offered,
        "held_back": tally.held_back,
        "late_starts": tally.late_starts,
        "late_starts_share": tally.late_starts / tally.offered,
        "live_max": tally.peak,
        "live_end": tally.live,
        "retransmissions": tally.retransmissions,
        "retransmissions_received": tally.retransmissions_received,
    }
    figures |= {f"{FAILED_BY_CAUSE}{cause}": count for cause, count in tally.failed.items()}
    if counted_s:
        figures["offered_per_s"] = tally.offered / counted_s
        figures["completed_per_s"] = tally.completed / counted_s
    live = live_mean(tally, readings)
    if live is not None:
        figures["live_mean"] = live
    if tally.ended_s is not None and tally.offered_until_s is not None:
        figures["drain_s"] = max(0.0, tally.ended_s - tally.offered_until_s)
    return figures


def live_mean(tally: Tally, readings: list[Reading]) -> float | None:
    """Return how many calls were up at once until the last had ended, in the mean."""
    if tally.counting_from_s is None:
        return None
    until_s = tally.ended_s if tally.ended_s is not None else tally.clock_s()
    live = [one.live for one in readings if tally.counting_from_s <= one.at_s <= until_s]
    return sum(live) / len(live) if live else None


def _shares(name: str, durations: Durations) -> dict[str, float]:
    if not durations.count:
        return {}
    shares = {
        f"{name}_{title}_ms": 1000 * durations.share_s(share) for title, share in _SHARES.items()
    }
    return {
        f"{name}_mean_ms": 1000 * durations.mean_s,
        **shares,
        f"{name}_max_ms": 1000 * durations.max_s,
    }


def _rtp(tally: Tally) -> dict[str, float]:
    if not tally.rtp_sent and not tally.rtp_received:
        return {}
    figures: dict[str, float] = {
        "rtp_sent": tally.rtp_sent,
        "rtp_received": tally.rtp_received,
        "rtp_lost": tally.rtp_lost,
        "jitter_max_ms": tally.worst_jitter_ms,
    }
    if due := tally.rtp_received + tally.rtp_lost:
        figures["rtp_lost_share"] = tally.rtp_lost / due
    return figures


def _sign_ins(tally: Tally) -> dict[str, float]:
    figures: dict[str, float] = {}
    if tally.registered or tally.registrations_failed:
        figures["registered"] = tally.registered
        figures["registrations_failed"] = tally.registrations_failed.total()
        if tally.registering.s:
            figures["registered_per_s"] = tally.registered / tally.registering.s
    if tally.signed_in or tally.sign_ins_failed:
        figures["signed_in"] = tally.signed_in
        figures["sign_ins_failed"] = tally.sign_ins_failed.total()
        if tally.signing_in.s:
            figures["signed_in_per_s"] = tally.signed_in / tally.signing_in.s
    return figures


def _all_durations(tally: Tally) -> Iterator[tuple[str, Durations]]:
    for name in DURATIONS:
        yield name, getattr(tally, f"{name}_s")
    for timer, durations in tally.timers_s.items():
        yield TIMER + timer, durations


def _without_keys(scenario: Scenario) -> Scenario:
    """Hide what keywords of sipp's scenarios stand for: they are where passwords are written."""
    return scenario.model_copy(
        update={"callers": tuple(map(_callers_without_keys, scenario.callers))}
    )


def _callers_without_keys(callers: Callers) -> Callers:
    if callers.sipp is None or not callers.sipp.keys:
        return callers
    keys = dict.fromkeys(callers.sipp.keys, MASK)
    return callers.model_copy(update={"sipp": callers.sipp.model_copy(update={"keys": keys})})


def _histogram(durations: Durations) -> Histogram:
    bins = durations.histogram()
    return Histogram(
        upper_ms=[round(1000 * bound, 4) for bound, _ in bins], counts=[count for _, count in bins]
    )


def _rounded(columns: Columns) -> Columns:
    return {
        name: [None if value is None else round(value, 4) for value in column]
        for name, column in columns.items()
    }
