"""The agents signed in at this node, and their sessions.

A session is a token that the toolbar shows with every command. A toolbar that loses its event
stream has a grace period to come back with the same token; then the agent is signed out, or as
soon as the present call is over.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog
from prometheus_client import Counter, Gauge

from agents.directory import Directory
from agents.far_line import FarLines
from agents.line import AgentLine
from agents.live_agent import LiveAgent, Surroundings
from agents.notices import Subscription
from agents.passwords import PasswordCheck
from agents.settings import AgentSettings
from agents.summary import CallSummary
from agents.supervising import SupervisorDesk
from cti.call import DialTarget
from cti95598.events.v1.events_pb2 import AuthenticationFailed
from domain.events import EventStamp
from domain.failures import Code, PlatformError
from domain.ids import AgentId, TenantId
from routing.acd import Acd, Offer

log = structlog.get_logger(__name__)

SIGNED_IN = Gauge("agents_signed_in", "Agents signed in at this node")
SIGN_IN_FAILURES = Counter("agents_sign_in_failures_total", "Refused sign-ins", ["code"])

_MAX_PHONE_LENGTH = 64
_CONSULT_RING_MS = 30_000
_PHONE = re.compile(r"[\w.-]{1,64}")
_NUMBER = re.compile(r"\+?[0-9*#]{1,32}")


class AgentDesk:
    """Signs agents in and out and finds them."""

    def __init__(
        self,
        *,
        acd: Acd,
        directory: Directory,
        events: EventStamp,
        passwords: PasswordCheck,
        phone_registered: Callable[[TenantId, str], Awaitable[bool]],
        grace_s: float = 30.0,
    ) -> None:
        self._acd = acd
        self._directory = directory
        self._events = events
        self._passwords = passwords
        self._phone_registered = phone_registered
        self._grace_s = grace_s
        self._around = Surroundings(acd, events, directory, self.spawn, self._forget)
        self._agents: dict[tuple[TenantId, AgentId], LiveAgent] = {}
        self._sessions: dict[str, LiveAgent] = {}
        self._signing_in: set[tuple[TenantId, AgentId]] = set()
        self._work: set[asyncio.Task[None]] = set()
        self._far = FarLines(acd, self._find, self.spawn)
        self.supervisors = SupervisorDesk(self._find, events)

    # Sessions

    async def sign_in(
        self,
        tenant: TenantId,
        agent: AgentId,
        password: str,
        *,
        phone: str = "",
        take_over: bool = False,
        source: str = "",
    ) -> LiveAgent:
        """Check the password and open a session. Raises PlatformError."""
        try:
            settings = await self._authenticate(tenant, agent, password)
            return await self._open(tenant, settings, phone, take_over)
        except PlatformError as error:
            SIGN_IN_FAILURES.labels(error.code).inc()
            if error.code in {Code.PASSWORD_WRONG, Code.AGENT_LOCKED}:
                failed = AuthenticationFailed(protocol="sign_in", user=agent, source_address=source)
                self._events.publish(tenant, failed, cause=error.code)
            raise

    async def _authenticate(self, tenant: TenantId, agent: AgentId, password: str) -> AgentSettings:
        await self._passwords.check(tenant, agent, password)
        settings = self._directory.agent(tenant, agent)
        if settings is None:  # removed from the configuration, the secret is still there
            raise PlatformError(Code.PASSWORD_WRONG, f"agent {agent}")
        return settings

    async def _open(
        self, tenant: TenantId, settings: AgentSettings, phone: str, take_over: bool
    ) -> LiveAgent:
        key = (tenant, settings.agent_id)
        if key in self._signing_in:
            raise PlatformError(Code.SIGNED_IN_ELSEWHERE, "another sign-in is under way")
        self._signing_in.add(key)
        try:
            self._make_room(key, take_over)
            profile = self._directory.profile(tenant, settings)
            try:
                await self._acd.sign_in(profile, take_over=take_over)
            except PlatformError as error:
                if error.code is not Code.QUEUE_UNAVAILABLE:
                    raise
        finally:
            self._signing_in.discard(key)
        phone = phone[:_MAX_PHONE_LENGTH] or settings.phone
        live = LiveAgent(tenant, settings, phone, secrets.token_urlsafe(32), self._around)
        self._agents[key] = live
        self._sessions[live.token] = live
        SIGNED_IN.inc()
        live.sign_in()
        return live

    def _make_room(self, key: tuple[TenantId, AgentId], take_over: bool) -> None:
        present = self._agents.get(key)
        if present is None:
            return
        if not take_over or present.in_call:
            raise PlatformError(Code.SIGNED_IN_ELSEWHERE, f"since then {present.state}")
        present.dismiss("taken_over")

    def session(self, token: str) -> LiveAgent:
        """The agent of a session, or PlatformError(SESSION_INVALID)."""
        live = self._sessions.get(token)
        if live is None:
            raise PlatformError(Code.SESSION_INVALID)
        return live

    async def ready(self, live: LiveAgent) -> None:
        """Let the agent take calls, provided that the phone can be rung."""
        try:
            registered = await self._phone_registered(live.tenant, live.phone)
        except PlatformError:  # the store is away: ringing will tell
            registered = True
        if not registered:
            raise PlatformError(Code.PHONE_NOT_REGISTERED, f"phone {live.phone}")
        live.ready()

    async def consult(
        self, live: LiveAgent, *, agent: str = "", phone: str = "", number: str = ""
    ) -> None:
        """Ring an expert for an agent: one of an agent's number, a phone, or a number outside."""
        live.require_talk()
        if agent:
            phone = self._phone_of(live.tenant, AgentId(agent))
        user, pattern = (phone, _PHONE) if not number else (number, _NUMBER)
        if not pattern.fullmatch(user) or user == live.phone:
            raise PlatformError(Code.EXPERT_UNKNOWN, f"{(agent or user)[:64]!r}")
        target = DialTarget(
            user=user,
            caller_number=live.phone,
            caller_name=live.settings.name,
            purpose="consult",
            outside=bool(number),
        )
        await live.consult(target, timeout_ms=_CONSULT_RING_MS)

    def _phone_of(self, tenant: TenantId, agent: AgentId) -> str:
        """Return where an agent is signed in at this node, else the configured phone."""
        live = self._find(tenant, agent)
        if live is not None:
            return live.phone
        settings = self._directory.agent(tenant, agent)
        return settings.phone if settings is not None else ""

    def unwatch(self, live: LiveAgent, subscription: Subscription) -> None:
        """An event stream has ended."""
        live.unwatch(subscription, self._grace_s)

    # What the queue asks

    async def offer(self, offer: Offer, call: CallSummary) -> AgentLine | None:
        """Mark an agent as ringing, here or at another node; None when not ready any more."""
        live = self._find(offer.tenant, offer.agent)
        if live is not None:
            return live if live.offer(call) else None
        if offer.agent_node == self._acd.node:
            return None
        return await self._far.offer(offer, call)

    def _find(self, tenant: TenantId, agent: AgentId) -> LiveAgent | None:
        return self._agents.get((tenant, agent))

    def taken_over(self, tenant: TenantId, agent: AgentId) -> None:
        """The agent signed in at another node."""
        live = self._agents.get((tenant, agent))
        if live is not None:
            live.dismiss("taken_over")

    # The node's life

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run work in the background; works begin in the order in which they were given."""
        task = asyncio.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def aclose(self) -> None:
        """Sign everybody out; calls have ended before."""
        for live in tuple(self._agents.values()):
            live.leave("node_stopping")
        if self._work:
            await asyncio.wait(self._work, timeout=5.0)
        self._passwords.close()

    def _forget(self, live: LiveAgent) -> None:
        key = (live.tenant, live.settings.agent_id)
        if self._agents.get(key) is live:
            del self._agents[key]
        if self._sessions.pop(live.token, None) is not None:
            SIGNED_IN.dec()
