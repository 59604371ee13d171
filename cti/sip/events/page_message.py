"""MESSAGE: short texts between phones, in pager mode (RFC 3428)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from cti.sip.authentication.phone_auth import PhoneAccount, PhoneAuthenticator
from cti.sip.endpoint import ServerTransaction
from cti.sip.messages.message import Request, Response, response_to
from cti.sip.messages.uri import NameAddr, SipUri
from cti.sip.sessions.dialog import Dialog
from cti.sip.sessions.session import InviteSession
from cti.sip.user_agent import UserAgent

log = structlog.get_logger(__name__)

TEXT_TYPE = "text/plain;charset=UTF-8"
MAX_TEXT_BYTES = 1300
"""Section 8: over UDP a larger one could be cut off by the network."""
_CHARSETS = frozenset({"utf-8", "us-ascii"})
_MAX_PENDING = 1_000
_RETRY_AFTER_S = 5


@dataclass(frozen=True, slots=True)
class PageMessage:
    """A text one of our phones sends to a user of its tenant."""

    sender: PhoneAccount
    from_: NameAddr
    target: SipUri
    """The Request-URI; it has a user."""
    text: str


OnMessage = Callable[[PageMessage], Awaitable[int]]
"""Delivers a text; returns the status its sender gets."""
OnSessionMessage = Callable[[InviteSession, str], int]
"""Takes a text sent inside a call; returns the status its sender gets."""


class MessageService:
    """Serves MESSAGE: outside of calls from our phones only, inside of calls where it is wanted."""

    def __init__(
        self,
        user_agent: UserAgent,
        *,
        phones: PhoneAuthenticator,
        on_message: OnMessage,
        on_session_message: OnSessionMessage | None = None,
    ) -> None:
        self._phones = phones
        self._on_message = on_message
        self._on_session_message = on_session_message
        self._pending: set[asyncio.Task[None]] = set()
        user_agent.serve(
            "MESSAGE",
            out_of_dialog=self._receive,
            in_dialog=None if on_session_message is None else self._receive_in_session,
        )

    async def aclose(self) -> None:
        """Give up what is not delivered yet; its senders learn it by their timers."""
        for task in self._pending:
            task.cancel()
        await asyncio.gather(*self._pending, return_exceptions=True)

    def _receive(self, server: ServerTransaction) -> None:
        request = server.request
        if request.to.tag is not None:
            server.respond(response_to(request, 481))
            return
        text = text_of(request)
        if isinstance(text, Response):
            server.respond(text)
            return
        account = self._phones.judge(server, request.method)
        if isinstance(account, Response):
            server.respond(account)
            return
        target = request.target
        if not isinstance(target, SipUri) or not target.user:
            server.respond(response_to(request, 404))
            return
        if len(self._pending) >= _MAX_PENDING:
            headers = [("Retry-After", str(_RETRY_AFTER_S))]
            server.respond(response_to(request, 503, headers=headers))
            return
        from_ = NameAddr(request.from_.uri_text, request.from_.display)
        message = PageMessage(account, from_, target, text)
        task = asyncio.get_running_loop().create_task(self._deliver(server, message))
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    async def _deliver(self, server: ServerTransaction, message: PageMessage) -> None:
        try:
            status = await self._on_message(message)
        except Exception:
            log.exception("page_message_failed", tenant=message.sender.tenant)
            status = 500
        server.respond(response_to(server.request, status))

    def _receive_in_session(
        self, session: InviteSession, server: ServerTransaction, _dialog: Dialog
    ) -> None:
        text = text_of(server.request)
        if isinstance(text, Response):
            server.respond(text)
        elif self._on_session_message is not None:
            status = self._on_session_message(session, text)
            server.respond(response_to(server.request, status))


def text_of(request: Request) -> str | Response:
    """Return the text of a MESSAGE, or what to answer when it cannot be taken."""
    kind, *params = (request.headers.get("Content-Type") or "").lower().split(";")
    charsets = [
        each.strip()[8:].strip('"') for each in params if each.strip().startswith("charset=")
    ]
    if kind.strip() != "text/plain" or not _CHARSETS.issuperset(charsets):
        return response_to(request, 415, headers=[("Accept", TEXT_TYPE)])
    if any(each.lower() != "identity" for each in request.headers.get_all("Content-Encoding")):
        return response_to(request, 415, headers=[("Accept-Encoding", "identity")])
    if len(request.body) > MAX_TEXT_BYTES:
        return response_to(request, 413)
    try:
        return request.body.decode()
    except UnicodeDecodeError:
        return response_to(request, 400, "Text Is Not UTF-8")
