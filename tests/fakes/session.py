"""SIP sessions and a user agent without SIP, for tests of call control."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from cti.sip.messages.message import Request
from cti.sip.sessions.causes import refusal_status
from cti.sip.sessions.session import SessionEnd, SessionObserver, SessionState
from cti.sip.transports.transport import Hop
from domain.failures import CATALOGUE, Code
from tests.fakes.descriptions import build_offer

OFFER = build_offer("127.0.0.1", 40000, session_id=1, version=1)


def make_invite(
    called: str = "95598",
    caller: str = "13812345678",
    *,
    headers: Iterable[tuple[str, str]] = (),
    call_id: str = "secret-call-id@carrier",
) -> Request:
    return Request(
        "INVITE",
        f"sip:{called}@127.0.0.1:5060",
        [
            ("Via", "SIP/2.0/UDP 127.0.0.1:5090;branch=z9hG4bK1"),
            ("From", f"<sip:{caller}@carrier.example>;tag=a"),
            ("To", f"<sip:{called}@127.0.0.1>"),
            ("Call-ID", call_id),
            ("CSeq", "1 INVITE"),
            *headers,
        ],
    )


class FakeSession:
    """Has what call control uses of an `InviteSession`; the test plays the peer."""

    def __init__(
        self,
        *,
        request: Request | None = None,
        offer: bytes = OFFER,
        source: str = "127.0.0.1",
        observer: Any = None,
        uri: str = "",
    ) -> None:
        self.request = request or make_invite()
        self.offer = offer
        self.hop = Hop("udp", source, 5090)
        self.source = source
        self.state = SessionState.EARLY
        self.call_id = self.request.call_id
        self.remote_tag = "far-end"
        self.observer: SessionObserver = observer
        self.uri = uri
        self.headers: list[tuple[str, str]] = []
        self.sent_sdp = b""
        self.accepted_sdp: bytes | None = None
        self.rejected: int | None = None
        self.reject_headers: list[tuple[str, str]] = []
        self.ended_with: Code | None = None
        self.over = False
        self.acknowledges_at_once = True
        self.talk_result: bool | None = True
        self.infos: list[bytes] = []

    # What call control does

    def send(self, method: str, *, body: bytes, content_type: str) -> None:
        assert (method, content_type) == ("INFO", "application/dtmf-relay")
        self.infos.append(body)

    def accept(self, sdp: bytes) -> None:
        self.accepted_sdp = sdp
        if self.acknowledges_at_once:
            self.soon(self.acknowledge)

    def reject(
        self, code: Code | None = None, *, status: int | None = None, headers: Any = ()
    ) -> None:
        assert self.accepted_sdp is None
        self.rejected = status or refusal_status(code or Code.INTERNAL)
        self.reject_headers = list(headers)
        self._finish(SessionEnd(False, self.rejected, code or Code.FLOW_ENDED, ""))

    def end(self, code: Code) -> None:
        if self.over:
            return
        self.ended_with = code
        if self.uri or self.accepted_sdp is not None:
            self._finish(SessionEnd(False, 200, code, ""))
        else:
            self.reject(code)

    def notify_talk(self, on_result: Callable[[bool], None]) -> None:
        if self.talk_result is not None:
            self.soon(on_result, self.talk_result)

    # What the peer does

    def acknowledge(self, sdp: bytes = b"") -> None:
        if not self.over:
            self.observer.on_acknowledged(sdp)

    def answer(self, sdp: bytes = OFFER) -> None:
        if not self.over:
            self.observer.on_answered(sdp)

    def hang_up(self) -> None:
        """BYE, or CANCEL of an unanswered INVITE."""
        answered = self.accepted_sdp is not None
        self._finish(SessionEnd(True, 200 if answered else 487, Code.FLOW_ENDED, ""))

    def fail(self, code: Code, status: int = 0, *, by_peer: bool = False) -> None:
        """A final failure response, a timeout, or a missing ACK."""
        self._finish(SessionEnd(by_peer, status or CATALOGUE[code].sip_status, code, ""))

    def soon(self, action: Callable[..., Any], *arguments: Any) -> None:
        asyncio.get_running_loop().call_soon(action, *arguments)

    def _finish(self, end: SessionEnd) -> None:
        if not self.over:
            self.over = True
            self.observer_ended(end)

    def observer_ended(self, end: SessionEnd) -> None:
        if self.observer is not None:
            self.observer.on_ended(end)


class FakeReferral:
    """A REFER of a fake session, with what became of it."""

    def __init__(self, target: str, named: FakeSession | None = None) -> None:
        self.target = target
        self.replaces = (str(id(named)), "", "") if named is not None else None
        self.referred_by = ""
        self.headers: tuple[tuple[str, str], ...] = ()
        self.statuses: list[int] = []
        self.refused: Code | None = None

    def accept(self) -> None:
        assert not self.statuses
        self.statuses.append(202)

    def refuse(self, code: Code) -> None:
        assert not self.statuses
        assert self.refused is None
        self.refused = code

    def progress(self, status: int) -> None:
        self.statuses.append(status)

    def finish(self, status: int) -> None:
        assert self.statuses
        assert self.statuses[-1] < 300
        self.statuses.append(status + 1000)


class FakeUserAgent:
    """Has what call control uses of a `UserAgent`."""

    def __init__(self) -> None:
        self.sessions: list[FakeSession] = []
        self.named: dict[str, FakeSession] = {}
        self.invited = asyncio.Event()
        self.on_invited: Callable[[FakeSession], None] = lambda session: None

    def session_of(self, call_id: str, _local_tag: str, _remote_tag: str) -> FakeSession | None:
        return self.named.get(call_id)

    def invite(
        self,
        uri: str,
        *,
        from_: Any,
        to: Any,
        hop: Hop,
        sdp: bytes,
        observer: SessionObserver,
        headers: Iterable[tuple[str, str]] = (),
        route: Iterable[str] = (),
        **_further: Any,
    ) -> FakeSession:
        session = FakeSession(observer=observer, uri=uri)
        session.headers = [("From", str(from_)), ("To", str(to)), *headers]
        session.sent_sdp = sdp
        self.sessions.append(session)
        session.soon(self.on_invited, session)
        self.invited.set()
        return session
