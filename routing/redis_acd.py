"""The ACD on Redis: every decision is one atomic script, so any number of nodes share the queues.

The scripts keep one invariant: no waiting call and ready agent that fit each other are both left
when a script ends. So each step looks for a partner only for the call or agent that it set free.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Any, Final, TypeVar

import structlog
from prometheus_client import Counter, Histogram
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from domain.failures import Code, PlatformError
from domain.ids import AgentId, CallId, NodeId, QueueId, TenantId, TicketId
from domain.redis_line import RedisLine
from domain.tasks import end_tasks
from routing.acd import AgentProfile, Offer, QueueRequest
from routing.node_truth import NodeTruth, TicketTruth, joined
from routing.script_runner import Reply, ScriptRunner

log = structlog.get_logger(__name__)


OFFERS = Counter("acd_offers_total", "Offers made to calls of this node")
OFFER_WAIT = Histogram(
    "acd_offer_wait_seconds",
    "From the call's arrival in the queue to its offer",
    buckets=(0.01, 0.05, 0.25, 1, 5, 20, 60, 300),
)
RESYNCS = Counter("acd_resyncs_total", "Times this node told the store all it knows")

_to_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode

T = TypeVar("T")

CHANNEL: Final = "cti95598:acd:"
_OPERATIONS: Final = (
    "enqueue", "cancel", "confirm", "reject", "sign_in", "declare", "sign_out", "place", "sweep",
    "resync", "post",
)  # fmt: skip
_GLOBAL_KEYS: Final = ("tickets", "agents", "leases", "fence", "mail", "nodes")
_QUEUE_KEYS: Final = ("waiting", "ready", "staff", "figures")


def load_scripts() -> dict[str, str]:
    """Read the scripts; each begins with what all share."""
    folder = files("routing") / "lua"
    common = (folder / "common.lua").read_text(encoding="utf-8")
    return {
        name: f"{common}\n{(folder / f'{name}.lua').read_text(encoding='utf-8')}"
        for name in _OPERATIONS
    }


@lru_cache(maxsize=4096)
def keys_of(tenant: TenantId, queues: tuple[str, ...]) -> tuple[str, ...]:
    """The keys of a script about these queues; the braces put a tenant on one cluster slot."""
    prefix = f"{{{tenant}}}:acd:"
    per_queue = (f"{prefix}queue:{queue}:{kind}" for queue in queues for kind in _QUEUE_KEYS)
    return (*(prefix + kind for kind in _GLOBAL_KEYS), *per_queue)


class RedisAcd:
    """Implements `routing.acd.Acd`.

    `tenants` names every queue of every tenant. The client should not retry by itself: a script
    whose reply was lost is made good by `resync`.
    """

    def __init__(
        self,
        redis: Redis,
        line: RedisLine,
        *,
        node: NodeId,
        tenants: Mapping[TenantId, Iterable[QueueId]],
        sweep_interval_s: float = 1.0,
        node_life_s: float = 10.0,
    ) -> None:
        self.on_offer: Callable[[Offer], None] = self._nobody
        self.on_taken_over: Callable[[TenantId, AgentId], None] = lambda _tenant, _agent: None
        self.on_post: Callable[[dict[str, Any]], None] = lambda _message: None
        self.node = node
        self._redis = redis
        self._tenants = {tenant: tuple(queues) for tenant, queues in tenants.items()}
        self._sweep_interval_s = sweep_interval_s
        self._life_ms = round(node_life_s * 1000)
        self._truth = NodeTruth()
        self._runner = ScriptRunner(line, load_scripts(), on_failure=self._store_failed)
        self._stale: set[TenantId] = set(self._tenants)
        """Tenants whose state in the store may differ from what this node knows."""
        self._tasks: set[asyncio.Task[Any]] = set()

    # The node's life

    async def start(self) -> None:
        """Announce this node and begin to sweep and to listen. The store may be away."""
        await self.sweep()
        self._spawn(self._sweep_for_ever())
        self._spawn(self._listen_for_ever())

    async def aclose(self) -> None:
        """Stop, and leave nothing of this node in the store."""
        while self._tasks:
            await end_tasks(tuple(self._tasks))
            await asyncio.sleep(0)  # each leaves by its own callback
        gone = {"life_ms": 0, "agents": [], "tickets": []}
        for tenant, queues in self._tenants.items():
            with contextlib.suppress(PlatformError):
                await self._run("resync", tenant, queues, dict(gone), _status)
        await self._runner.aclose()

    def configure(self, tenants: Mapping[TenantId, Iterable[QueueId]]) -> None:
        """Take over a new list of queues."""
        self._tenants = {tenant: tuple(queues) for tenant, queues in tenants.items()}
        self._stale |= set(self._tenants)

    async def sweep(self) -> None:
        """Renew this node's mark, give back what has ended, and resync where that is due."""
        for tenant, queues in self._tenants.items():
            try:
                known = await self._run(
                    "sweep", tenant, queues, {"life_ms": self._life_ms}, _status
                )
                if not known or tenant in self._stale:
                    await self._resync(tenant, queues)
            except PlatformError:
                self._stale.add(tenant)

    async def _resync(self, tenant: TenantId, queues: tuple[QueueId, ...]) -> None:
        RESYNCS.inc()
        self._stale.discard(tenant)  # a failure from here on makes it stale again
        request = {"life_ms": self._life_ms, **self._truth.resync_request(tenant)}
        await self._run("resync", tenant, queues, request, _status)

    # Callers

    async def enqueue(self, request: QueueRequest) -> int:
        """Let a call wait, or offer it at once; return its position, 0 when it is being offered."""
        key = (request.tenant, request.ticket)
        self._known_queues(request.tenant, (request.queue,))
        ticket = self._truth.tickets.setdefault(key, TicketTruth(request))

        def answered(reply: Reply) -> int:
            if reply[0] != 1:
                self._truth.tickets.pop(key, None)
                raise PlatformError(
                    Code.QUEUE_FULL if reply[0] == 2 else Code.QUEUE_NO_AGENTS, request.queue
                )
            ticket.arrival_us = _text(reply[1][1])
            return int(reply[1][0])

        body = {
            "ticket": request.ticket,
            "call": request.call_id,
            "queue": request.queue,
            "priority": request.priority,
            "skills": joined(request.skills),
            "max_waiting": request.max_waiting,
            "refuse_without_agents": request.refuse_without_agents,
            "lease_ms": request.lease_ms,
        }
        try:
            return await self._run("enqueue", request.tenant, (request.queue,), body, answered)
        except PlatformError:
            self._truth.tickets.pop(key, None)
            raise

    async def cancel(self, tenant: TenantId, ticket: TicketId) -> bool:
        """Take a call out; an agent reserved for it is ready again. False if it was served."""
        known = self._truth.tickets.pop((tenant, ticket), None)
        if known is None:
            return False
        queues: tuple[QueueId, ...] = (known.request.queue,)
        if known.offer is not None:
            queues = _with(queues, known.offer.agent_queues)
        return await self._cancel(tenant, ticket, queues)

    async def _cancel(
        self, tenant: TenantId, ticket: TicketId, queues: tuple[QueueId, ...]
    ) -> bool:
        reply = await self._run("cancel", tenant, queues, {"ticket": ticket}, _whole)
        if reply[0] == 2:  # an offer is on its way to us
            queues = _with(queues, _queues(_text(reply[1])))
            reply = await self._run("cancel", tenant, queues, {"ticket": ticket}, _whole)
        return bool(reply[0] == 1)

    async def confirm(self, offer: Offer) -> bool:
        """The agent took the call. False when the reservation is no longer valid."""
        body = {"ticket": offer.ticket, "agent": offer.agent, "fence": str(offer.fence)}

        def answered(reply: Reply) -> bool:
            if reply[0] != 1:
                return False
            self._truth.confirmed(offer)
            return True

        try:
            return await self._run("confirm", offer.tenant, (offer.queue,), body, answered)
        except PlatformError:
            self._truth.confirmed(offer)  # they talk, whatever the store knows
            raise

    async def reject(self, offer: Offer, *, agent_ready: bool | None = False) -> bool:
        """Give back: the call to the head of its queue. False when no longer valid."""
        body = {"ticket": offer.ticket, "fence": str(offer.fence)}
        if agent_ready is not None:
            body["agent_state"] = state = "ready" if agent_ready else "not_ready"
            agent = self._truth.agents.get((offer.tenant, offer.agent))
            if agent is not None:
                self._truth.declare(agent.profile, state)
        self._truth.given_back(offer)
        queues = _with((offer.queue,), offer.agent_queues)
        return await self._run("reject", offer.tenant, queues, body, _status) == 1

    async def position(self, tenant: TenantId, ticket: TicketId) -> int:
        """The ticket's position, 0 when it is being offered or does not wait."""
        return (await self._place(tenant, ticket))[0]

    async def estimate(self, tenant: TenantId, ticket: TicketId) -> int | None:
        """Estimated wait in seconds: position × average handling time / working agents."""
        estimate_s = (await self._place(tenant, ticket))[1]
        return None if estimate_s < 0 else estimate_s

    async def _place(self, tenant: TenantId, ticket: TicketId) -> tuple[int, int]:
        known = self._truth.tickets.get((tenant, ticket))
        if known is None:
            return 0, -1
        queues = (known.request.queue,)
        reply = await self._run("place", tenant, queues, {"ticket": ticket}, _whole)
        return int(reply[0]), int(reply[1])

    # Agents

    async def sign_in(self, profile: AgentProfile, *, take_over: bool = False) -> None:
        """Register a signed-in agent as not ready."""
        body = _agent_body(profile) | {"take_over": take_over}
        self._known_queues(profile.tenant, profile.queues)

        def answered(reply: Reply) -> None:
            if reply[0] != 1:
                raise PlatformError(Code.SIGNED_IN_ELSEWHERE, "at another node")
            self._truth.declare(profile, "not_ready")

        try:
            await self._run("sign_in", profile.tenant, profile.queues, body, answered)
        except PlatformError as error:
            if error.code is Code.QUEUE_UNAVAILABLE:
                self._truth.declare(profile, "not_ready")
            raise

    async def sign_out(self, profile: AgentProfile) -> None:
        """Forget an agent."""
        self._truth.agents.pop((profile.tenant, profile.agent), None)
        body = _agent_body(profile)
        await self._run("sign_out", profile.tenant, profile.queues, body, _status)

    async def ready(self, profile: AgentProfile, *, at_once: bool = True) -> None:
        """Let an agent take calls, from now on as the most recently idle one."""
        await self._declare(profile, "ready", at_once=at_once)

    async def not_ready(self, profile: AgentProfile) -> None:
        """Let an agent take no calls."""
        await self._declare(profile, "not_ready")

    async def _declare(self, profile: AgentProfile, state: str, *, at_once: bool = True) -> None:
        self._truth.declare(profile, state)

        def answered(reply: Reply) -> None:
            if reply[0] != 1:
                self._truth.agents.pop((profile.tenant, profile.agent), None)
                raise PlatformError(Code.SIGNED_IN_ELSEWHERE, "at another node")
            known = self._truth.agents.get((profile.tenant, profile.agent))
            if known is not None and known.state == state:
                known.since_us = _text(reply[1])

        body = _agent_body(profile) | {"state": state}
        await self._run("declare", profile.tenant, profile.queues, body, answered, at_once=at_once)

    def post(self, node: NodeId, message: dict[str, Any]) -> None:
        """Send plain data to another node, after all that was asked before; it may get lost."""
        body = {
            "queues": [],
            "channel": CHANNEL,
            "to": node,
            "message": json.dumps({"post": message}, ensure_ascii=False),
        }
        sent = self._runner.run("post", (), (self.node, json.dumps(body)), _status)
        sent.add_done_callback(_ignore_loss)

    # Inside

    def _run(
        self,
        operation: str,
        tenant: TenantId,
        queues: tuple[str, ...],
        body: dict[str, Any],
        handle: Callable[[Reply], T],
        *,
        at_once: bool = True,
    ) -> asyncio.Future[T]:
        """Ask for a script; offers in its reply are passed on before the future is done."""
        body |= {"tenant": tenant, "queues": queues, "channel": CHANNEL}
        text = _to_json(body)

        def handled(reply: Reply) -> T:
            result = handle(reply)
            if len(reply) > 2:
                for offer in reply[2]:
                    self._take_offer(json.loads(offer))
            return result

        keys = keys_of(tenant, queues)
        return self._runner.run(operation, keys, (self.node, text), handled, at_once=at_once)

    def _take_offer(self, record: dict[str, Any]) -> None:
        offer = _offer(record)
        if self._truth.offered(offer):
            OFFERS.inc()
            OFFER_WAIT.observe(offer.waited_ms / 1000)
            self.on_offer(offer)
        elif (offer.tenant, offer.ticket) not in self._truth.tickets:
            # Its caller left before the offer came, or its enqueue was taken for failed.
            queues = _with((offer.queue,), offer.agent_queues)
            self._spawn(self._cancel_quietly(offer.tenant, offer.ticket, queues))

    async def _cancel_quietly(
        self, tenant: TenantId, ticket: TicketId, queues: tuple[QueueId, ...]
    ) -> None:
        with contextlib.suppress(PlatformError):
            await self._cancel(tenant, ticket, queues)

    def _store_failed(self) -> None:
        self._stale |= set(self._tenants)

    def _nobody(self, offer: Offer) -> None:
        log.warning("offer without anybody to take it", queue=offer.queue)

    def _known_queues(self, tenant: TenantId, queues: Iterable[str]) -> None:
        unknown = set(queues) - set(self._tenants.get(tenant, ()))
        if unknown:
            raise PlatformError(Code.QUEUE_UNKNOWN, ", ".join(sorted(unknown)))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _sweep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._sweep_interval_s)
            await self.sweep()

    async def _listen_for_ever(self) -> None:
        """Hear offers of other nodes at once; what is not heard comes with the next sweep."""
        while True:
            try:
                async with self._redis.pubsub() as pubsub:
                    await pubsub.subscribe(CHANNEL + self.node)
                    await self._listen(pubsub)
            except (RedisError, OSError):
                self._store_failed()
            await asyncio.sleep(self._sweep_interval_s)

    async def _listen(self, pubsub: PubSub) -> None:
        subscribed = False
        async for message in pubsub.listen():
            if message["type"] == "subscribe":
                if subscribed:  # the client reconnected by itself: it may be another Redis
                    self._store_failed()
                subscribed = True
            elif message["type"] == "message":
                self._take_message(json.loads(message["data"]))

    def _take_message(self, message: dict[str, Any]) -> None:
        if "taken_over" in message:
            tenant, agent = TenantId(message["tenant"]), AgentId(message["taken_over"])
            self._truth.agents.pop((tenant, agent), None)
            self.on_taken_over(tenant, agent)
        elif "post" in message:
            self.on_post(message["post"])
        else:
            self._take_offer(message)


def _agent_body(profile: AgentProfile) -> dict[str, Any]:
    return {
        "agent": profile.agent,
        "agent_queues": joined(profile.queues),
        "skills": joined(profile.skills),
    }


def _offer(record: dict[str, Any]) -> Offer:
    return Offer(
        tenant=TenantId(record["tenant"]),
        ticket=TicketId(record["ticket"]),
        call_id=CallId(record["call"]),
        queue=QueueId(record["queue"]),
        node=NodeId(record["node"]),
        agent=AgentId(record["agent"]),
        agent_node=NodeId(record["agent_node"]),
        agent_queues=_queues(record["agent_queues"]),
        fence=int(record["fence"]),
        lease_ms=record["lease_ms"],
        waited_ms=record["waited_ms"],
    )


def _queues(text: str) -> tuple[QueueId, ...]:
    return tuple(QueueId(name) for name in text.split(",") if name)


def _with(queues: tuple[QueueId, ...], more: Iterable[QueueId]) -> tuple[QueueId, ...]:
    return tuple(dict.fromkeys((*queues, *more)))


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _status(reply: Reply) -> int:
    return int(reply[0])


def _ignore_loss(sent: asyncio.Future[int]) -> None:
    if not sent.cancelled():
        sent.exception()


def _whole(reply: Reply) -> Reply:
    return reply
