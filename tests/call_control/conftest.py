"""A call control on fake SIP and media."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from cti.admission import Admission, TenantAccess
from cti.call import Call, CallHandler, CallInfo
from cti.calls.call_control import CallControl
from cti.media_engine import RtpEngine
from cti.media_policy import MediaAddress, MediaAddresses
from cti.rtp_port import MediaRouter
from cti.settings import AccessCodeSettings, TrunkSettings
from cti.shared.contacts import Binding, Way
from cti.sip.transports.transport import Hop
from cti95598.events.v1.events_pb2 import Event
from domain.events import EventStamp
from domain.ids import NodeId, TenantId
from tests.fakes.media import FakeMedia
from tests.fakes.session import FakeSession, FakeUserAgent
from tests.fakes.turn import turn

TENANT = TenantId("demo")


class Sink:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def publish(self, event: Event) -> None:
        self.events.append(event)

    @property
    def names(self) -> list[str]:
        return [event.WhichOneof("body") or "" for event in self.events]

    def one(self, name: str) -> Any:
        (found,) = (event for event in self.events if event.WhichOneof("body") == name)
        return getattr(found, name)

    def cause(self, name: str) -> str:
        (found,) = (event for event in self.events if event.WhichOneof("body") == name)
        return found.cause


class Contacts:
    def __init__(self) -> None:
        self.by_user: dict[str, list[str]] = {}

    async def lookup(self, tenant: TenantId, user: str) -> list[Binding]:
        await turn()
        return [binding(uri) for uri in self.by_user.get(user, [])]


def binding(uri: str) -> Binding:
    return Binding((Way(Hop("udp", "127.0.0.1", 5070), (), uri),), 2_000_000_000)


class Bench:
    """Call control with everything around it faked, and a handler that the test sets."""

    def __init__(self, tmp_path: Path, admission: Admission) -> None:
        self.media = FakeMedia()
        self.user_agent = FakeUserAgent()
        self.contacts = Contacts()
        self.sink = Sink()
        self.handler: CallHandler = idle
        self.recording_dir = tmp_path
        self.call: Call | None = None
        self.strangers: list[str] = []
        self.control = CallControl(
            user_agent=self.user_agent,  # type: ignore[arg-type]
            media=self.media,
            admission=admission,
            contacts=self.contacts,
            events=EventStamp(NodeId("node-1"), self.sink),
            handler=self._run,
            recording_path=self.recording_path,
            addresses=MediaAddresses(MediaAddress("127.0.0.1")),
            domain="cti95598",
            hold_music=lambda: [Path("hold.wav")],
            on_stranger=self.strangers.append,
        )
        self.media.on_event = self.control.on_media

    def recording_path(self, info: CallInfo, recording: str) -> Path:
        return self.recording_dir / f"{recording}.wav"

    async def _run(self, call: Call) -> None:
        self.call = call
        await self.handler(call)

    def invite(self, session: FakeSession | None = None, **options: Any) -> FakeSession:
        session = session or FakeSession(**options)
        self.control.on_invite(session)  # type: ignore[arg-type]
        return session

    async def settle(self) -> None:
        """Let everything that is due happen, until no call is left."""
        for _ in range(200):
            if not self.control.calls:
                return
            await turn()
        raise AssertionError("calls are left")

    async def until(self, condition: Callable[[], object]) -> None:
        for _ in range(200):
            if condition():
                return
            await turn()
        raise AssertionError("it did not happen")


async def idle(call: Call) -> None:
    await asyncio.get_running_loop().create_future()


def answered(
    body: Callable[[Call], Awaitable[None]],
) -> Callable[[Call], Awaitable[None]]:
    """Answer the call first."""

    async def handler(call: Call) -> None:
        await call.answer()
        await body(call)

    return handler


@pytest.fixture
def admission() -> Admission:
    trunk = TrunkSettings.model_validate({"name": "carrier", "addresses": ["127.0.0.0/8"]})
    codes = [
        AccessCodeSettings(code="95598", flow="main"),
        AccessCodeSettings(code="4001", flow="english", default_language="en"),
    ]
    return Admission([TenantAccess(TENANT, [trunk], codes)])


@pytest.fixture
async def bench(tmp_path: Path, admission: Admission) -> Bench:
    return Bench(tmp_path, admission)


@pytest.fixture
async def engine() -> AsyncIterator[RtpEngine]:
    engine = RtpEngine(port_min=31000, port_max=31999)
    yield engine
    await engine.aclose()


@pytest.fixture
async def far_ends() -> AsyncIterator[MediaRouter]:
    engine = RtpEngine(port_min=32000, port_max=32999)
    router = MediaRouter(engine)
    engine.on_event = router.on_event
    yield router
    await engine.aclose()
