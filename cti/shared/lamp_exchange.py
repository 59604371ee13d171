"""Nodes on one Redis tell each other which of their calls keep which phone busy.

A hash a tenant holds the calls of each node and user, for nodes that start later; each change is
published too. While Redis is away, lamps show the calls of their own node.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, Protocol, cast

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from cti.sip.events.dialog_info import DialogStage, PhoneDialog
from cti.sip.events.phone_dialogs import PhoneDialogs
from domain.ids import NodeId, TenantId
from domain.redis_line import Command, RedisLine, accepted
from domain.tasks import end_tasks

log = structlog.get_logger(__name__)

_GATHER_S = 0.05
_RETRY_S = 1.0
_SWEEP_S = 10.0
_REDIS_PATIENCE_S = 3.0
_NO_CALLS = "[]"

_User = tuple[TenantId, str]
_Calls = dict[str, PhoneDialog]
"""Calls of one user by key."""


class PhoneDialogSink(Protocol):
    """Takes what call control knows of phones."""

    def tell(self, tenant: TenantId, user: str, dialog: PhoneDialog) -> None:
        """Take note of a call's new stage."""


class LampExchange:
    """A `PhoneDialogSink` for the calls of this node; those of others come into `phones` too."""

    def __init__(
        self,
        redis: Redis,
        line: RedisLine,
        phones: PhoneDialogs,
        *,
        node: NodeId,
        tenants: Sequence[TenantId],
        is_alive: Callable[[NodeId], bool],
    ) -> None:
        self._redis = redis
        self._line = line
        self._phones = phones
        self._node = node
        self._channels = {_key(tenant): tenant for tenant in tenants}
        self._is_alive = is_alive
        self._own: dict[_User, _Calls] = {}
        self._untold: dict[_User, None] = {}
        self._others: defaultdict[NodeId, dict[_User, _Calls]] = defaultdict(dict)
        self._suspects: frozenset[NodeId] = frozenset()
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def tell(self, tenant: TenantId, user: str, dialog: PhoneDialog) -> None:
        """See PhoneDialogSink."""
        calls = self._own.setdefault((tenant, user), {})
        if dialog.stage is DialogStage.TERMINATED:
            calls.pop(dialog.key, None)
        else:
            calls[dialog.key] = dialog
        if not calls:
            del self._own[tenant, user]
        self._untold[tenant, user] = None
        self._wake.set()
        self._phones.tell(tenant, user, dialog)

    def start(self) -> None:
        """Begin to tell and to listen."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._always(each)) for each in (self._write, self._listen)]

    async def aclose(self) -> None:
        """Take this node's calls away from the others."""
        await end_tasks(self._tasks)
        self._untold |= dict.fromkeys(self._own)
        self._own.clear()
        try:
            await self._write_untold()
        except RedisError as error:
            log.debug("lamps of this node are not taken away", error=str(error))

    async def _always(self, work: Callable[[], Any]) -> None:
        while True:
            try:
                await work()
            except (RedisError, OSError, TimeoutError, ValueError) as error:
                log.debug("lamps are not exchanged", error=str(error))
                await asyncio.sleep(_RETRY_S)

    # Towards the others

    async def _write(self) -> None:
        await self._wake.wait()
        await asyncio.sleep(_GATHER_S)  # what changes together is told together
        await self._write_untold()

    async def _write_untold(self) -> None:
        self._wake.clear()
        telling, self._untold = self._untold, {}
        try:
            commands: list[Command] = []
            for tenant, users in _by_tenant(telling).items():
                key = _key(tenant)
                told = {user: _to_json(self._own.get((tenant, user), {})) for user in users}
                fields = {f"{self._node} {user}": text for user, text in told.items()}
                if kept := [each for each in fields.items() if each[1] != _NO_CALLS]:
                    commands.append(("HSET", key, *chain.from_iterable(kept)))
                if gone := [field for field, text in fields.items() if text == _NO_CALLS]:
                    commands.append(("HDEL", key, *gone))
                commands.append(("PUBLISH", key, f"{self._node} {json.dumps(told)}"))
            accepted(await self._line.ask(*commands, at_once=False))
        except BaseException:
            self._untold = telling | self._untold
            self._wake.set()
            raise

    # From the others

    async def _listen(self) -> None:
        async with self._redis.pubsub() as subscription:
            await subscription.subscribe(*self._channels)
            await self._load()
            loop = asyncio.get_running_loop()
            sweep_at_s = loop.time() + _SWEEP_S
            while True:
                message = await subscription.get_message(
                    ignore_subscribe_messages=True, timeout=max(0.0, sweep_at_s - loop.time())
                )
                if message is not None:
                    self._hear(self._channels[message["channel"].decode()], message["data"])
                if loop.time() >= sweep_at_s:
                    sweep_at_s = loop.time() + _SWEEP_S
                    await self._sweep()

    def _hear(self, tenant: TenantId, message: bytes) -> None:
        """Take what a node tells; ValueError for what none of ours has sent."""
        name, _, told = message.decode().partition(" ")
        if name != self._node:
            users = json.loads(told)
            if not isinstance(users, dict):
                raise ValueError(told)
            for user, text in users.items():
                self._take(NodeId(name), (tenant, user), text)

    async def _load(self) -> None:
        """Take over what the others have, and write again what a Redis may have forgotten."""
        known = {(node, user) for node, users in self._others.items() for user in users}
        for key, tenant in self._channels.items():
            async with asyncio.timeout(_REDIS_PATIENCE_S):
                stored = cast("dict[bytes, bytes]", await self._redis.hgetall(key))
            for field, text in stored.items():
                node, _, name = field.decode().partition(" ")
                user = tenant, name
                if node == self._node:
                    self._untold[user] = None  # also what an earlier process left
                else:
                    known.discard((NodeId(node), user))
                    self._take(NodeId(node), user, text.decode())
        for node, user in known:
            self._take(node, user, _NO_CALLS)
        self._untold |= dict.fromkeys(self._own)
        self._wake.set()

    def _take(self, node: NodeId, user: _User, text: str) -> None:
        if node == self._node:
            return
        before = self._others[node].pop(user, {})
        now = _of_json(text)
        if now:
            self._others[node][user] = now
        ended = [
            replace(each, stage=DialogStage.TERMINATED)
            for key, each in before.items()
            if key not in now
        ]
        self._tell_all(user, (*now.values(), *ended))

    def _tell_all(self, user: _User, dialogs: Iterable[PhoneDialog]) -> None:
        for each in dialogs:
            self._phones.tell(*user, each)

    async def _sweep(self) -> None:
        """End the calls of nodes that are gone, if they were so at the last look already."""
        gone = frozenset(each for each in self._others if not self._is_alive(each))
        for node in gone & self._suspects:
            for tenant, user in list(self._others[node]):
                self._take(node, (tenant, user), _NO_CALLS)
                await self._redis.hdel(_key(tenant), f"{node} {user}")
            del self._others[node]
        self._suspects = gone


def _key(tenant: TenantId) -> str:
    return f"{{{tenant}}}:lamps"


def _by_tenant(users: Iterable[_User]) -> dict[TenantId, list[str]]:
    found: defaultdict[TenantId, list[str]] = defaultdict(list)
    for tenant, user in users:
        found[tenant].append(user)
    return found


def _to_json(calls: Mapping[str, PhoneDialog]) -> str:
    return json.dumps(
        [
            [each.key, each.stage, each.direction, each.remote_number, each.remote_name]
            for each in calls.values()
        ]
    )


def _of_json(text: str) -> _Calls:
    return {
        key: PhoneDialog(key, DialogStage(stage), direction, number, name)
        for key, stage, direction, number, name in json.loads(text)
    }
