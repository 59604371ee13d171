"""The INVITE that begins an outgoing call, with all its forks (RFC 3261 13.2, RFC 3262)."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from cti.sip.endpoint import ClientTransaction
from cti.sip.location.next_hop import NamedHop, resolve
from cti.sip.messages.message import Request, Response
from cti.sip.messages.session_description import description_of
from cti.sip.sessions.causes import (
    code_of_response,
    reason_header,
    reason_text,
    retry_after_s,
)
from cti.sip.sessions.dialog import Dialog
from cti.sip.sessions.invite_responses import take_2xx, take_provisional
from cti.sip.sessions.offer_answer import InviteUsage
from cti.sip.sessions.redirects import Redirects, targets_of
from cti.sip.sessions.session_events import SessionEnd, SessionState
from cti.sip.transports.transport import Hop
from domain.failures import Code

if TYPE_CHECKING:
    from cti.sip.sessions.session import InviteSession

_MOST_FORKS = 32
"""A far end may make up as many as it likes, and have us send to wherever their Contacts lead."""
_EARLY_DIALOG_GONE = 199  # RFC 6228: the fork failed, others may still ring


class OutgoingInvite:
    """Sends the INVITE, again where a response says how, and keeps its early dialogs apart."""

    __slots__ = ("_client", "_dropped", "_forks", "_redirects", "_session", "_target", "_timer")

    def __init__(self, session: InviteSession, *, follow_redirects: bool) -> None:
        self._session = session
        self._client: ClientTransaction | None = None
        self._target: Hop | NamedHop = session.hop
        self._forks: dict[str, InviteUsage] = {}
        self._dropped: set[str] = set()
        self._redirects = Redirects(session.request.uri) if follow_redirects else None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_open(self) -> bool:
        """Whether the final response is still to come."""
        return self._client is not None

    def usage_of(self, tag: str) -> InviteUsage | None:
        """Return the early dialog with the fork of this tag."""
        return self._forks.get(tag)

    def start(self, answer_within_s: float | None) -> None:
        """Send the INVITE; without any response in time the call has ended."""
        self._send(self._session.request)
        if answer_within_s is not None and not self._session.is_over:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(answer_within_s, self._give_up, Code.SIP_TIMEOUT, 408)

    def cancel(self, code: Code) -> None:
        """Give the call up (9.1)."""
        self._give_up(code, 487)

    def withdraw(self, code: Code) -> None:
        """Send the CANCEL. A 2xx that is faster is acknowledged and ended by BYE."""
        if self._client is not None:
            self._client.cancel([reason_header(code)])
        else:
            self._session.release()

    def stop(self) -> None:
        """Wait no longer for a first response."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self, code: Code, status: int) -> None:
        end = SessionEnd(by_peer=False, status=status, code=code)
        self._session.finish(end, partial(self.withdraw, code))

    def _send(self, request: Request) -> None:
        session = self._session
        session.request = request
        self._client = session.host.endpoint.send_request(
            request,
            self._target,
            on_response=partial(self._on_response, request),
            on_failure=self._on_failure,
        )

    # Responses

    def _on_response(self, request: Request, response: Response) -> None:
        self.stop()
        if isinstance(self._target, NamedHop) and self._client is not None:
            self._target = self._session.hop = self._client.hop or self._target.known
        if response.status >= 300:
            self._on_refused(request, response)
        elif response.status >= 200:
            self._on_accepted(request, response)
        elif not self._session.is_over:
            self._on_provisional(request, response)

    def _on_provisional(self, request: Request, response: Response) -> None:
        session, status = self._session, response.status
        if status == 100:
            if session.state is SessionState.CALLING:
                session.state = SessionState.PROCEEDING
            return
        tag = response.to.tag
        if tag is None:  # of a client of RFC 2543, without a dialog
            session.state = SessionState.EARLY
            session.observer.on_progress(status, description_of(response))
            return
        if tag not in self._forks and len(self._forks) >= _MOST_FORKS:
            return
        usage = self._forks.get(tag) or self._fork(request, response, tag)
        sdp = take_provisional(session, usage, request, response)
        if sdp is None or status == _EARLY_DIALOG_GONE or session.is_over:
            return
        session.state = SessionState.EARLY
        session.usage = usage
        session.observer.on_progress(status, sdp)
        session.proceed()

    def _fork(self, request: Request, response: Response, tag: str) -> InviteUsage:
        usage = self._usage(request, response)
        self._forks[tag] = usage
        return usage

    def _usage(self, request: Request, response: Response) -> InviteUsage:
        session = self._session
        dialog = Dialog.of_client(
            request, response, session.hop, local_tag=session.local_tag, contact=session.contact
        )
        usage = InviteUsage(dialog, response)
        if request.body:
            usage.exchange.send_offer(request.body)
        return usage

    def _on_accepted(self, request: Request, response: Response) -> None:
        session, tag = self._session, response.to.tag or ""
        if self._client is None:
            # Nobody waits any more: the 2xx again, or that of another fork.
            if session.usage.dialog.remote_tag == tag:
                session.send_ack(session.usage, request)
            else:
                self._drop(request, response, tag)
            return
        self._client = None
        usage = self._forks.get(tag) or self._usage(request, response)
        usage.learn(response)
        self._forks.clear()
        session.usage = usage
        usage.dialog.confirm(response)
        if session.is_over:  # the 2xx crossed our CANCEL (9.1)
            session.send_ack(usage, request)
            session.send_bye(Code.CALLER_ABANDONED)
            return
        session.state = SessionState.CONFIRMED
        session.timer_agreed(response)
        take_2xx(session, usage, request, response)

    def _drop(self, request: Request, response: Response, tag: str) -> None:
        """Acknowledge and end what another fork accepted (13.2.2.4)."""
        if tag not in self._dropped and len(self._dropped) >= _MOST_FORKS:
            return
        usage = self._usage(request, response)
        usage.dialog.confirm(response)
        self._session.send_ack(usage, request)
        if tag not in self._dropped:
            self._dropped.add(tag)
            bye = usage.dialog.request("BYE", headers=[reason_header(Code.FLOW_ENDED)])
            self._session.client.send(usage.dialog, bye)

    # Refusals

    def _on_refused(self, request: Request, response: Response) -> None:
        session = self._session
        self._client = None
        self._forks.clear()
        if session.is_over:
            session.release()
            return
        again = self._again(request, response)
        if again is not None:
            session.state = SessionState.CALLING
            self._send(again)
            return
        end = SessionEnd(
            by_peer=True,
            status=response.status,
            code=code_of_response(response),
            reason=reason_text(response) or response.reason,
            retry_after_s=retry_after_s(response),
            targets=targets_of(response) if response.status < 400 else (),
        )
        session.finish(end, session.release)

    def _again(self, request: Request, response: Response) -> Request | None:
        """Return the INVITE to send after a refusal that tells what to do better."""
        session, status, cseq = self._session, response.status, request.cseq[0] + 1
        if status == 422 and session.timer.lengthen(response):
            again = _renumbered(request, cseq)
            for name, value in session.timer.ask():
                again.headers.set(name, value)
            return again
        if status < 400 and self._redirects is not None:
            self._redirects.add(targets_of(response))
            target = self._redirects.next()
            if target is None:
                return None
            again = _renumbered(request, cseq)
            again.uri = target
            # 8.1.3.4: the new target has no use for the way to the old one.
            again.headers.remove("Route")
            self._target = resolve(target, session.hop)
            if isinstance(self._target, Hop):
                session.hop = self._target
            return again
        return session.client.authorized(request, response, cseq)

    def _on_failure(self, code: Code) -> None:
        self._client = None
        self.stop()
        if self._session.is_over:
            self._session.release()
        else:
            self._session.fail(code)


def _renumbered(request: Request, cseq: int) -> Request:
    again = request.copy()
    again.headers.remove("Via")
    again.headers.set("CSeq", f"{cseq} INVITE")
    return again
