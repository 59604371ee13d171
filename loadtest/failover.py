"""Calls to outside numbers over two carriers, of which one dies in the middle."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from demo.platform import RunningPlatform
from demo.ports import free_port
from loadtest.runs import load_configuration, load_ports, phone_table, remote
from loadtest.sipp import CallFigures, SippRun

_CARRIERS = ("127.0.0.2", "127.0.0.3")
_MEDIA_PORT = 50_000
_TALK_MS = 2000
_PROBED_S = 4.0
_PROBE = {"interval_s": 2, "timeout_s": 1, "down_after": 2}


@dataclass(frozen=True, slots=True)
class FailoverResult:
    """What callers saw, and how many calls each carrier took."""

    calls: CallFigures
    carriers: tuple[CallFigures, CallFigures]


async def failover_run(data: Path, *, rate: int, seconds: int, freeze: bool) -> FailoverResult:
    """Phones call outside at `rate`; the first carrier dies after half of the time.

    A killed one is told by ICMP, a frozen one by its silence only.
    """
    ports = load_ports()
    config = load_configuration(ports, "load-ivr", agents=50)
    servers = {host: f"{host}:{free_port()}" for host in _CARRIERS}
    config["tenants"][0]["trunks"] = [
        {"name": f"carrier{at}", "addresses": [host], "server": server, "probe": _PROBE}
        for at, (host, server) in enumerate(servers.items(), 1)
    ]
    # All phones call from one address, as those of an office behind NAT do.
    config["sip"]["defence"] = {"allow": ["127.0.0.1/32"]}
    platform = RunningPlatform(data, ports, config)
    carriers = [
        SippRun(
            data / f"carrier{at}",
            "carrier",
            host=host,
            local_port=int(server.rpartition(":")[2]),
            media_port=_MEDIA_PORT,
        )
        for at, (host, server) in enumerate(servers.items(), 1)
    ]
    first, second = carriers
    await platform.start()
    try:
        for carrier in carriers:
            await carrier.start(remote(platform))
        await asyncio.sleep(_PROBED_S)
        table, _ = phone_table(platform, data / "phones")
        callers = SippRun(
            data / "callers", "outside_caller", local_port=free_port(), media_port=_MEDIA_PORT
        )
        await callers.start(
            remote(platform), "-inf", str(table), "-d", str(_TALK_MS),
            "-m", str(rate * seconds), "-r", str(rate), "-l", "20000",
        )  # fmt: skip
        await asyncio.sleep(seconds / 2)
        if freeze:
            first.freeze()
        else:
            await first.stop()
        calls = await callers.wait(seconds)
        await second.stop()
    finally:
        for carrier in carriers:
            await carrier.stop()
        await platform.stop()
    return FailoverResult(calls, (first.figures(), second.figures()))
