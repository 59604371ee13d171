"""A run that is known call by call and look by look."""

from __future__ import annotations

from datetime import UTC, datetime

from loadtest.cpu import MachineTime, Usage
from loadtest.figures.machine import Machine
from loadtest.figures.process_watch import Look, Metrics
from loadtest.figures.report import Report, make_report
from loadtest.figures.series import Reading, read
from loadtest.figures.tally import LegFigures, Tally
from loadtest.scenario.model import Callers, Scenario, Steady, Threshold

MACHINE = Machine(
    cores=2,
    cpu="<b>cpu</b>",
    memory_mib=1024,
    kernel="6.1",
    system="Debian",
    python="CPython 3.11",
    versions={"cti95598": "0.1.0"},
    revision="abc1234",
)
BEGAN_AT = datetime(2026, 11, 21, 4, 0, tzinfo=UTC)


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def known_tally(clock: Clock) -> tuple[Tally, list[Reading]]:
    """Ten seconds of one call a second, each of 0.5 s, the last refused; then 2 s without."""
    tally = Tally(clock)
    readings = [read(tally)]
    tally.start_counting()
    for second in range(10):
        tally.begin_call()
        clock.now_s += 0.5
        if second < 9:
            tally.answered += 1
            tally.setup_s.add(0.010)
            tally.end_leg(LegFigures(sent=50, received=40, lost=1, jitter_ms=0.5 * second))
            tally.end_call()
        else:
            tally.refusal_s.add(0.002)
            tally.end_call("503")
        readings.append(read(tally))
        clock.now_s += 0.5
    tally.stop_offering()
    clock.now_s += 2
    tally.stop_counting()
    readings.append(read(tally))
    return tally, readings


def look(at_s: float, *, cpu_s: float, resident_mib: float = 100, sent: float = 0) -> Look:
    """A look at a platform that has spent so much, a third of it in Redis."""
    usage = Usage({"python": 2 * cpu_s / 3, "redis": cpu_s / 3}, int(resident_mib * 2**20), 40, 7)
    bins = {
        "event_loop_delay_seconds": {0.001: sent / 2, 0.01: sent, float("inf"): sent},
        "event_row_delay_seconds": {0.5: sent / 300, 1: sent / 100, float("inf"): sent / 100},
    }
    values = {
        "media_sent_within_1_ms": 0.9 * sent,
        "media_sent_within_5_ms": 0.05 * sent,
        "media_sent_later": 0.05 * sent,
        "media_skipped_rounds": 3.0,
        "media_dropped_frames": sent / 450,
        "redis_round_trips_total": 2 * sent,
        "sip_sessions": 5.0,
        "event_loop_delay_seconds_sum": 0.002 * sent,
        "event_loop_delay_seconds_count": sent,
    }
    generator = Usage({"python": cpu_s / 2}, 2**20, 9, 3)
    return Look(
        at_s,
        generator,
        MachineTime(busy_s=2 * cpu_s, stolen_s=at_s / 100, total_s=2 * at_s),
        usage,
        Metrics(values, bins),
        answer_s=0.004,
    )


def known_looks() -> list[Look]:
    """One a second, 0.09 s of CPU and 6 MiB a minute more each time, 900 packets sent in each."""
    return [
        look(second, cpu_s=0.09 * second, resident_mib=100 + 0.1 * second, sent=900 * second)
        for second in range(90, 115)
    ]


def known_report(*thresholds: Threshold, name: str = "known") -> Report:
    """The report of this run."""
    tally, readings = known_tally(Clock())
    scenario = Scenario(
        name=name,
        says="小于 < and <script>alert(1)</script>",
        duration_s=10,
        callers=(Callers(arrival=Steady(per_s=1)),),
        thresholds=thresholds,
    )
    return make_report(scenario, tally, readings, known_looks(), machine=MACHINE, began_at=BEGAN_AT)
