"""A node with call control and real RTP, whose registered phones call each other."""

from __future__ import annotations

import asyncio
from pathlib import Path

from redis.asyncio import Redis

from cti.admission import Admission
from cti.calls.call_control import CallControl, PhoneAccess
from cti.media_engine import RtpEngine
from cti.media_policy import MediaAddress, MediaAddresses
from cti.sip.authentication.digest import Credentials
from cti.sip.messages.syntax import format_host_port
from cti.sip.sessions.session import InviteSession
from cti.sip.transports.tls_files import Tls
from cti.sip.transports.transport import TransportName
from domain.events import EventStamp
from tests.call_control.conftest import Sink, idle
from tests.call_control.party import PartyCall
from tests.sip_edge.platform import PASSWORD, REALM, Directory, PlatformNode
from tests.sip_session.conftest import Node
from tests.sip_session.peer import PATIENCE_S


class Exchange(PlatformNode):
    """A platform node that connects the calls of phones."""

    def __init__(
        self, name: str, redis: Redis, media: RtpEngine, recordings: Path, tls: Tls | None = None
    ) -> None:
        super().__init__(name, redis, tls)
        self.sink = Sink()
        self.control = CallControl(
            user_agent=self.agent,
            media=media,
            admission=Admission([]),
            contacts=self.contacts,
            events=EventStamp(self.name, self.sink),
            handler=idle,
            recording_path=lambda _, recording: recordings / f"{recording}.wav",
            addresses=MediaAddresses(MediaAddress("127.0.0.1")),
            domain=REALM,
            phones=PhoneAccess(Directory(), self.authenticator, lambda *_: True),
        )
        media.on_event = self.control.on_media

    def _on_invite(self, session: InviteSession) -> None:
        self.control.on_invite(session)

    async def aclose(self) -> None:
        await self.control.aclose()
        await super().aclose()


class DeskPhone(Node):
    """A phone of another user, over UDP."""

    user = "1002"

    def __init__(self) -> None:
        super().__init__()
        self.calls: asyncio.Queue[PartyCall] = asyncio.Queue()

    def _on_invite(self, session: InviteSession) -> None:
        call = PartyCall(b"")
        call.session, session.observer = session, call
        session.ring()
        self.calls.put_nowait(call)

    async def next_call(self) -> PartyCall:
        return await asyncio.wait_for(self.calls.get(), PATIENCE_S)

    async def register(self, node: PlatformNode, transport: TransportName = "udp") -> None:
        await self.agent.register(
            registrar_uri=f"sip:{REALM}:{node.addresses[transport][1]}",
            aor=f"sip:{self.user}@{REALM}",
            hop=node.hop(transport),
            credentials=Credentials(self.user, PASSWORD),
            expires_s=600,
        )

    def dial(
        self, node: PlatformNode, number: str, sdp: bytes, transport: TransportName = "udp"
    ) -> PartyCall:
        call = PartyCall(sdp)
        hop = node.hop(transport)
        call.session = self.agent.invite(
            f"sip:{number}@{format_host_port(hop.host, hop.port)}",
            from_=f"sip:{self.user}@{REALM}",
            hop=hop,
            sdp=sdp,
            observer=call,
            credentials=Credentials(self.user, PASSWORD),
        )
        return call
