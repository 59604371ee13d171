"""A user agent on a free loopback port, and a raw peer beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cti.sip.endpoint import SipEndpoint
from cti.sip.sessions.session import InviteSession
from cti.sip.sessions.session_policy import SessionPolicy
from cti.sip.transactions.timers import Timers
from cti.sip.transports.tls_files import Tls
from cti.sip.transports.transport import Hop
from cti.sip.user_agent import UserAgent
from tests.sip_session.observer import Recorder
from tests.sip_session.peer import FAST, PATIENCE_S, RawPeer


class WatchedAgent(UserAgent):
    """A user agent that tells when a session is forgotten."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.changed = asyncio.Event()

    def forget(self, session: InviteSession) -> None:
        super().forget(session)
        self.changed.set()


class Node:
    """A user agent, its address, and the sessions that came in."""

    def __init__(
        self,
        timers: Timers = FAST,
        policy: SessionPolicy | None = None,
        tls: Tls | None = None,
    ) -> None:
        self.endpoint = SipEndpoint(user_agent="test", timers=timers, tls=tls)
        self.incoming: asyncio.Queue[tuple[InviteSession, Recorder]] = asyncio.Queue()
        self.agent = WatchedAgent(self.endpoint, on_invite=self._on_invite, policy=policy)
        self.address = ("127.0.0.1", 0)

    async def listen(self, transport: str = "udp") -> None:
        self.address = await self.endpoint.listen(transport, "127.0.0.1", 0)

    def _on_invite(self, session: InviteSession) -> None:
        session.observer = recorder = Recorder()
        self.incoming.put_nowait((session, recorder))

    async def aclose(self) -> None:
        await self.agent.aclose()
        await self.endpoint.aclose()

    async def session(self) -> tuple[InviteSession, Recorder]:
        return await asyncio.wait_for(self.incoming.get(), PATIENCE_S)

    async def forgotten(self) -> None:
        """Wait until no session is known any more."""
        async with asyncio.timeout(PATIENCE_S):
            while self.agent.session_count:
                self.agent.changed.clear()
                await self.agent.changed.wait()
        assert not self.agent._invites

    def call(
        self, peer: RawPeer, *, sdp: bytes = b"v=0\r\n", **options: object
    ) -> tuple[InviteSession, Recorder]:
        recorder = Recorder()
        session = self.agent.invite(
            f"sip:raw@{peer.host}:{peer.port}",
            from_="sip:95598@127.0.0.1",
            hop=Hop("udp", peer.host, peer.port),
            sdp=sdp,
            observer=recorder,
            **options,  # type: ignore[arg-type]
        )
        return session, recorder


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    node = Node()
    await node.listen()
    yield node
    await node.aclose()


@pytest.fixture
async def peer(node: Node) -> AsyncIterator[RawPeer]:
    peer = await RawPeer.create(node.address)
    yield peer
    peer.close()
