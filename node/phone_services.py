"""What phones are offered beside calls: transfers, lamps and texts."""

from __future__ import annotations

from cti.sip.authentication.phone_auth import PhoneAuthenticator, PhoneDirectory
from cti.sip.events.dialog_info import DialogInfo, DialogStates
from cti.sip.events.message_relay import ContactLookup, MessageRelay
from cti.sip.events.page_message import MessageService
from cti.sip.events.refer import ReferService
from cti.sip.events.subscription import SubscriptionService
from cti.sip.user_agent import UserAgent


class PhoneServices:
    """The methods of phones on one user agent."""

    def __init__(
        self,
        user_agent: UserAgent,
        *,
        directory: PhoneDirectory,
        authenticator: PhoneAuthenticator,
        contacts: ContactLookup,
        lamps: DialogStates,
    ) -> None:
        ReferService(user_agent)
        self._subscriptions = SubscriptionService(
            user_agent, phones=authenticator, packages=[DialogInfo(lamps)]
        )
        self._relay = MessageRelay(user_agent, directory, contacts)
        self._messages = MessageService(
            user_agent, phones=authenticator, on_message=self._relay.deliver
        )

    async def aclose(self) -> None:
        """Tell phones to subscribe elsewhere; to be called while the endpoint still sends."""
        await self._subscriptions.aclose()
        await self._messages.aclose()
        await self._relay.aclose()
