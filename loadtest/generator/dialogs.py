"""Calls in SIP, ours to the platform and the platform's to our phones, each one small object."""

from __future__ import annotations

import asyncio
from typing import Protocol

from loadtest.figures.tally import Tally
from loadtest.generator.sip_line import GIVE_UP_S, UNBOUNDED, Repeated, SipLine
from loadtest.generator.sip_text import (
    Address,
    Cseq,
    Message,
    address_of,
    response,
    uri_of,
)


class CallObserver(Protocol):
    """Who is told what becomes of a call."""

    def on_progress(self, status: int, body: bytes) -> None:
        """A provisional response above 100 came."""

    def on_answer(self, body: bytes) -> None:
        """The call is up: its 200 came, or the ACK of ours; the body may be empty."""

    def on_refused(self, status: int) -> None:
        """A final status of 300 or more came; 0: nothing came at all."""

    def on_media(self, body: bytes) -> bytes:
        """The far end describes its media anew, or asks; return our description."""

    def on_far_hang_up(self) -> None:
        """The far end has hung up, or cancelled."""

    def on_gone(self, *, is_answered: bool) -> None:
        """Our hanging up was answered, or was not for 32 s."""


class _Nobody:
    """Observes a call that is over."""

    def on_progress(self, status: int, body: bytes) -> None: ...
    def on_answer(self, body: bytes) -> None: ...
    def on_refused(self, status: int) -> None: ...
    def on_media(self, body: bytes) -> bytes:
        return body[:0]

    def on_far_hang_up(self) -> None: ...
    def on_gone(self, *, is_answered: bool) -> None: ...


_NOBODY = _Nobody()


class _Dialog:
    """What both directions share once a call is up."""

    __slots__ = (
        "_answered", "_bye", "_cseq", "_line", "_local", "_observer", "_remote", "_routes",
        "_tally", "_target", "address", "call_id",
    )  # fmt: skip

    def __init__(self, line: SipLine, call_id: str, tally: Tally, observer: CallObserver) -> None:
        self._line, self._tally = line, tally
        self._observer: CallObserver = observer
        self.call_id = call_id
        self.address: Address = ("", 0)
        self._local = self._remote = self._target = ""
        self._routes: list[str] = []
        self._cseq = 1
        self._bye: Repeated | None = None
        self._answered: tuple[Cseq, bytes] | None = None
        line.parties[call_id] = self

    def receive(self, message: Message, source: Address) -> None:
        raise NotImplementedError

    def _send_bye(self) -> None:
        self._cseq += 1
        data = self._request("BYE", self._cseq)
        self._bye = Repeated(self._line, data, self.address, self._tally, self._bye_given_up)

    def _bye_given_up(self) -> None:
        self._end().on_gone(is_answered=False)

    def _receive_bye_response(self, message: Message) -> None:
        if message.status < 200 or self._bye is None or message.cseq.method != "BYE":
            return
        self._bye.stop()
        if self._observer is not _NOBODY:
            self._end().on_gone(is_answered=True)

    def _end(self) -> CallObserver:
        """Let the line and the observer go; return the latter, to be told last."""
        self._line.over(self.call_id)
        observer, self._observer = self._observer, _NOBODY
        return observer

    def _request(self, method: str, number: int, branch: str = "") -> bytes:
        line = self._line
        branch = branch or f"{line.run}{line.number():x}"
        routes = "".join(f"Route: {each}\r\n" for each in self._routes)
        return (
            f"{method} {self._target} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {line.host}:{line.port};branch=z9hG4bK{branch};rport\r\n"
            f"{routes}Max-Forwards: 70\r\nFrom: {self._local}\r\nTo: {self._remote}\r\n"
            f"Call-ID: {self.call_id}\r\nCSeq: {number} {method}\r\nContent-Length: 0\r\n\r\n"
        ).encode()

    def _find_peer(self, message: Message, routes: list[str], otherwise: Address) -> None:
        """Note where requests of ours go from now on (12.1)."""
        self._routes = routes
        self._target = uri_of(message.headers.get("contact", "")) or self._target
        self.address = address_of(uri_of(routes[0]) if routes else self._target, otherwise)

    def _take_again(self, message: Message, source: Address) -> bool:
        """Answer a request that came before as it was answered then."""
        answered = self._answered
        if answered is None or answered[0] != message.cseq:
            return False
        self._tally.retransmissions_received += 1
        self._line.send(answered[1], source)
        return True

    def _answer(self, message: Message, source: Address, status: str, body: bytes = b"") -> None:
        line = self._line
        contact = f"<sip:{line.host}:{line.port}>" if message.method in _REFRESHES else ""
        data = response(message, status, tag=line.run, contact=contact, body=body)
        self._answered = message.cseq, data
        line.send(data, source)

    def _receive_request(self, message: Message, source: Address) -> None:
        """Take a request within the dialog."""
        method = message.method
        if method == "ACK" or self._take_again(message, source):
            return
        if method == "BYE":
            self._answer(message, source, "200 OK")
            if self._bye is not None:
                self._bye.stop()
            self._end().on_far_hang_up()
        elif method in _REFRESHES:
            wanted = message.body or method == "INVITE"
            body = self._observer.on_media(message.body) if wanted else b""
            self._answer(message, source, "200 OK", body)
        elif method in {"INFO", "NOTIFY", "OPTIONS", "MESSAGE"}:
            self._answer(message, source, "200 OK")
        else:
            self._answer(message, source, "501 Not Implemented")


_REFRESHES = frozenset({"INVITE", "UPDATE"})


class OutgoingCall(_Dialog):
    """A call of ours: dialled, cancelled or hung up."""

    __slots__ = ("_branch", "_has_answer", "_invite", "_is_cancelled", "_is_proceeding", "_tag")

    def __init__(
        self,
        line: SipLine,
        *,
        caller: str,
        number: str,
        address: Address,
        offer: bytes,
        tally: Tally,
        observer: CallObserver,
    ) -> None:
        """Dial `number` at the platform of `address`."""
        count = line.number()
        self._tag = f"{line.run}{count:x}"
        super().__init__(line, f"{self._tag}@{line.host}", tally, observer)
        self._branch = f"{self._tag}i"
        self.address = address
        self._target = f"sip:{number}@{address[0]}:{address[1]}"
        self._local = f"<sip:{caller}@{line.host}:{line.port}>;tag={self._tag}"
        self._remote = f"<{self._target}>"
        self._is_proceeding = self._is_cancelled = self._has_answer = False
        data = (
            f"INVITE {self._target} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {line.host}:{line.port};branch=z9hG4bK{self._branch};rport\r\n"
            f"Max-Forwards: 70\r\nFrom: {self._local}\r\nTo: {self._remote}\r\n"
            f"Call-ID: {self.call_id}\r\nCSeq: 1 INVITE\r\n"
            f"Contact: <sip:{caller}@{line.host}:{line.port}>\r\n"
            f"Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE\r\n"
            f"Content-Type: application/sdp\r\nContent-Length: {len(offer)}\r\n\r\n"
        ).encode() + offer
        self._invite: Repeated = Repeated(
            line, data, address, tally, self._unanswered, longest_s=UNBOUNDED
        )

    def hang_up(self) -> None:
        """Hang up, or cancel what is not answered yet."""
        if self._has_answer:
            if self._bye is None:
                self._send_bye()
        elif not self._is_cancelled:
            self._is_cancelled = True
            if self._is_proceeding:
                self._send_cancel()

    def send_info(self, key: str) -> None:
        """Press a key by SIP INFO (application/dtmf-relay)."""
        self._cseq += 1
        body = f"Signal={key}\r\nDuration=160\r\n"
        head = self._request("INFO", self._cseq).decode().removesuffix("Content-Length: 0\r\n\r\n")
        text = f"{head}Content-Type: application/dtmf-relay\r\nContent-Length: {len(body)}\r\n\r\n"
        self._line.send((text + body).encode(), self.address)

    def receive(self, message: Message, source: Address) -> None:
        """Take what came for this Call-ID."""
        if not message.status:
            self._receive_request(message, source)
            return
        method = message.cseq.method
        if method == "INVITE":
            self._receive_response(message)
        else:
            self._receive_bye_response(message)

    def _receive_response(self, message: Message) -> None:
        status = message.status
        if status < 200:
            if not self._has_answer:
                self._proceed(status, message.body)
        elif status < 300:
            self._receive_200(message)
        else:
            self._invite.stop()
            self._remote = message.headers["to"]
            self._line.send(self._request("ACK", 1, self._branch), self.address)
            if self._observer is not _NOBODY:
                self._end().on_refused(status)

    def _proceed(self, status: int, body: bytes) -> None:
        self._invite.stop()
        if not self._is_proceeding:
            self._is_proceeding = True
            if self._is_cancelled:
                self._send_cancel()
        if status > 100:
            self._observer.on_progress(status, body)

    def _receive_200(self, message: Message) -> None:
        if self._has_answer:
            self._tally.retransmissions_received += 1
            self._line.send(self._request("ACK", 1), self.address)
            return
        self._has_answer = True
        self._invite.stop()
        self._remote = message.headers["to"]
        self._find_peer(message, message.record_routes[::-1], self.address)
        self._line.send(self._request("ACK", 1), self.address)
        if self._is_cancelled:
            self._send_bye()
        else:
            self._observer.on_answer(message.body)

    def _send_cancel(self) -> None:
        self._line.send(self._request("CANCEL", 1, self._branch), self.address)
        asyncio.get_running_loop().call_later(GIVE_UP_S, self._unanswered)

    def _unanswered(self) -> None:
        if not self._has_answer and self._observer is not _NOBODY:
            self._end().on_refused(0)


class IncomingCall(_Dialog):
    """A call of the platform to a phone of ours: rung, answered, hung up."""

    __slots__ = ("_invite", "_source", "_up")

    def __init__(
        self,
        line: SipLine,
        invite: Message,
        source: Address,
        tally: Tally,
        observer: CallObserver,
    ) -> None:
        super().__init__(line, invite.call_id, tally, observer)
        self._invite = invite
        self._source = source
        self._up: Repeated | None = None
        to = invite.headers["to"]
        self._local = f"{to};tag={line.run}"
        self._remote = invite.headers["from"]
        self._find_peer(invite, invite.record_routes, source)

    def ring(self) -> None:
        """Say that the phone rings."""
        self._answer(self._invite, self._source, "180 Ringing")

    def accept(self, body: bytes) -> None:
        """Answer; the 200 is repeated until its ACK comes."""
        line = self._line
        contact = f"<sip:{line.host}:{line.port}>"
        data = response(self._invite, "200 OK", tag=line.run, contact=contact, body=body)
        self._answered = self._invite.cseq, data
        self._up = Repeated(line, data, self._source, self._tally, self._unacknowledged)

    def hang_up(self) -> None:
        """Hang up a call that was answered."""
        if self._bye is None and self._up is not None:
            self._send_bye()

    def receive(self, message: Message, source: Address) -> None:
        """Take what came for this Call-ID."""
        if message.status:
            self._receive_bye_response(message)
        elif message.method == "ACK":
            self._acknowledged()
        elif message.method == "CANCEL":
            self._cancelled(message, source)
        else:
            self._receive_request(message, source)

    def _acknowledged(self) -> None:
        if self._up is not None:
            self._up.stop()

    def _unacknowledged(self) -> None:
        self._end().on_far_hang_up()

    def _cancelled(self, message: Message, source: Address) -> None:
        self._line.send(response(message, "200 OK", tag=self._line.run), source)
        if self._up is None and self._observer is not _NOBODY:
            self._answer(self._invite, self._source, "487 Request Terminated")
            self._end().on_far_hang_up()
