"""Normal callers while others flood, scan, guess and drip: do the callers notice?"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from demo.platform import RunningPlatform
from loadtest.runs import Result, load_configuration, load_ports, measured

_CALLERS = "127.0.0.1/32"
_HEAD_START_S = 2


@dataclass(frozen=True, slots=True)
class FloodResult:
    """The callers' run, what was thrown at the platform beside it, and who was shut out."""

    result: Result
    sent: dict[str, int]
    banned: dict[str, str]
    """Offence by address."""


async def flood_run(data: Path, *, rate: int, seconds: int, flood_rate: int) -> FloodResult:
    """Callers at `rate` from a trunk, and `flood_rate` hostile datagrams a second from others."""
    ports = load_ports()
    config = load_configuration(ports, "load-ivr", agents=1)
    config["tenants"][0]["trunks"][0]["addresses"] = [_CALLERS]
    platform = RunningPlatform(data, ports, config)
    await platform.start()
    try:
        flooder = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "loadtest.flooder",
            "127.0.0.1", str(ports.sip), str(flood_rate), str(seconds + _HEAD_START_S),
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        result = await measured(platform, data, "ivr_caller", rate, seconds, pause_ms=1000)
        output, _ = await flooder.communicate()
        async with aiohttp.ClientSession() as session:
            response = await session.get(f"http://127.0.0.1:{ports.http}/bans")
            bans = await response.json()
    finally:
        await platform.stop()
    return FloodResult(result, json.loads(output), {b["address"]: b["offence"] for b in bans})
