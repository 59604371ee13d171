"""Runs of bounded load against a platform of their own, with what each call cost."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agents.toolbar_client import ToolbarClient
from demo.platform import Ports, RunningPlatform, configuration, free_ports
from loadtest.cpu import Usage, usage_of
from loadtest.rtp_capture import write_capture
from loadtest.sipp import CallFigures, SippRun

_FLOWS = Path(__file__).parent / "flows"
_TENANT = "demo"
_WARM_UP_CALLS = 20
_SIGN_INS_AT_ONCE = 16
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


def load_ports() -> Ports:
    """Return free ports with an RTP range for thousands of legs."""
    return replace(free_ports(), rtp_min=20_000, rtp_max=44_999)


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


async def ivr_run(data: Path, *, rate: int, seconds: int, engine: str = "inside") -> Result:
    """Callers who hear a prompt, press a key and are thanked; `engine`: see media.engine."""
    ports = load_ports()
    config = load_configuration(ports, "load-ivr", agents=0)
    config["media"] = {**config.get("media", {}), "engine": engine}
    platform = RunningPlatform(data, ports, config)
    await platform.start()
    try:
        return await measured(platform, data, "ivr_caller", rate, seconds, pause_ms=1000)
    finally:
        await platform.stop()


async def queue_run(data: Path, *, rate: int, seconds: int, agents: int, talk_ms: int) -> Result:
    """Callers who go straight to a queue, are answered, recorded, and hung up on by the agent."""
    ports = load_ports()
    platform = RunningPlatform(data, ports, load_configuration(ports, "load-queue", agents))
    await platform.start()
    phones_port = free_udp_port()
    phones = SippRun(
        data / "phones", "agent_phone", local_port=phones_port, media_port=_SIPP_MEDIA_PORT + 100
    )
    toolbars: list[ToolbarClient] = []
    try:
        await _register_phones(platform, data, phones_port)
        await phones.start(remote(platform), "-d", str(talk_ms))
        toolbars = await _sign_in_all(platform)
        return await measured(platform, data, "queue_caller", rate, seconds, pause_ms=0)
    finally:
        for toolbar in toolbars:
            await toolbar.aclose()
        await phones.stop()
        await platform.stop()


async def measured(
    platform: RunningPlatform, data: Path, scenario: str, rate: int, seconds: int, pause_ms: int
) -> Result:
    """Run callers of a scenario after a warm-up, and tell what they cost."""

    async def load(name: str, calls: int, calls_per_s: int) -> CallFigures:
        run = SippRun(
            data / name, scenario, local_port=free_udp_port(), media_port=_SIPP_MEDIA_PORT
        )
        write_capture(data / name / "key.pcap", frequency_hz=0, duration_ms=200, keys={20: "1"})
        await run.start(
            remote(platform), "-s", "95598", "-d", str(pause_ms),
            "-m", str(calls), "-r", str(calls_per_s), "-l", "20000",
        )  # fmt: skip
        return await run.wait(calls / calls_per_s)

    await load("warm-up", _WARM_UP_CALLS, _WARM_UP_CALLS)
    before = usage_of(platform.pid)
    calls = await load("load", rate * seconds, rate)
    after = usage_of(platform.pid)
    return Result(scenario, calls, after.since(before), _mib(after))


async def _register_phones(platform: RunningPlatform, data: Path, phones_port: int) -> None:
    directory = data / "register"
    table, phones = phone_table(platform, directory)
    run = SippRun(
        directory, "register", local_port=free_udp_port(), media_port=_SIPP_MEDIA_PORT + 200
    )
    await run.start(
        remote(platform), "-inf", str(table), "-m", str(phones), "-r", "200",
        "-key", "phones_port", str(phones_port),
    )  # fmt: skip
    figures = await run.wait(phones / 200)
    if figures.successful != phones:
        raise RuntimeError(f"{figures.failed} of {phones} phones did not register")


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


async def _sign_in_all(platform: RunningPlatform) -> list[ToolbarClient]:
    passwords = platform.passwords().agents[_TENANT]
    places = asyncio.Semaphore(_SIGN_INS_AT_ONCE)

    async def sign_in(agent: str, password: str) -> ToolbarClient:
        async with places:
            toolbar = ToolbarClient(platform.grpc)
            response = await toolbar.sign_in(_TENANT, agent, password)
            ready = await toolbar.ready() if response.result.accepted else response.result
            if not ready.accepted:
                raise RuntimeError(f"agent {agent}: {ready.words_en}")
            return toolbar

    return await asyncio.gather(*(sign_in(*entry) for entry in passwords.items()))


def remote(platform: RunningPlatform) -> str:
    """Return where sipp sends to."""
    return f"{platform.sip.host}:{platform.sip.port}"


def free_udp_port() -> int:
    """Return a port that is free now."""
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _mib(usage: Usage) -> float:
    return usage.resident_bytes / 2**20
