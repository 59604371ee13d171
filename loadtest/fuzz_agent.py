"""A user agent with all its services over memory, and an application of many whims."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from random import Random
from typing import Any

from cti.identity import (
    CallerIdentity,
    identity_of,
    outgoing_identity,
    user_to_user_header,
)
from cti.sip.authentication.digest import Credentials, DigestServer, ha1
from cti.sip.authentication.phone_auth import Arrival, PhoneAccount, PhoneAuthenticator
from cti.sip.edge import Edge
from cti.sip.events.dialog_info import DialogInfo, DialogStage, PhoneDialog
from cti.sip.events.message_relay import MessageRelay
from cti.sip.events.message_summary import MessageSummary, VoiceMail
from cti.sip.events.page_message import MessageService
from cti.sip.events.phone_dialogs import PhoneDialogs
from cti.sip.events.refer import ReferService
from cti.sip.events.replaces import replaced_session
from cti.sip.events.subscription import SubscriptionService
from cti.sip.messages.message import Response
from cti.sip.registration.registrar import Registrar
from cti.sip.sessions.session import InviteSession
from cti.sip.sessions.session_events import Referral, SessionEnd, SessionObserverBase
from cti.sip.sessions.session_policy import Reliability, SessionPolicy
from cti.sip.transports.transport import Hop
from cti.sip.user_agent import UserAgent
from cti.trunks.settings import CallerIdStyle
from domain.failures import Code, PlatformError
from domain.ids import TenantId
from loadtest.fuzz_peer import HOST, PASSWORD, PORT
from loadtest.memory_endpoint import ADDRESS, MemoryEndpoint, Sent
from tests.fakes.contact_store import MemoryContactStore

SDP = b"v=0\r\no=- 1 1 IN IP4 192.0.2.95\r\ns=-\r\nc=IN IP4 192.0.2.95\r\nt=0 0\r\n"
_HOP = Hop("udp", HOST, PORT)
_LONGEST_CALL_S = 60.0
_REFUSALS = (Code.BUSY, Code.NO_COMMON_CODEC, Code.INTERNAL, Code.SIP_TIMEOUT)


class _Directory:
    """Three phones."""

    def find(self, user: str, domain: str) -> PhoneAccount | None:  # noqa: ARG002 - any domain
        if user not in {"1001", "1002", "1003"}:
            return None
        return PhoneAccount(TenantId("fuzz"), user, {"MD5": ha1("MD5", user, "phones", PASSWORD)})


class _Lenient(PhoneAuthenticator):
    """Reads all credentials, and lets many in with wrong ones: what comes after is of interest."""

    random = Random(0)  # noqa: S311 - to be repeated, not to be secret

    def judge(self, arrival: Arrival, method: str) -> PhoneAccount | Response:
        verdict = super().judge(arrival, method)
        claimed = arrival.request.to.uri if method == "REGISTER" else arrival.request.from_.uri
        is_lenient = self.random.random() < 0.5
        if is_lenient and isinstance(verdict, Response) and not isinstance(claimed, str):
            return _Directory().find(claimed.user, "") or verdict
        return verdict


class _Counts:
    """The mail of phone 1001, which never changes."""

    def voice_mail(self, tenant: TenantId, user: str) -> VoiceMail | None:  # noqa: ARG002
        return VoiceMail(1, 2) if user == "1001" else None

    def watch(self, changed: object) -> None:
        """Nothing changes."""


class _Whims(SessionObserverBase):
    """Does to a call what comes to its mind."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self.session: InviteSession | None = None

    def on_progress(self, status: int, sdp: bytes) -> None:  # noqa: ARG002
        self._perhaps()

    def on_answered(self, sdp: bytes) -> None:  # noqa: ARG002
        self._perhaps()

    def on_acknowledged(self, sdp: bytes) -> None:  # noqa: ARG002
        self._perhaps()

    def on_reoffer(self, sdp: bytes) -> bytes | Code:  # noqa: ARG002
        return self._application.random.choice((SDP, SDP, Code.NO_COMMON_CODEC))

    def on_refer(self, referral: Referral) -> None:
        random = self._application.random
        if random.random() < 0.3:
            referral.refuse(Code.TRANSFER_FORBIDDEN)
            return
        referral.accept()
        loop = asyncio.get_running_loop()
        loop.call_later(random.random() * 5, referral.progress, 180)
        loop.call_later(5 + random.random() * 5, referral.finish, random.choice((200, 486, 603)))

    def on_ended(self, end: SessionEnd) -> None:  # noqa: ARG002
        self._application.ended += 1
        if self.session is not None:
            self._application.tell(self.session, DialogStage.TERMINATED)

    def _perhaps(self) -> None:
        session, random = self.session, self._application.random
        if session is not None and random.random() < 0.2:
            loop = asyncio.get_running_loop()
            loop.call_later(random.random() * 3, self._application.act, session)


class Application:
    """Takes, makes, changes and ends calls; no call outlives a minute."""

    def __init__(self, random: Random, on_sent: Sent) -> None:
        self.random = random
        self.ended = 0
        self.calls = 0
        self._caller = CallerIdentity(number="13800000000")
        self._tasks: set[asyncio.Task[None]] = set()
        self.endpoint = MemoryEndpoint(on_sent)
        store, directory = MemoryContactStore(), _Directory()
        clock = asyncio.get_running_loop().time
        phones = _Lenient(directory, DigestServer("phones"), unix_clock=clock)
        phones.random = random
        self.agent = UserAgent(
            self.endpoint,
            on_invite=self._on_invite,
            registrar=Registrar(authenticator=phones, store=store, unix_clock=clock),
            policy=SessionPolicy(reliability=Reliability.ALWAYS),
        )
        self.endpoint.edge = self.edge = Edge(
            self.endpoint, is_node=lambda hop: hop.transport == "udp" and random.random() < 0.5
        )
        self.edge.take_from("udp", *ADDRESS)
        ReferService(self.agent)
        self.subscriptions = SubscriptionService(
            self.agent, phones=phones, packages=[MessageSummary(_Counts()), self._dialogs()]
        )
        self.relay = MessageRelay(self.agent, directory, store)
        self.messages = MessageService(self.agent, phones=phones, on_message=self.relay.deliver)

    def _dialogs(self) -> DialogInfo:
        self.phone_dialogs = PhoneDialogs(lambda _tenant, user: user == "1001")
        return DialogInfo(self.phone_dialogs)

    def _on_invite(self, session: InviteSession) -> None:
        self.calls += 1
        replaced_session(self.agent, session.request)
        self._caller = identity_of(session.request)
        self.tell(session, DialogStage.TRYING)
        self._watch(session, _Whims(self))
        random = self.random
        kind = random.random()
        if kind < 0.2:
            session.reject(random.choice(_REFUSALS))
        elif kind < 0.5:
            session.accept(SDP)
        elif kind < 0.8:
            session.ring(random.choice((b"", SDP)))
            asyncio.get_running_loop().call_later(random.random() * 20, session.accept, SDP)

    def _watch(self, session: InviteSession, whims: _Whims) -> None:
        whims.session = session
        session.observer = whims
        after_s = self.random.random() * _LONGEST_CALL_S
        asyncio.get_running_loop().call_later(after_s, session.end, Code.NODE_STOPPED)

    def tell(self, session: InviteSession, stage: DialogStage) -> None:
        """Tell those who watch phone 1001."""
        dialog = PhoneDialog(session.call_id, stage, "initiator")
        self.phone_dialogs.tell(TenantId("fuzz"), "1001", dialog)

    def act(self, session: InviteSession) -> None:
        """Do something to a call."""
        random = self.random
        kind = random.random()
        if kind < 0.3:
            session.reinvite(SDP)
        elif kind < 0.5:
            session.notify_talk(lambda _done: None)
        elif kind < 0.7:
            session.send("INFO", [("X-Whim", "yes")], b"Signal=1\r\n", "application/dtmf-relay")
        else:
            session.end(Code.NODE_STOPPED)

    def start_something(self) -> None:
        """Make a call, or send another request, to the peer."""
        kind = self.random.random()
        if kind < 0.7:
            whims = _Whims(self)
            caller = self._caller
            identity = outgoing_identity(
                caller.number,
                "example.com",
                style=self.random.choice(list(CallerIdStyle)),
                privacy=caller.withheld,
            )
            session = self.agent.invite(
                f"sip:1001@{HOST}:{PORT}",
                from_=identity.from_,
                headers=(*identity.headers, *map(user_to_user_header, caller.user_to_user)),
                hop=_HOP,
                sdp=self.random.choice((SDP, SDP, b"")),
                observer=whims,
                follow_redirects=True,
                credentials=self.random.choice((None, Credentials("95598", "secret"))),
            )
            self.calls += 1
            self._watch(session, whims)
        elif kind < 0.85:
            self._begin(self._ask())
        else:
            self._begin(self._register())

    def _begin(self, doing: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(doing)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask(self) -> None:
        try:
            await self.agent.request(
                "OPTIONS", f"sip:{HOST}", from_="sip:95598@example.com", hop=_HOP
            )
        except PlatformError:
            return

    async def _register(self) -> None:
        try:
            await self.agent.register(
                registrar_uri=f"sip:{HOST}",
                aor="sip:95598@example.com",
                hop=_HOP,
                credentials=Credentials("95598", "secret"),
                expires_s=60,
            )
        except PlatformError:
            return

    @property
    def left(self) -> dict[str, int]:
        """What is still there, by kind."""
        return {
            **Counter(self.endpoint.transactions),
            "timers": self.endpoint.timer_count,
            "sessions": self.agent.session_count,
            "subscriptions": self.subscriptions.count,
            "tasks": len(self._tasks),
        }

    async def aclose(self) -> None:
        """Stop all services."""
        await self.subscriptions.aclose()
        await self.messages.aclose()
        await self.relay.aclose()
        await self.agent.aclose()
        await self.endpoint.aclose()
