"""A platform with trunks on loopback sockets, and carriers to call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from prometheus_client import REGISTRY

from cti.admission import Admission
from cti.settings import AccessCodeSettings, TrunkSettings
from cti.sip.endpoint import ServerTransaction, SipEndpoint
from cti.sip.location.resolver import Resolver
from cti.sip.messages.message import Request, response_to
from cti.sip.sessions.session import InviteSession
from cti.sip.transactions.timers import Timers
from cti.sip.user_agent import UserAgent
from cti.trunks.operation import TrunkOperation
from cti.trunks.tenant_access import TenantAccess
from cti95598.events.v1.events_pb2 import Event
from domain.events import EventStamp
from domain.ids import NodeId, TenantId
from tests.peers.waiting import wait_until
from tests.sip_session.observer import Recorder
from tests.sip_session.peer import FAST

TENANT = TenantId("demo")
CODES = [AccessCodeSettings(code="95598", flow="main", aliases=["02195598"])]
PROBE = {"interval_s": 0.2, "timeout_s": 0.1}


class Sink:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def publish(self, event: Event) -> None:
        self.events.append(event)

    @property
    def states(self) -> list[tuple[str, str]]:
        """The trunks' states as they were told."""
        changes = (e.trunk_state_changed for e in self.events if e.HasField("trunk_state_changed"))
        return [(change.trunk, change.to_state) for change in changes]


class Carrier:
    """A carrier's server: answers OPTIONS, and calls by the status that the test sets."""

    def __init__(self) -> None:
        self.address = ("127.0.0.1", 0)
        self.status = 200
        self.rings = False
        self.headers: list[tuple[str, str]] = []
        self.sessions: list[InviteSession] = []
        self.agent: UserAgent

    async def start(self, port: int = 0) -> None:
        endpoint = SipEndpoint(user_agent="carrier", timers=FAST)
        self.agent = UserAgent(endpoint, on_invite=self._on_invite)
        self.address = await endpoint.listen("udp", "127.0.0.1", port)

    @property
    def server(self) -> str:
        return "sip:{}:{}".format(*self.address)

    def _on_invite(self, session: InviteSession) -> None:
        session.observer = Recorder()
        self.sessions.append(session)
        if self.rings:
            session.ring()
        if self.status == 200:
            session.accept(b"v=0\r\n")
        else:
            session.reject(status=self.status, headers=self.headers)

    async def stop(self) -> None:
        await self.agent.aclose()
        await self.agent.endpoint.aclose()


class CarrierRegistrar(Carrier):
    """Takes REGISTER, and keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, str]] = []
        self.seen: list[Request] = []
        """Every request out of dialogs, in order."""
        self.register_status = 200
        self.register_headers: list[tuple[str, str]] = []

    async def start(self, port: int = 0) -> None:
        await super().start(port)
        self.agent.serve("REGISTER", out_of_dialog=self._register)
        endpoint = self.agent.endpoint
        take = endpoint.on_request

        def see(server: ServerTransaction) -> None:
            self.seen.append(server.request)
            take(server)

        endpoint.on_request = see

    def requests(self, method: str) -> list[Request]:
        return [each for each in self.seen if each.method == method]

    def _register(self, server: ServerTransaction) -> None:
        request = server.request
        expires = request.headers.get("Expires") or ""
        self.asked.append((expires, request.call_id))
        contact = f"{request.headers.get('Contact')};expires={min(int(expires), 2)}"
        headers = [("Contact", contact), *self.register_headers]
        server.respond(response_to(request, self.register_status, headers=headers))


class Platform:
    """A node's trunks without the node."""

    def __init__(self) -> None:
        self.sink = Sink()
        self.endpoint = SipEndpoint(user_agent="test", timers=Timers(t1_s=0.05, t2_s=0.2))
        self.incoming: asyncio.Queue[InviteSession] = asyncio.Queue()
        self.agent = UserAgent(self.endpoint, on_invite=self.incoming.put_nowait)
        self.resolver = Resolver()
        self.admission = Admission([])
        self.password: str | None = "carrier-secret"
        self.trunks: TrunkOperation
        self.address = ("127.0.0.1", 0)

    async def start(self, *trunks: TrunkSettings, **options: Any) -> None:
        self.address = await self.endpoint.listen("udp", "127.0.0.1", 0)
        self.admission = Admission([TenantAccess(TENANT, trunks, CODES)])
        self.trunks = TrunkOperation(
            user_agent=self.agent,
            admission=self.admission,
            locate=self.resolver.locate,
            password_of=lambda tenant, trunk: self.password,
            events=EventStamp(NodeId("n1"), self.sink),
            **options,
        )
        self.trunks.start()

    def reload(self, *trunks: TrunkSettings) -> None:
        self.admission.load([TenantAccess(TENANT, trunks, CODES)])
        self.trunks.reload()

    def state(self, name: str) -> str:
        (status,) = (one for one in self.trunks.statuses() if one.trunk == name)
        return status.state

    async def first_choice(self) -> str:
        """The trunk that a call out would be tried over first."""
        return (await self.trunks.outbound.attempts(TENANT, "13700000000"))[0].trunk

    async def until(
        self, condition: Callable[[], bool | Awaitable[bool]], what: str, timeout_s: float = 5
    ) -> None:
        await wait_until(condition, timeout_s, what)

    async def stop(self) -> None:
        await self.trunks.aclose()
        await self.agent.aclose()
        await self.endpoint.aclose()
        await self.resolver.aclose()


def trunk(name: str, server: str, **fields: Any) -> TrunkSettings:
    return TrunkSettings.model_validate({"name": name, "server": server, "probe": PROBE, **fields})


def failovers() -> float:
    """Return how many calls trunks have failed, for whatever reason."""
    (family,) = (each for each in REGISTRY.collect() if each.name == "trunk_failovers")
    return sum(each.value for each in family.samples if each.name == "trunk_failovers_total")


@pytest.fixture
async def platform() -> AsyncIterator[Platform]:
    platform = Platform()
    yield platform
    await platform.stop()


@pytest.fixture
async def carriers() -> AsyncIterator[list[Carrier]]:
    carriers = [Carrier(), Carrier()]
    for carrier in carriers:
        await carrier.start()
    yield carriers
    for carrier in carriers:
        await carrier.stop()
