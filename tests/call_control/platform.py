"""A node's call control behind a real SIP endpoint, with the media engine the test gives it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from cti.admission import Admission
from cti.call import Call
from cti.calls.call_control import CallControl
from cti.media_engine import RtpEngine
from cti.media_policy import MediaAddress, MediaAddresses
from cti.shared.contacts import Binding, Way
from cti.sip.endpoint import SipEndpoint
from cti.sip.sessions.session import InviteSession
from cti.sip.transports.transport import Hop
from cti.sip.user_agent import UserAgent
from domain.events import EventStamp
from domain.ids import NodeId, TenantId
from tests.call_control.conftest import Sink, idle
from tests.call_control.party import Party
from tests.fakes.media import FakeMedia
from tests.fakes.turn import turn


class Platform:
    """Call control and all that it needs."""

    def __init__(
        self, admission: Admission, recordings: Path, media: FakeMedia | RtpEngine
    ) -> None:
        self.endpoint = SipEndpoint(user_agent="cti95598")
        self.user_agent = UserAgent(self.endpoint, on_invite=self._on_invite)
        self.media = media
        self.admission = admission
        self.sink = Sink()
        self.handler: Callable[[Call], Awaitable[None]] = idle
        self.hop = Hop("udp", "127.0.0.1", 0)
        self.bindings: list[Binding] = []
        self.control = CallControl(
            user_agent=self.user_agent,
            media=self.media,
            admission=admission,
            contacts=self,
            events=EventStamp(NodeId("node-1"), self.sink),
            handler=self._run,
            recording_path=lambda _, recording: recordings / f"{recording}.wav",
            addresses=MediaAddresses(MediaAddress("127.0.0.1")),
            domain="cti95598",
        )
        self.media.on_event = self.control.on_media

    def _on_invite(self, session: InviteSession) -> None:
        self.control.on_invite(session)

    async def _run(self, call: Call) -> None:
        await self.handler(call)

    async def listen(self) -> Platform:
        host, port = await self.endpoint.listen("udp", "127.0.0.1", 0)
        self.hop = Hop("udp", host, port)
        return self

    async def lookup(self, tenant: TenantId, user: str) -> list[Binding]:
        return self.bindings

    def register(self, *phones: Party) -> None:
        self.bindings = [
            Binding((Way(phone.hop, (), phone.contact("1001")),), 2_000_000_000) for phone in phones
        ]


async def until(condition: Callable[[], object]) -> None:
    async def watch() -> None:
        while not condition():
            await turn()

    await asyncio.wait_for(watch(), 5)
