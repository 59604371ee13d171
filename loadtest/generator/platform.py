"""The platform under test: one of the run's own, or a running one."""

from __future__ import annotations

import contextlib
import math
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from demo.platform import RunningPlatform
from demo.ports import Ports
from loadtest.generator.sip_text import Address
from loadtest.runs import load_configuration, load_ports
from loadtest.scenario.model import Dial, Scenario
from node.workers import Worker, workers_of

_UNCALLED = "95598"
_UNCALLED_FLOW = Path(__file__).parents[1] / "flows" / "load-queue.yaml"
"""A platform has a number and a flow, though nobody may call them."""
_TENANT = "demo"
_QUEUE = "load"
_FIRST_AGENT = 10_001
_FIRST_PHONE = 200_000
_NO_SUCH_NUMBER = 404


@dataclass(frozen=True, slots=True)
class Entrance:
    """Where one worker of a platform is reached."""

    sip: Address
    grpc: str
    http: str


@dataclass(frozen=True, slots=True)
class UnderTest:
    """What the generator has to know of a platform."""

    sip: Address
    own_host: str
    """The address of this machine that the platform is reached from."""
    http: str = ""
    """Where its /metrics are; empty: unknown."""
    pid: int | None = None
    """Its process, when it runs on this machine as a child of ours."""
    grpc: str = ""
    tenant: str = _TENANT
    realm: str = ""
    agents: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Passwords of the agents who are to sign in."""
    agents_phones: Mapping[str, str] = field(default_factory=dict, repr=False)
    phones: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Passwords of the phones that only register."""
    data: Path | None = None
    """Its data directory."""
    others: tuple[Entrance, ...] = ()
    """Its workers beside the first: calls, phones and toolbars are spread over all."""

    other_pids: tuple[int, ...] = ()
    """Processes of it that are no children of `pid`."""

    @property
    def pids(self) -> tuple[int, ...]:
        """All its processes that are known, but for their children."""
        return (() if self.pid is None else (self.pid,)) + self.other_pids

    @property
    def entrances(self) -> tuple[Entrance, ...]:
        """All its workers."""
        return (Entrance(self.sip, self.grpc, self.http), *self.others)


@contextlib.asynccontextmanager
async def running_one(address: Address, http: str = "") -> AsyncIterator[UnderTest]:
    """Load a platform that runs already, which nothing is asked of but calls."""
    yield UnderTest(address, own_address(address), http)


@contextlib.asynccontextmanager
async def own_platform(scenario: Scenario, data: Path | None = None) -> AsyncIterator[UnderTest]:
    """Start a platform for this scenario, and end it; StartError tells why it does not start.

    Its data are in `data`, or in a directory that goes with it.
    """
    with contextlib.ExitStack() as stack:
        if data is None:
            data = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cti95598-load-")))
        ports = load_ports(scenario.platform.workers)
        workers = scenario.platform.workers
        arguments = ("--workers", str(workers)) if workers > 1 else ()
        configuration = _configuration(scenario, ports, data)
        platform = RunningPlatform(data, ports, configuration, arguments=arguments)
        try:
            await platform.start()
            yield _under_test(platform, scenario)
        finally:
            await platform.stop()


def own_address(remote: Address) -> str:
    """Return the address of this machine that leads to another one."""
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.connect(remote)
        return str(probe.getsockname()[0])


def _configuration(scenario: Scenario, ports: Ports, data: Path) -> dict[str, Any]:
    flows = data / "flows"
    flows.mkdir(parents=True)
    config = load_configuration(ports, _UNCALLED, agents=0)
    config["flows"] = str(flows)
    tenant = config["tenants"][0]
    flow, queues = _take_flow(Path(scenario.platform.flow or _UNCALLED_FLOW), flows)
    numbers = sorted(_dialled(scenario)) or [_UNCALLED]
    tenant["access_codes"] = [{"code": number, "flow": flow} for number in numbers]
    agents = scenario.agents
    work_s = math.ceil(agents.after_call_work_s) if agents is not None else 0
    tenant["queues"] = [
        {"id": each, "name": "压测", "after_call_work_s": work_s} for each in queues
    ]
    tenant["agents"] = [
        {"id": number, "phone": number, "queues": queues}
        for number in map(str, range(_FIRST_AGENT, _FIRST_AGENT + (agents.count if agents else 0)))
    ]
    if scenario.registrations is not None:
        last = _FIRST_PHONE + scenario.registrations.phones
        tenant["phones"] = list(map(str, range(_FIRST_PHONE, last)))
    return config


def _take_flow(file: Path, flows: Path) -> tuple[str, list[str]]:
    """Copy a flow, alone, with its recorded prompts; return its name and the queues it names."""
    text = file.read_text(encoding="utf-8")
    document = yaml.safe_load(text)
    name = str(document["flow"])
    (flows / f"{name}.yaml").write_text(text, encoding="utf-8")
    prompts = file.parent / "prompts"
    if prompts.is_dir():
        shutil.copytree(prompts, flows / "prompts")
    return name, sorted(set(_queues(document))) or [_QUEUE]


def _queues(part: object) -> Iterator[str]:
    if isinstance(part, dict):
        for key, value in part.items():
            if key == "queue" and isinstance(value, str):
                yield value
            else:
                yield from _queues(value)
    elif isinstance(part, list):
        for each in part:
            yield from _queues(each)


def _dialled(scenario: Scenario) -> set[str]:
    steps = [step for callers in scenario.callers for step in callers.steps]
    # Who expects to hear that there is no such number dials one that shall not be there.
    numbers = {
        step.number
        for step in steps
        if isinstance(step, Dial) and step.expect_status != _NO_SUCH_NUMBER
    }
    return numbers | {one.sipp.service for one in scenario.callers if one.sipp is not None}


def _under_test(platform: RunningPlatform, scenario: Scenario) -> UnderTest:
    passwords = platform.passwords()
    agents = passwords.agents.get(_TENANT, {})
    phones = passwords.phones.get(_TENANT, {})
    has_phones = scenario.registrations is not None
    return UnderTest(
        sip=(platform.sip.host, platform.sip.port),
        own_host="127.0.0.1",
        http=f"http://127.0.0.1:{platform.ports.http}",
        pid=platform.pid,
        grpc=platform.grpc,
        realm=_realm(platform),
        agents=agents,
        agents_phones={user: word for user, word in phones.items() if user in agents},
        phones={user: word for user, word in phones.items() if has_phones and user not in agents},
        data=platform.directory.root,
        others=tuple(
            _entrance(platform.ports, worker)
            for worker in workers_of(scenario.platform.workers)[1:]
        ),
    )


def _entrance(ports: Ports, worker: Worker) -> Entrance:
    return Entrance(
        ("127.0.0.1", worker.port(ports.sip)),
        f"127.0.0.1:{worker.port(ports.grpc)}",
        f"http://127.0.0.1:{worker.port(ports.http)}",
    )


def _realm(platform: RunningPlatform) -> str:
    config = yaml.safe_load((platform.directory.root / "config.yaml").read_text(encoding="utf-8"))
    return str(config["sip"]["realm"])
