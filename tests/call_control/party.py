"""A far end on real SIP: a carrier with callers, or a phone. Its media are what the test opens."""

from __future__ import annotations

import asyncio

from cti.sip.endpoint import SipEndpoint
from cti.sip.sessions.session import InviteSession, SessionEnd, SessionObserverBase
from cti.sip.transports.transport import Hop
from cti.sip.user_agent import UserAgent
from domain.failures import Code
from tests.fakes.descriptions import build_offer
from tests.fakes.turn import turn


class PartyCall(SessionObserverBase):
    """One call of a party, from either side."""

    def __init__(self, sdp: bytes) -> None:
        self.sdp = sdp
        self.session: InviteSession | None = None
        self.rings = asyncio.Event()
        self.answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.ended: asyncio.Future[SessionEnd] = asyncio.get_running_loop().create_future()
        self.talks_remotely = True
        self.progress: list[int] = []
        self.reoffers_refused: list[Code] = []
        self.media: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def on_progress(self, status: int, sdp: bytes) -> None:
        self.progress.append(status)
        if sdp and not self.media.done():
            self.media.set_result(sdp)

    def on_answered(self, sdp: bytes) -> None:
        if not self.answered.done():
            self.answered.set_result(sdp)

    def on_acknowledged(self, sdp: bytes) -> None:
        if not self.answered.done():
            assert self.session is not None
            self.answered.set_result(self.session.offer)

    def on_talk(self) -> None:
        self.answer()

    def on_reoffer_refused(self, code: Code) -> None:
        self.reoffers_refused.append(code)

    def on_ended(self, end: SessionEnd) -> None:
        self.ended.set_result(end)

    def answer(self) -> None:
        assert self.session is not None
        self.session.accept(self.sdp)

    def ring(self, *, with_media: bool = False) -> None:
        assert self.session is not None
        self.session.ring(self.sdp if with_media else b"")

    def hang_up(self, code: Code = Code.FLOW_ENDED) -> None:
        assert self.session is not None
        self.session.end(code)

    async def until_answered(self) -> bytes:
        return await asyncio.wait_for(asyncio.shield(self.answered), 5)

    async def until_media(self) -> bytes:
        return await asyncio.wait_for(asyncio.shield(self.media), 5)

    async def until_progress(self, status: int) -> None:
        async with asyncio.timeout(5):
            while status not in self.progress:
                await turn()

    async def until_ended(self) -> SessionEnd:
        return await asyncio.wait_for(asyncio.shield(self.ended), 5)


class Party:
    """One SIP address that calls and is called."""

    def __init__(self) -> None:
        self.endpoint = SipEndpoint(user_agent="party")
        self.user_agent = UserAgent(self.endpoint, on_invite=self._on_invite)
        self.hop = Hop("udp", "127.0.0.1", 0)
        self.sdp = build_offer("127.0.0.1", 40000, session_id=1, version=1)
        self.answers_at_once = False
        self.rings_by_itself = True
        self.refuses_with = 0
        self.refusal_headers: list[tuple[str, str]] = []
        self.incoming: asyncio.Queue[PartyCall] = asyncio.Queue()
        self.calls: list[PartyCall] = []

    async def listen(self) -> Party:
        host, port = await self.endpoint.listen("udp", "127.0.0.1", 0)
        self.hop = Hop("udp", host, port)
        return self

    def contact(self, user: str) -> str:
        return f"sip:{user}@{self.hop.host}:{self.hop.port}"

    def call(self, number: str, hop: Hop, *, caller: str = "13812345678") -> PartyCall:
        call = PartyCall(self.sdp)
        self.calls.append(call)
        call.session = self.user_agent.invite(
            f"sip:{number}@{hop.host}:{hop.port}",
            from_=f"sip:{caller}@carrier.example",
            hop=hop,
            sdp=self.sdp,
            observer=call,
        )
        return call

    async def next_call(self) -> PartyCall:
        return await asyncio.wait_for(self.incoming.get(), 5)

    def _on_invite(self, session: InviteSession) -> None:
        call = PartyCall(self.sdp)
        self.calls.append(call)
        call.session = session
        session.observer = call
        if self.refuses_with:
            session.reject(status=self.refuses_with, headers=self.refusal_headers)
            return
        if self.rings_by_itself:
            session.ring()
        call.rings.set()
        self.incoming.put_nowait(call)
        if self.answers_at_once:
            call.answer()
