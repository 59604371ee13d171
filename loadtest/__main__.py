"""`python -m loadtest`: repeat the figures of docs/benchmarks.md on this machine."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from loadtest.concurrent_rtp import concurrent_run
from loadtest.failover import failover_run
from loadtest.flood import flood_run
from loadtest.media_soak import Sample, SoakResult, soak_run
from loadtest.register_run import Round, register_run
from loadtest.runs import Result, ivr_run, queue_run

app = typer.Typer(help="Bounded load on a platform of its own, on loopback.", no_args_is_help=True)
_console = Console()
_PACED_SHARE = 0.99
_PARTS = ("python", "media", "redis", "postgres")

Rate = Annotated[int, typer.Option(help="New calls a second.", min=1, max=2000)]
Seconds = Annotated[int, typer.Option(help="How long calls are started.", min=1, max=600)]


@app.command()
def ivr(
    rate: Rate = 100,
    seconds: Seconds = 20,
    engine: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="A running `cti95598 media`.")
    ] = "inside",
) -> None:
    """Callers who hear a prompt, press a key, and are thanked."""
    _show(lambda data: ivr_run(data, rate=rate, seconds=seconds, engine=engine))


@app.command()
def queue(
    rate: Rate = 30,
    seconds: Seconds = 20,
    agents: Annotated[int, typer.Option(help="Agents signed in.", min=1, max=2000)] = 200,
    talk_ms: Annotated[int, typer.Option(help="Length of a conversation.", min=100)] = 2000,
) -> None:
    """Callers who go to a queue, are answered by an agent's phone, recorded, and hung up on."""
    _show(lambda data: queue_run(data, rate=rate, seconds=seconds, agents=agents, talk_ms=talk_ms))


@app.command()
def flood(
    rate: Rate = 20,
    seconds: Seconds = 20,
    flood_rate: Annotated[
        int, typer.Option(help="Hostile datagrams a second.", min=1, max=20_000)
    ] = 3000,
) -> None:
    """Callers as of `ivr`, while others flood, scan, guess passwords and drip bytes."""
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
def rtp(
    calls: Annotated[int, typer.Option(help="Calls at once.", min=1, max=8000)] = 500,
    seconds: Seconds = 20,
) -> None:
    """Calls with sound both ways: music from the platform, a tone from each caller."""
    with tempfile.TemporaryDirectory(prefix="cti95598-load-") as data:
        result = asyncio.run(concurrent_run(Path(data), calls=calls, seconds=seconds))
    table = Table("figure", "value", title=f"{result.calls} calls for {result.seconds:.0f} s")
    table.add_row("packets sent, of those due", f"{result.sent_share:.2%}")
    table.add_row("sent within 1 ms of the deadline", f"{result.within('sent_within_1_ms'):.2%}")
    within_5_ms = result.within("sent_within_1_ms", "sent_within_5_ms")
    table.add_row("sent within 5 ms of the deadline", f"{within_5_ms:.2%}")
    table.add_row("rounds skipped", str(result.counts["skipped_rounds"]))
    table.add_row("packets lost on the way to callers", str(result.lost_at_callers))
    table.add_row("worst jitter at a caller", f"{result.worst_jitter_ms:.1f} ms")
    table.add_row(
        "media CPU a packet sent and one received", f"{result.media_us_per_packet:.2f} µs"
    )
    for part in _PARTS:
        share = result.cpu_s.get(part, 0.0) / result.seconds
        table.add_row(f"CPU of {part}", f"{share:.1%} of a core")
    _console.print(table)
    if within_5_ms < _PACED_SHARE:
        raise typer.Exit(1)


@app.command()
def register(
    rate: Rate = 2000,
    seconds: Annotated[int, typer.Option(help="How long phones refresh.", min=1, max=600)] = 10,
    users: Annotated[int, typer.Option(help="Phones.", min=1, max=50_000)] = 10_000,
) -> None:
    """Phones that register with a challenge each, then refresh by the nonce they have."""
    with tempfile.TemporaryDirectory(prefix="cti95598-load-") as data:
        rounds = asyncio.run(register_run(Path(data), rate=rate, seconds=seconds, users=users))
    table = Table(
        "figure", *(each.name for each in rounds), title=f"{users} phones, {rate} a second"
    )
    rows: dict[str, Callable[[Round], str]] = {
        "successful / failed": lambda each: f"{each.figures.successful} / {each.figures.failed}",
        "registrations a second": lambda each: f"{each.figures.rate:.0f}",
        "challenges": lambda each: str(each.figures.challenges),
        "retransmissions by phones": lambda each: str(each.figures.retransmissions),
        "wait for the 200, median": lambda each: f"{each.figures.wait_ms(0.5):.1f} ms",
        "wait for the 200, 99 %": lambda each: f"{each.figures.wait_ms(0.99):.1f} ms",
        "CPU a registration, all parts": lambda each: f"{each.cpu_ms():.3f} ms",
        "  of it python": lambda each: f"{each.cpu_ms('python'):.3f} ms",
        "  of it redis": lambda each: f"{each.cpu_ms('redis'):.3f} ms",
    }
    for name, show in rows.items():
        table.add_row(name, *(show(each) for each in rounds))
    _console.print(table)
    if any(each.figures.failed for each in rounds):
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


def _show(run: Callable[[Path], Coroutine[None, None, Result]]) -> None:
    with tempfile.TemporaryDirectory(prefix="cti95598-load-") as data:
        result = asyncio.run(run(Path(data)))
    _show_result(result)
    _check(result)


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
