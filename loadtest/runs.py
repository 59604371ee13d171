"""Runs of bounded load against a platform of their own, with what each call cost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from demo.platform import RunningPlatform, configuration
from demo.ports import Ports, free_port, free_ports, wide_rtp
from loadtest.cpu import Usage, usage_of
from loadtest.rtp_capture import write_capture
from loadtest.sipp import CallFigures, SippRun

_FLOWS = Path(__file__).parent / "flows"
_TENANT = "demo"
_WARM_UP_CALLS = 20
_SIPP_MEDIA_PORT = 50_000


@dataclass(frozen=True, slots=True)
class Result:
    """A run's figures: what the generator saw, and what the platform spent."""

    name: str
    calls: CallFigures
    cpu_s: dict[str, float]
    resident_mib: float

    def cpu_ms_per_call(self, part: str | None = None) -> float:
        """CPU of one part, or of all, a successful call."""
        total = self.cpu_s.get(part, 0.0) if part else sum(self.cpu_s.values())
        return 1000 * total / self.calls.successful if self.calls.successful else 0.0


def load_ports(workers: int = 1) -> Ports:
    """Return free ports with an RTP range for thousands of legs."""
    rtp_min, rtp_max = wide_rtp()
    return replace(free_ports(workers=workers), rtp_min=rtp_min, rtp_max=rtp_max)


def load_configuration(ports: Ports, flow: str, agents: int) -> dict[str, Any]:
    """Return the demo configuration without its limits, bound to a flow of this directory."""
    config = configuration(ports)
    config["flows"] = str(_FLOWS)
    tenant = config["tenants"][0]
    tenant["access_codes"] = [{"code": "95598", "flow": flow}]
    tenant["trunks"] = [
        {
            "name": "load",
            "addresses": ["127.0.0.0/8"],
            "max_calls": 20_000,
            "max_calls_per_second": 5_000,
        }
    ]
    config["limits"] = {"max_calls": 20_000, "max_calls_per_second": 5_000}
    tenant["queues"] = [{"id": "load", "name": "压测", "after_call_work_s": 0}]
    tenant["agents"] = [
        {"id": number, "phone": number, "queues": ["load"]}
        for number in map(str, range(10_001, 10_001 + agents))
    ]
    return config


async def measured(
    platform: RunningPlatform, data: Path, scenario: str, rate: int, seconds: int, pause_ms: int
) -> Result:
    """Run callers of a scenario after a warm-up, and tell what they cost."""

    async def load(name: str, calls: int, per_s: int) -> CallFigures:
        return await callers_run(platform, data / name, scenario, calls, per_s, pause_ms=pause_ms)

    await load("warm-up", _WARM_UP_CALLS, _WARM_UP_CALLS)
    before = usage_of(platform.pid)
    calls = await load("load", rate * seconds, rate)
    after = usage_of(platform.pid)
    return Result(scenario, calls, after.since(before), _mib(after))


async def callers_run(
    platform: RunningPlatform,
    directory: Path,
    scenario: str,
    calls: int,
    per_s: int,
    *,
    pause_ms: int,
    media_port: int = _SIPP_MEDIA_PORT,
) -> CallFigures:
    """Let sipp's callers come at a rate, and wait until the last has gone.

    Runs side by side need media ports of their own. Callers who press a key press 1.
    """
    run = SippRun(directory, scenario, local_port=free_port(), media_port=media_port)
    write_capture(directory / "key.pcap", frequency_hz=0, duration_ms=200, keys={20: "1"})
    await run.start(
        remote(platform), "-s", "95598", "-d", str(pause_ms),
        "-m", str(calls), "-r", str(per_s), "-l", "20000",
    )  # fmt: skip
    return await run.wait(calls / per_s)


def phone_table(platform: RunningPlatform, directory: Path) -> tuple[Path, int]:
    """Write users and passwords of all phones as sipp reads them; return file and count."""
    rows = [
        f"{user};[authentication username={user} password={password}]"
        for user, password in platform.passwords().phones[_TENANT].items()
    ]
    directory.mkdir(parents=True, exist_ok=True)
    table = directory / "phones.csv"
    table.touch(mode=0o600)
    table.write_text("\n".join(["SEQUENTIAL", *rows, ""]))
    return table, len(rows)


def remote(platform: RunningPlatform) -> str:
    """Return where sipp sends to."""
    return f"{platform.sip.host}:{platform.sip.port}"


def _mib(usage: Usage) -> float:
    return usage.resident_bytes / 2**20
