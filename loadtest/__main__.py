"""`python -m loadtest`: loads that are no scenario, such as attackers and what breaks.

Scenarios of load are played by `cti95598 loadtest run`.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.table import Table

from loadtest.acd_load import acd_run
from loadtest.capacity import (
    Capacity,
    calls_scenario,
    capacity_run,
    echoing_sipp,
    own_far_end,
    streams_scenario,
)
from loadtest.failover import failover_run
from loadtest.figures.names import figure
from loadtest.flood import flood_run
from loadtest.media_soak import Sample, SoakResult, soak_run
from loadtest.overload import OverloadResult, overload_run
from loadtest.records_load import records_run
from loadtest.runs import Result
from loadtest.summary import shown
from node.commands.serve import allow_open_files

app = typer.Typer(help="Bounded load on a platform of its own, on loopback.", no_args_is_help=True)
_console = Console()
_PARTS = ("python", "media", "redis", "postgres")
_CAPACITY_FIGURES = (
    "offered", "offered_per_s", "completed", "failed", "late_starts", "live_max", "live_mean",
    "retransmissions", "setup_p50_ms", "setup_p99_ms", "rtp_sent", "rtp_received", "rtp_lost",
    "jitter_max_ms", "generator_cpu_ms_per_call", "generator_cpu_cores", "generator_calls_per_core",
    "generator_live_per_core", "cpu_cores", "others_cpu_cores", "steal_share",
)  # fmt: skip

_OFFER_WITHIN_S = 0.05

Rate = Annotated[int, typer.Option(help="New calls a second.", min=1, max=2000)]
Seconds = Annotated[int, typer.Option(help="How long calls are started.", min=1, max=600)]


@app.command()
def flood(
    rate: Rate = 20,
    seconds: Seconds = 20,
    flood_rate: Annotated[
        int, typer.Option(help="Hostile datagrams a second.", min=1, max=20_000)
    ] = 3000,
) -> None:
    """Callers of an IVR, while others flood, scan, guess passwords and drip bytes."""
    with tempfile.TemporaryDirectory(prefix="cti95598-load-") as data:
        run = flood_run(Path(data), rate=rate, seconds=seconds, flood_rate=flood_rate)
        outcome = asyncio.run(run)
    _show_result(outcome.result)
    table = Table("hostile", "sent", title="flood beside it")
    for kind, count in outcome.sent.items():
        table.add_row(kind, str(count))
    _console.print(table)
    table = Table("address", "offence", title="shut out at the end")
    for address, offence in sorted(outcome.banned.items()):
        table.add_row(address, offence)
    _console.print(table)
    _check(outcome.result)


@app.command()
def failover(
    rate: Rate = 20,
    seconds: Seconds = 20,
    freeze: Annotated[bool, typer.Option(help="Silence it instead of killing it.")] = False,
) -> None:
    """Calls out over two carriers, one of which dies in the middle."""
    with tempfile.TemporaryDirectory(prefix="cti95598-load-") as data:
        result = asyncio.run(failover_run(Path(data), rate=rate, seconds=seconds, freeze=freeze))
    calls = result.calls
    table = Table("figure", "value", title="one of two carriers dies")
    table.add_row("calls successful / failed", f"{calls.successful} / {calls.failed}")
    table.add_row("INVITE to 200, mean", f"{calls.mean_answer_ms:.1f} ms")
    for at, carrier in enumerate(result.carriers, 1):
        table.add_row(f"calls and probes taken by carrier {at}", str(carrier.successful))
    _console.print(table)
    if calls.failed or not calls.successful:
        raise typer.Exit(1)


@app.command()
def overload(
    rate: Rate = 200,
    times: Annotated[float, typer.Option(help="Of the rate.", min=1, max=20)] = 2.0,
    seconds: Seconds = 15,
) -> None:
    """Callers at a rate, then so many times as many, then half as many: who is served?"""
    with tempfile.TemporaryDirectory(prefix="cti95598-load-") as data:
        run = overload_run(Path(data), rate=rate, times=times, seconds=seconds)
        result = asyncio.run(run)
    _show_overload(result, rate, times, seconds)


def _show_overload(result: OverloadResult, rate: int, times: float, seconds: int) -> None:
    table = Table(
        "figure",
        "before",
        "overload",
        "after",
        title=f"{rate}, {times * rate:.0f}, {rate // 2} a second",
    )
    phases = (result.before, result.during, result.after)
    table.add_row(
        "served / refused / failed",
        *(f"{one.successful} / {one.refused} / {one.failed - one.refused}" for one in phases),
    )
    table.add_row("INVITE to 200, mean, ms", *(f"{each.mean_answer_ms:.0f}" for each in phases))
    table.add_row("sent again by callers", *(str(each.retransmissions) for each in phases))
    _console.print(table)
    table = Table("figure", "value")
    table.add_row("served a second in the overload", f"{result.during.successful / seconds:.0f}")
    table.add_row("refused for want of time", f"{result.refused:.0f}")
    table.add_row("last of these after its end", f"{result.refused_last_after_s:.1f} s")
    for name, waits in (
        ("/healthz", result.probes.health_ms),
        ("toolbar's command", result.probes.toolbar_ms),
    ):
        waits.sort()
        middle, longest = waits[len(waits) // 2], waits[-1]
        table.add_row(f"{name}: median, longest", f"{middle:.0f}, {longest:.0f} ms")
    _console.print(table)


@app.command()
def acd(
    agents: Annotated[int, typer.Option(help="Who are signed in.", min=10, max=20_000)] = 2000,
    rate: Rate = 150,
    seconds: Seconds = 60,
) -> None:
    """The ACD alone: how soon is an agent offered, once a call and an agent are both there?"""
    with tempfile.TemporaryDirectory(prefix="cti95598-load-") as data:
        figures = uvloop.run(acd_run(Path(data), agents=agents, rate=rate, seconds=seconds))
    table = Table("figure", "value", title=f"{agents} agents, {rate} calls a second")
    table.add_row(
        "calls / served / failed", f"{figures.calls} / {figures.served} / {figures.failed}"
    )
    for name, waits in (
        ("call comes to an agent", figures.agent_waited),
        ("agent comes to a call", figures.call_waited),
    ):
        times = [1000 * s for s in (waits.share_s(0.5), waits.share_s(0.99), waits.max_s)]
        said = "{:.1f}, {:.1f}, {:.1f} ms".format(*times)
        table.add_row(f"{name}: count", str(waits.count))
        table.add_row(f"{name}: median, 99 %, longest", said)
    for name, cpu_s in (("Python", figures.python_cpu_s), ("Redis", figures.redis_cpu_s)):
        table.add_row(f"{name}'s CPU a call", f"{1000 * cpu_s / max(1, figures.calls):.2f} ms")
    table.add_row("round trips a call", f"{figures.round_trips / max(1, figures.calls):.2f}")
    _console.print(table)
    late = max(figures.agent_waited.share_s(0.99), figures.call_waited.share_s(0.99))
    if figures.failed or not figures.served or late > _OFFER_WITHIN_S:
        raise typer.Exit(1)


@app.command()
def records(
    rate: Rate = 150,
    seconds: Seconds = 30,
) -> None:
    """Events of calls through queue and agent until they are rows: what does a call cost?"""
    with tempfile.TemporaryDirectory(prefix="cti95598-load-") as data:
        figures = uvloop.run(records_run(Path(data), rate=rate, seconds=seconds))
    calls = figures.calls
    table = Table("figure", "value", title=f"records of {rate} calls a second")
    table.add_row("calls / whole in the records", f"{calls} / {figures.complete}")
    table.add_row("events / stored", f"{figures.events} / {figures.stored}")
    for name, cpu_s in (
        ("to make the events", figures.making_cpu_s),
        ("Python", figures.python_cpu_s),
        ("Redis", figures.redis_cpu_s),
        ("PostgreSQL", figures.postgres_cpu_s),
    ):
        table.add_row(f"CPU a call: {name}", f"{1000 * cpu_s / calls:.3f} ms")
    for name, count in figures.written.items():
        table.add_row(f"{name.replace('_', ' ')} a call", f"{count / calls:.2f}")
    _console.print(table)
    if figures.complete != calls:
        raise typer.Exit(1)


@app.command("media_soak")
def media_soak(
    calls: Annotated[int, typer.Option(help="Legs up at once.", min=3, max=5000)] = 1000,
    minutes: Annotated[float, typer.Option(help="How long.", min=0.2, max=1440)] = 30,
    seed: int = 1,
) -> None:
    """Calls that come and go on the media engine alone: nothing may grow, be lost or be late."""
    with tempfile.TemporaryDirectory(prefix="cti95598-soak-") as data:
        run = soak_run(Path(data), calls=calls, seconds=60 * minutes, seed=seed)
        result = asyncio.run(run)
    _show_soak(result, calls)
    if result.faults() or not result.is_flat() or not result.is_paced():
        raise typer.Exit(1)


def _show_soak(result: SoakResult, calls: int) -> None:
    table = Table("figure", "value", title=f"{calls} legs for {result.seconds / 60:.1f} minutes")
    for name, count in result.counts.items():
        table.add_row(name, f"{count:,}")
    pacing = result.pacing
    sent = max(1, pacing["packets_sent"])
    table.add_row("packets sent", f"{pacing['packets_sent']:,}")
    table.add_row("sent within 1 ms of the deadline", f"{pacing['sent_within_1_ms'] / sent:.3%}")
    table.add_row("sent within 5 ms of the deadline", f"{result.within_5_ms:.3%}")
    table.add_row("rounds skipped", str(pacing["skipped_rounds"]))
    stolen = f"{result.stolen_s / result.seconds:.1%} of a core"
    table.add_row("stolen by the hypervisor", stolen)
    table.add_row("CPU of the reactor", f"{pacing['reactor_cpu_us'] / 1e6 / result.seconds:.1%}")
    columns: dict[str, Callable[[Sample], int]] = {
        "resident memory, KiB": lambda one: one.resident_kib,
        "descriptors": lambda one: one.descriptors,
        "threads": lambda one: one.threads,
        "ports of both ends": lambda one: one.ports,
    }
    held = [result.before, result.steady[0], result.steady[-1], result.after]
    for name, of in columns.items():
        values = " / ".join(f"{of(one):,}" for one in held)
        table.add_row(f"{name}: before / warm / last / after", values)
    table.add_row("memory's slope", f"{result.kib_per_minute:+.1f} KiB a minute")
    table.add_row("memory's growth after the warm-up", f"{result.growth:+.2%}")
    _console.print(table)
    for fault in result.faults():
        _console.print(f"fault: {fault}")


@app.command()
def generator(
    rate: Rate = 500,
    seconds: Seconds = 20,
    streams: Annotated[
        int, typer.Option(help="Calls at once in place of a rate, RTP both ways.", min=0, max=5000)
    ] = 0,
    far_ends: Annotated[
        int, typer.Option(help="Processes of sipp that answer and echo calls.", min=1, max=8)
    ] = 2,
) -> None:
    """What one process of our generator can do: calls to sipp, or streams to another of ours."""
    allow_open_files()
    with tempfile.TemporaryDirectory(prefix="cti95598-load-") as data:
        if streams:
            run = capacity_run(streams_scenario(streams, seconds), own_far_end())
        else:
            run = capacity_run(calls_scenario(rate, seconds), echoing_sipp(Path(data), far_ends))
        result = uvloop.run(run)
    _show_capacity(result, f"{streams} streams" if streams else f"{rate} calls a second")
    if result.report.figures["failed"]:
        raise typer.Exit(1)


def _show_capacity(result: Capacity, title: str) -> None:
    figures = result.report.figures
    table = Table("figure", "value", title=title)
    for name in _CAPACITY_FIGURES:
        if name in figures:
            table.add_row(name, shown(figure(name), figures[name]))
    for whose, column in (("generator", "generator_cpu_cores"), ("far ends", "cpu_cores")):
        if (cores := result.while_full(column)) is not None:
            table.add_row(f"{whose} while all were up", f"{cores:.2f} cores")
    table.add_row("datagrams that the far ends had no room for", f"{result.dropped:,}")
    _console.print(table)


def _show_result(result: Result) -> None:
    calls = result.calls
    table = Table("figure", "value", title=result.name)
    table.add_row("calls successful / failed", f"{calls.successful} / {calls.failed}")
    table.add_row("calls a second over the whole run", f"{calls.rate:.1f}")
    table.add_row("INVITE to 200, mean", f"{calls.mean_answer_ms:.1f} ms")
    table.add_row("retransmissions by the generator", str(calls.retransmissions))
    table.add_row("CPU a call, all parts", f"{result.cpu_ms_per_call():.2f} ms")
    for part in _PARTS:
        table.add_row(f"  of it {part}", f"{result.cpu_ms_per_call(part):.2f} ms")
    table.add_row("resident memory at the end", f"{result.resident_mib:.0f} MiB")
    _console.print(table)


def _check(result: Result) -> None:
    if result.calls.failed or not result.calls.successful:
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
