"""What a test with peers works with: the platform, phones, toolbars, records."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import asyncpg

from agents.toolbar_client import ToolbarClient
from cti import audio
from cti.phone import Phone, PhoneSettings
from cti.rtp_port import MediaRouter
from cti95598.agents.v1 import agents_pb2 as pb
from demo.platform import RunningPlatform
from recording.integrity import Integrity, verify
from reports.queries import CallReport, RecordQueries, Row
from tests.peers.waiting import wait_until

TENANT = "demo"
_callers = itertools.count(1)


class Toolbar:
    """A signed-in agent who follows the event stream."""

    def __init__(self, client: ToolbarClient, agent: str) -> None:
        self.client = client
        self.agent = agent
        self.events: list[pb.AgentEvent] = []

    @property
    def state(self) -> int:
        return self.events[-1].state if self.events else pb.AGENT_STATE_UNSPECIFIED

    async def follow(self) -> None:
        async for event in self.client.events():
            self.events.append(event)

    async def reached(
        self, state: pb.AgentState.ValueType, timeout_s: float = 15.0
    ) -> pb.AgentEvent:
        """Wait until the state is passed, also one that is over by now; return its event."""

        def found() -> pb.AgentEvent | None:
            return next((event for event in self.events if event.state == state), None)

        name = pb.AgentState.Name(state)
        await wait_until(lambda: found() is not None, timeout_s, f"{self.agent} {name}")
        event = found()
        assert event is not None
        return event


@dataclass
class Bench:
    """The running platform and ways to it."""

    platform: RunningPlatform
    media: MediaRouter
    records: RecordQueries
    root: Path
    tls_port: int
    authority: Path
    """The certificate of the authority that signed the platform's."""
    _directories: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def directory(self, name: str) -> Path:
        """A fresh path for a peer's files."""
        return self.root / "peers" / f"{next(self._directories)}-{name}"

    @property
    def server(self) -> str:
        return f"127.0.0.1:{self.platform.ports.sip}"

    def server_over(self, transport: str) -> str:
        """Host and port of one of its listeners."""
        return f"127.0.0.1:{self.tls_port}" if transport == "tls" else self.server

    @property
    def realm(self) -> str:
        return "cti95598"

    def platform_log(self) -> str:
        return self.platform.log.read_text(errors="replace")

    async def metric(self, name: str) -> float:
        """The sum of a counter over its labels."""
        text = await self._get("/metrics")
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if line.startswith((f"{name} ", f"{name}{{"))
        )

    async def is_healthy(self) -> bool:
        try:
            await self._get("/healthz")
        except (aiohttp.ClientError, TimeoutError):
            return False
        return True

    async def _get(self, path: str) -> str:
        url = f"http://127.0.0.1:{self.platform.ports.http}"
        timeout = aiohttp.ClientTimeout(total=5)
        async with (
            aiohttp.ClientSession(url, timeout=timeout, raise_for_status=True) as client,
            client.get(path) as response,
        ):
            return await response.text()

    def child(self, program: str) -> int:
        """The process id of a store of the platform, 0 while there is none."""
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
            except OSError:
                continue  # it has just ended
            if name == program and int(rest.split()[1]) == self.platform.pid:
                return int(stat.parent.name)
        return 0

    def caller_number(self) -> str:
        """A number no other call of this run has."""
        return f"1360000{next(_callers):04d}"

    def phone_password(self, user: str) -> str:
        return self.platform.passwords().phones[TENANT][user]

    @asynccontextmanager
    async def phone(
        self, user: str, *, register: bool = False, auto_answer: bool = False
    ) -> AsyncIterator[Phone]:
        """A phone of ours, as caller or registered as an agent's."""
        phone = Phone(PhoneSettings(user=user, auto_answer=auto_answer), self.media)
        await phone.open()
        try:
            if register:
                await phone.register(self.platform.sip, self.phone_password(user))
            yield phone
        finally:
            await phone.aclose()

    @asynccontextmanager
    async def toolbar(self, agent: str, *, ready: bool = True) -> AsyncIterator[Toolbar]:
        """An agent, signed in and ready."""
        client = ToolbarClient(self.platform.grpc)
        toolbar = Toolbar(client, agent)
        password = self.platform.passwords().agents[TENANT][agent]
        signed_in = await client.sign_in(TENANT, agent, password)
        assert signed_in.result.accepted, signed_in.result
        following = asyncio.create_task(toolbar.follow())
        try:
            if ready:
                result = await client.ready()
                assert result.accepted, result
            yield toolbar
        finally:
            await client.sign_out()
            following.cancel()
            await client.aclose()

    async def record_of(self, caller: str, *, timeout_s: float = 15.0) -> CallReport:
        """The finished call of a caller, with its recordings indexed."""
        report: CallReport | None = None

        async def finished() -> bool:
            nonlocal report
            try:
                rows = await self.records.latest_calls(20)
            except (OSError, asyncpg.PostgresError):
                return False  # a test has just killed it
            row: Row | None = next((row for row in rows if row["caller"] == caller), None)
            if row is None or row["ended_at"] is None:
                return False
            report = await self.records.call(row["call_id"])
            return report is not None and all(one["sha256"] for one in report.recordings)

        await wait_until(finished, timeout_s, f"record of the call from {caller}")
        assert report is not None
        return report

    def recording_begun(self, since: float) -> Callable[[], bool]:
        """Whether a recording of at least three seconds has been written since then."""

        def begun() -> bool:
            return any(
                path.stat().st_mtime > since and path.stat().st_size > 3 * 32_000
                for path in self.platform.directory.recordings.rglob("*.wav")
            )

        return begun


def dual_channel(report: CallReport) -> tuple[audio.Sound, audio.Sound]:
    """The call's only recording: intact, caller left, agent right."""
    (row,) = report.recordings
    path = Path(row["path"])
    assert verify(path, row["sha256"]) is Integrity.INTACT
    left, right = audio.read_wav(path)
    return left, right


def hears(sound: audio.Sound, hertz: int, *, not_hertz: int, at_least_ms: int = 1000) -> None:
    """Check that one tone is heard for some time, and another never."""
    heard_ms = sum(span.duration_ms for span in audio.tone_spans(sound, hertz))
    assert heard_ms >= at_least_ms, f"{hertz} Hz for {heard_ms} ms of {sound.duration_ms} ms"
    assert not audio.tone_spans(sound, not_hertz), f"{not_hertz} Hz is heard too"
