"""Where registered phones are reached: the bindings of RFC 3261 section 10, kept in Redis."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from redis.exceptions import RedisError

from cti.shared.ways import Binding, StoredWay, Way, binding_of, phones_of
from cti.sip.transports.transport import Hop
from domain.failures import Code, PlatformError
from domain.ids import NodeId, TenantId
from domain.redis_line import RedisLine
from domain.tasks import end_tasks

__all__ = [
    "Binding",
    "ContactChange",
    "ContactStore",
    "ContactUpdate",
    "RedisContactStore",
    "Registered",
    "StoredWay",
    "Way",
]

_REGISTER = (Path(__file__).parent / "lua" / "register.lua").read_text(encoding="utf-8")
_REGISTER_SHA1 = hashlib.sha1(_REGISTER.encode(), usedforsecurity=False).hexdigest()
_MAX_WAYS = 16
_MAX_KNOWN_USERS = 100_000
_MAX_READ_WAYS = 8_192
# A script keeps Redis from all else while it runs: some 10 µs a user.
_USERS_AT_ONCE = 128

_Stored = tuple[bytes, ...]
"""Fields and records in turn, as Redis gives them."""
_Argument = str | int | bytes
_User = tuple[TenantId, str]


@dataclass(frozen=True, slots=True)
class ContactChange:
    """What a REGISTER asks for one contact; `expires_s` 0 removes it."""

    contact: str
    """Equal for equal contact URIs."""
    uri: str
    hop: Hop
    expires_s: int
    instance: str = ""
    reg_id: str = ""
    q: int = 1000
    edge: str = ""
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ContactUpdate:
    """What a REGISTER asks for a user; without changes it only asks what there is."""

    tenant: TenantId
    user: str
    call_id: str
    cseq: int
    changes: tuple[ContactChange, ...] = ()
    remove_all: bool = False


@dataclass(frozen=True, slots=True)
class Registered:
    """What is bound after an update."""

    ways: tuple[StoredWay, ...]
    changed: tuple[bool, ...]
    """For each change, whether it was more than a refresh."""
    bound: tuple[StoredWay, ...] = ()
    """Those that this update bound."""


class ContactStore(Protocol):
    """Keeps bindings."""

    def apply(self, update: ContactUpdate) -> asyncio.Future[Registered | None]:
        """Carry out all of the update and tell what is bound now.

        None, and nothing done, when the update is older than what is stored (10.3 step 7).
        PlatformError STORE_UNAVAILABLE when nothing is known of the outcome.
        """

    async def lookup(self, tenant: TenantId, user: str) -> list[Binding]:
        """Return the user's phones, those that want it most first."""

    def drop(
        self, tenant: TenantId, user: str, way: StoredWay
    ) -> asyncio.Future[Registered | None]:
        """Remove a way whose connection is gone, unless the phone has registered again."""

    @property
    def waiting(self) -> int:
        """Updates whose outcome is not known yet."""


@dataclass(slots=True)
class _Command:
    """What one user's part of a script does; an empty mode makes it a look-up."""

    tenant: TenantId
    user: str
    outcome: asyncio.Future[Registered | None]
    call_id: str = "-"
    cseq: int = 0
    mode: str = "change"
    place: str = "-"
    changes: tuple[_Argument, ...] = ()
    fields: tuple[str, ...] = ()
    bound: tuple[StoredWay, ...] = ()

    def arguments(self) -> list[_Argument]:
        count = len(self.changes) // 4
        return [self.call_id, self.cseq, self.mode, self.place, count, *self.changes]


class RedisContactStore:
    """Ways in one hash a user. Commands that come while Redis works share the next round trip.

    What was last seen is kept in memory too: phones stay reachable while Redis is away, and a
    Redis that comes back empty is told again what registered with this process.
    """

    def __init__(
        self, line: RedisLine, *, node: NodeId, unix_clock: Callable[[], float] = time.time
    ) -> None:
        self._node = node
        self._unix_clock = unix_clock
        self.is_alive: Callable[[NodeId], bool] = lambda _node: True
        """Whether another node can be asked to forward to its phones."""
        self.is_alone: Callable[[], bool] = lambda: False
        """Whether no other node binds phones: then memory knows what Redis does."""
        self.hop_of_route: Callable[[str], Hop | None] = lambda _route: None
        """Where a Route of another node begins."""
        # Connections are numbered anew by each process: those of another mean nothing here.
        self._process = os.urandom(6).hex()
        self._line = line
        self._known: OrderedDict[_User, _Stored] = OrderedDict()
        self._lives: dict[TenantId, bytes] = {}
        self._waiting: list[_Command] = []
        self._under_way = 0
        self._worker: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """See ContactStore."""
        return len(self._waiting) + self._under_way

    async def aclose(self) -> None:
        """Give up what waits for Redis."""
        if self._worker is not None:
            await end_tasks([self._worker])
        for command in self._waiting:
            command.outcome.cancel()

    # What others ask

    def apply(self, update: ContactUpdate) -> asyncio.Future[Registered | None]:
        """See ContactStore."""
        now_s = int(self._unix_clock())
        call_id = "_".join(update.call_id.split()) or "-"
        changes: list[_Argument] = []
        fields = []
        bound = []
        place: str = self._node
        for change in update.changes:
            way = self._way(change, now_s)
            place = way.place
            removed = not change.expires_s
            text = "" if removed else way.to_text(call_id, update.cseq)
            expires = 0 if removed else way.expires_unix_s
            changes += [way.field, way.contact, expires, text]
            fields.append(way.field)
            if not removed:
                bound.append(way)
        return self._submit(
            update.tenant,
            update.user,
            call_id=call_id,
            cseq=update.cseq,
            mode="remove_all" if update.remove_all else "change",
            place=place,
            changes=tuple(changes),
            fields=tuple(fields),
            bound=tuple(bound),
        )

    async def lookup(self, tenant: TenantId, user: str) -> list[Binding]:
        """See ContactStore; from memory while Redis is away, or has nothing to add."""
        known = self._known.get((tenant, user), ())
        if known and not self._under_way and not self._waiting and self.is_alone():
            ways = self._live(known)
        else:
            try:
                found = await self._submit(tenant, user)
            except PlatformError:
                ways = self._live(self._known.get((tenant, user), ()))
            else:
                ways = found.ways if found is not None else ()
        bindings = [
            binding for phone in phones_of(ways) if (binding := self._binding(phone)) is not None
        ]
        bindings.sort(key=lambda each: (-each.q, -each.expires_unix_s))
        return bindings

    def drop(
        self, tenant: TenantId, user: str, way: StoredWay
    ) -> asyncio.Future[Registered | None]:
        """See ContactStore."""
        changes = (way.field, way.flow, 0, "")
        return self._submit(tenant, user, mode="drop", changes=changes, fields=(way.field,))

    def _way(self, change: ContactChange, now_s: int) -> StoredWay:
        return StoredWay(
            contact=change.contact,
            uri=change.uri,
            hop=change.hop,
            expires_unix_s=now_s + change.expires_s,
            at_unix_s=now_s,
            node=self._node,
            process=self._process,
            instance=change.instance,
            reg_id=change.reg_id,
            q=change.q,
            edge=change.edge,
            path=change.path,
        )

    def _binding(self, phone: list[StoredWay]) -> Binding | None:
        return binding_of(
            phone,
            node=self._node,
            process=self._process,
            is_alive=self.is_alive,
            hop_of_route=self.hop_of_route,
        )

    # Redis

    def _submit(
        self,
        tenant: TenantId,
        user: str,
        *,
        call_id: str = "-",
        cseq: int = 0,
        mode: str = "change",
        place: str = "-",
        changes: tuple[_Argument, ...] = (),
        fields: tuple[str, ...] = (),
        bound: tuple[StoredWay, ...] = (),
    ) -> asyncio.Future[Registered | None]:
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Registered | None] = loop.create_future()
        command = _Command(
            tenant, user, outcome, call_id, cseq, mode, place, changes, fields, bound
        )
        self._waiting.append(command)
        if self._worker is None or self._worker.done():
            self._worker = loop.create_task(self._work())
        return outcome

    async def _work(self) -> None:
        """Carry out all that waits; what comes meanwhile goes together in the next round."""
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            self._under_way = len(waiting)
            by_tenant: dict[TenantId, list[_Command]] = defaultdict(list)
            for command in waiting:
                by_tenant[command.tenant].append(command)
            try:
                for tenant, commands in by_tenant.items():
                    for start in range(0, len(commands), _USERS_AT_ONCE):
                        some = commands[start : start + _USERS_AT_ONCE]
                        await self._carry_out(tenant, some)
                        self._under_way -= len(some)
            finally:
                self._under_way = 0
                for command in waiting:
                    command.outcome.cancel()  # those that are done stay as they are

    async def _carry_out(self, tenant: TenantId, commands: list[_Command]) -> None:
        try:
            life, answers = await self._run(tenant, commands)
            if self._lives.setdefault(tenant, life) != life:
                await self._restore(tenant, life, commands)
                # What was done stays done; this reads it together with what was restored.
                answers = await self._read_again(tenant, commands, answers)
        except RedisError:
            for command in commands:
                if not command.outcome.done():
                    error = PlatformError(Code.STORE_UNAVAILABLE, "registrations")
                    command.outcome.set_exception(error)
            return
        for command, answer in zip(commands, answers, strict=True):
            self._settle(command, answer)

    async def _run(
        self, tenant: TenantId, commands: Sequence[_Command]
    ) -> tuple[bytes, list[list[bytes]]]:
        keys = [f"{{{tenant}}}:contacts-life"]
        arguments: list[_Argument] = [os.urandom(8).hex(), int(self._unix_clock()), _MAX_WAYS]
        for command in commands:
            keys.append(f"{{{tenant}}}:contacts:{command.user}")
            arguments += command.arguments()
        life, *answers = await self._line.run(_REGISTER, _REGISTER_SHA1, keys, tuple(arguments))
        return life, answers

    def _settle(self, command: _Command, answer: list[bytes]) -> None:
        if not answer:
            registered = None
        else:
            stored = tuple(answer[1:])
            self._remember(command.tenant, command.user, stored)
            changed = tuple(flag == ord("1") for flag in answer[0])
            registered = Registered(self._live(stored), changed, command.bound)
        if not command.outcome.done():
            command.outcome.set_result(registered)

    async def _restore(self, tenant: TenantId, life: bytes, done: Sequence[_Command]) -> None:
        """Tell an emptied Redis what registered with this process, but for what changed now."""
        changed = {(each.user, field) for each in done for field in each.fields}
        removed = {each.user for each in done if each.mode == "remove_all"}
        ours: list[_Command] = []
        for (owner, user), stored in self._known.items():
            if owner != tenant or user in removed:
                continue
            changes: list[_Argument] = []
            for way, text in self._ways(stored):
                if way.process == self._process and (user, way.field) not in changed:
                    changes += [way.field, way.contact, way.expires_unix_s, text]
            if changes:
                ours.append(self._restoring(tenant, user, tuple(changes)))
        for start in range(0, len(ours), _USERS_AT_ONCE):
            await self._run(tenant, ours[start : start + _USERS_AT_ONCE])
        self._lives[tenant] = life

    @staticmethod
    def _restoring(tenant: TenantId, user: str, changes: tuple[_Argument, ...]) -> _Command:
        outcome = asyncio.get_running_loop().create_future()
        return _Command(tenant, user, outcome, mode="restore", changes=changes)

    async def _read_again(
        self, tenant: TenantId, commands: Sequence[_Command], answers: list[list[bytes]]
    ) -> list[list[bytes]]:
        reading = [self._restoring(tenant, each.user, ()) for each in commands]
        _, fresh = await self._run(tenant, reading)
        return [
            [before[0], *now[1:]] if before else before
            for before, now in zip(answers, fresh, strict=True)
        ]

    # Memory

    def _remember(self, tenant: TenantId, user: str, stored: _Stored) -> None:
        self._known.pop((tenant, user), None)
        if stored:
            self._known[tenant, user] = stored
            if len(self._known) > _MAX_KNOWN_USERS:
                self._known.popitem(last=False)

    def _ways(self, stored: _Stored) -> list[tuple[StoredWay, bytes]]:
        now_s = self._unix_clock()
        ways = []
        for text in stored[1::2]:
            try:
                way = _way_of(text)
            except ValueError:  # of another version of this program
                continue
            if way.expires_unix_s > now_s:
                ways.append((way, text))
        return ways

    def _live(self, stored: _Stored) -> tuple[StoredWay, ...]:
        return tuple(way for way, _ in self._ways(stored))


@lru_cache(maxsize=_MAX_READ_WAYS)
def _way_of(text: bytes) -> StoredWay:
    """Read a record once for all calls to the phone."""
    return StoredWay.of_text(text.decode())
