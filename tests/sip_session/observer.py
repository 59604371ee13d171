"""A session observer that keeps what it is told."""

from __future__ import annotations

import asyncio
from typing import Any

from cti.sip.sessions.session import Referral, SessionEnd
from cti.sip.sessions.session_events import PendingAnswer
from domain.failures import Code
from tests.sip_session.peer import patience_s


class Recorder:
    def __init__(self) -> None:
        self.events: asyncio.Queue[tuple[Any, ...]] = asyncio.Queue()
        self.ends: list[SessionEnd] = []
        self.answer: bytes | Code = b"v=0\r\n"
        self.pending: PendingAnswer | None = None
        """What the next re-INVITE waits for."""

    def _tell(self, *event: Any) -> None:
        self.events.put_nowait(event)

    def on_progress(self, status: int, sdp: bytes) -> None:
        self._tell("progress", status, sdp)

    def on_early_answer(self, sdp: bytes) -> None:
        self._tell("early_answer", sdp)

    def on_answered(self, sdp: bytes) -> None:
        self._tell("answered", sdp)

    def on_acknowledged(self, sdp: bytes) -> None:
        self._tell("acknowledged", sdp)

    def defer_answer(self, sdp: bytes) -> PendingAnswer | None:
        return self.pending

    def on_reoffer(self, sdp: bytes) -> bytes | Code:
        self._tell("reoffer", sdp)
        return self.answer

    def on_reoffer_refused(self, code: Code) -> None:
        self._tell("reoffer_refused", code)

    def on_info(self, content_type: str, body: bytes) -> None:
        self._tell("info", content_type, body)

    def on_talk(self) -> None:
        self._tell("talk")

    def on_refer(self, referral: Referral) -> None:
        self._tell("refer", referral)

    def on_ended(self, end: SessionEnd) -> None:
        self.ends.append(end)
        self._tell("ended", end)

    async def next(self) -> tuple[Any, ...]:
        return await asyncio.wait_for(self.events.get(), patience_s())

    async def expect(self, *event: Any) -> None:
        assert await self.next() == event

    async def end(self) -> SessionEnd:
        """Take the end, which must be the only one and the last event."""
        event = await self.next()
        assert event[0] == "ended", event
        assert self.events.empty()
        assert len(self.ends) == 1
        return self.ends[0]
