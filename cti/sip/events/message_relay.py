"""Texts from phone to phone: a MESSAGE goes on to all phones of the user it names."""

from __future__ import annotations

import asyncio
from typing import Protocol

import structlog

from cti.shared.contacts import Binding
from cti.sip.authentication.phone_auth import PhoneDirectory
from cti.sip.events.page_message import TEXT_TYPE, PageMessage
from cti.sip.messages.uri import NameAddr, SipUri
from cti.sip.user_agent import UserAgent
from domain.failures import PlatformError
from domain.ids import TenantId
from domain.masking import mask_number

log = structlog.get_logger(__name__)

_OFFLINE = 480
# What a phone says of the text; all else it answers is about itself and of no use to the sender.
_ABOUT_THE_TEXT = frozenset({413, 415, 486, 488, 600, 603, 606})
_TRY_NEXT_WAY = frozenset({408, 430, 503})


class ContactLookup(Protocol):
    """Knows where phones are reached."""

    async def lookup(self, tenant: TenantId, user: str) -> list[Binding]:
        """Return a user's phones."""


class MessageRelay:
    """Delivers texts within a tenant; nothing of the sender's signalling goes with them."""

    def __init__(
        self, user_agent: UserAgent, directory: PhoneDirectory, contacts: ContactLookup
    ) -> None:
        self._user_agent = user_agent
        self._directory = directory
        self._contacts = contacts
        # The sender's transaction ends by itself after 64*T1; it has to hear before (RFC 4320).
        self._patience_s = user_agent.endpoint.timers.timeout_s / 2
        self._sending: set[asyncio.Task[int]] = set()

    async def deliver(self, message: PageMessage) -> int:
        """Send a text to all phones of a user; return the status for its sender."""
        target = message.target
        account = self._directory.find(target.user, target.host)
        if account is None or account.tenant != message.sender.tenant:
            return 404
        try:
            bindings = await self._contacts.lookup(account.tenant, account.user)
        except PlatformError as error:
            return error.failure.sip_status
        status = await self._first_good(message, bindings)
        log.debug(
            "page_message_relayed",
            tenant=account.tenant,
            sender=mask_number(message.sender.user),
            receiver=mask_number(account.user),
            phones=len(bindings),
            status=status,
        )
        return status

    async def aclose(self) -> None:
        """Stop sending."""
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)

    async def _first_good(self, message: PageMessage, bindings: list[Binding]) -> int:
        """Send to all, and return as soon as one phone has it; the others get it all the same."""
        sending = [asyncio.create_task(self._send(message, each)) for each in bindings]
        for task in sending:
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
        refused = _OFFLINE
        try:
            async with asyncio.timeout(self._patience_s):
                for outcome in asyncio.as_completed(sending):
                    status = await outcome
                    if status < 300:
                        return 200
                    if status in _ABOUT_THE_TEXT:
                        refused = status
        except TimeoutError:
            pass
        return refused

    async def _send(self, message: PageMessage, binding: Binding) -> int:
        """Send to one phone, over the first way that leads to it; return its answer."""
        to = NameAddr(SipUri(user=message.target.user, host=message.target.host))
        for way in binding.ways:
            try:
                response = await self._user_agent.request(
                    "MESSAGE",
                    way.uri,
                    from_=message.from_,
                    to=to,
                    hop=way.hop,
                    route=way.route,
                    body=message.text.encode(),
                    content_type=TEXT_TYPE,
                )
            except PlatformError:
                continue
            if response.status not in _TRY_NEXT_WAY:
                return response.status
        return _OFFLINE
