"""Where registered phones are reached: the bindings of RFC 3261 section 10, kept in Redis."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from redis.asyncio import Redis
from redis.exceptions import RedisError

from cti.sip.transport import Hop
from domain.failures import Code, PlatformError
from domain.ids import NodeId, TenantId

_REGISTER = (Path(__file__).parent / "lua" / "register.lua").read_text(encoding="utf-8")
_MAX_BINDINGS = 8
_MAX_KNOWN_USERS = 50_000
_RESTORED_AT_ONCE = 500

_Stored = dict[str, str]
"""Contact key to JSON, as in Redis."""
_Argument = str | int


@dataclass(frozen=True, slots=True)
class Way:
    """One way to a phone: a request for `uri` goes to `hop`, with `route` as its Route values."""

    hop: Hop
    route: tuple[str, ...]
    uri: str


@dataclass(frozen=True, slots=True)
class Binding:
    """One phone of a user, which is rung once however many ways lead to it."""

    ways: tuple[Way, ...]
    """At least one, the best first; the next is for when no answer at all comes over the first."""
    expires_unix_s: int

    @property
    def contact_uri(self) -> str:
        """The Request-URI over the best way."""
        return self.ways[0].uri

    @property
    def hop(self) -> Hop:
        """Where the best way begins."""
        return self.ways[0].hop


@dataclass(frozen=True, slots=True)
class ContactChange:
    """What a REGISTER asks for one contact; `expires_s` 0 removes it."""

    key: str
    """Equal for contacts that mean the same phone."""
    contact_uri: str
    hop: Hop
    expires_s: int


@dataclass(frozen=True, slots=True)
class ContactUpdate:
    """What a REGISTER asks for a user; without changes it only asks what there is."""

    tenant: TenantId
    user: str
    call_id: str
    cseq: int
    changes: tuple[ContactChange, ...] = ()
    remove_all: bool = False


class ContactStore(Protocol):
    """Keeps bindings."""

    async def apply(self, update: ContactUpdate) -> list[Binding] | None:
        """Carry out all of the update and return what is bound now.

        None, and nothing done, when the update is older than what is stored (10.3 step 7).
        PlatformError STORE_UNAVAILABLE when nothing is known of the outcome.
        """

    async def lookup(self, tenant: TenantId, user: str) -> list[Binding]:
        """Return the user's live bindings, those that last longest first."""


class RedisContactStore:
    """Bindings in one hash a user, one round trip a REGISTER or lookup.

    What was last seen is kept in memory too: phones stay reachable while Redis is away, and a
    Redis that comes back empty is told again what registered with this process.
    """

    def __init__(
        self, redis: Redis, *, node: NodeId, unix_clock: Callable[[], float] = time.time
    ) -> None:
        self._redis = redis
        self._node = node
        self._unix_clock = unix_clock
        # Connections are numbered anew by each process: those of another mean nothing here.
        self._process = os.urandom(8).hex()
        self._register = redis.register_script(_REGISTER)
        self._known: OrderedDict[tuple[TenantId, str], _Stored] = OrderedDict()
        self._lives: dict[TenantId, str] = {}
        self._restoring = asyncio.Lock()

    async def apply(self, update: ContactUpdate) -> list[Binding] | None:
        """See ContactStore."""
        now_s = int(self._unix_clock())
        arguments: list[_Argument] = []
        for change in update.changes:
            expires = now_s + change.expires_s if change.expires_s else 0
            arguments += [change.key, expires, self._to_json(change, update, expires)]
        mode = "remove_all" if update.remove_all else "change"
        try:
            life, stored = await self._run(
                update.tenant, update.user, update.call_id, update.cseq, mode, arguments
            )
            if stored is None:
                return None
            if self._is_new(update.tenant, life):
                # What Redis lost of this user is restored, but for what was changed just now.
                lost = (
                    {} if update.remove_all else self._known.get((update.tenant, update.user), {})
                )
                changed = {each.key for each in update.changes}
                stored = {key: lost[key] for key in lost if key not in changed} | stored
                self._remember(update.tenant, update.user, stored)
                await self._restore(update.tenant, life)
        except (RedisError, OSError, TimeoutError) as error:
            raise PlatformError(Code.STORE_UNAVAILABLE, "registrations") from error
        self._remember(update.tenant, update.user, stored)
        return self._live(stored)

    async def lookup(self, tenant: TenantId, user: str) -> list[Binding]:
        """See ContactStore; from memory while Redis is away."""
        try:
            life, stored = await self._run(tenant, user)
            if self._is_new(tenant, life):
                await self._restore(tenant, life)
                _, stored = await self._run(tenant, user)
        except (RedisError, OSError, TimeoutError):
            stored = self._known.get((tenant, user), {})
        else:
            self._remember(tenant, user, stored or {})
        return self._live(stored or {})

    async def _run(
        self,
        tenant: TenantId,
        user: str,
        call_id: str = "",
        cseq: int = 0,
        mode: str = "change",
        changes: Sequence[_Argument] = (),
    ) -> tuple[str, _Stored | None]:
        """Run the script; return the store's life, and the bindings unless out of order."""
        reply = await self._register(
            _keys(tenant, user), self._arguments(call_id, cseq, mode, changes)
        )
        if reply[1:] == [None]:
            return _text(reply[0]), None
        life, *pairs = map(_text, reply)
        return life, dict(zip(pairs[::2], pairs[1::2], strict=True))

    def _arguments(
        self, call_id: str, cseq: int, mode: str, changes: Sequence[_Argument]
    ) -> list[_Argument]:
        now_s = int(self._unix_clock())
        return [os.urandom(8).hex(), now_s, call_id, cseq, mode, _MAX_BINDINGS, *changes]

    def _is_new(self, tenant: TenantId, life: str) -> bool:
        """Whether Redis has lost what it knew; the first life seen is as good as any."""
        return self._lives.setdefault(tenant, life) != life

    async def _restore(self, tenant: TenantId, life: str) -> None:
        """Tell an emptied Redis what registered with this process."""
        async with self._restoring:
            if not self._is_new(tenant, life):
                return
            ours = [
                (user, changes)
                for (owner, user), stored in self._known.items()
                if owner == tenant and (changes := self._own_changes(stored))
            ]
            for start in range(0, len(ours), _RESTORED_AT_ONCE):
                async with self._redis.pipeline(transaction=False) as pipeline:
                    for user, changes in ours[start : start + _RESTORED_AT_ONCE]:
                        arguments = self._arguments("", 0, "restore", changes)
                        await self._register(_keys(tenant, user), arguments, client=pipeline)
                    await pipeline.execute()
            self._lives[tenant] = life

    def _own_changes(self, stored: _Stored) -> list[_Argument]:
        changes: list[_Argument] = []
        for key, text in stored.items():
            fields = json.loads(text)
            if fields["process"] == self._process and fields["expires"] > self._unix_clock():
                changes += [key, fields["expires"], text]
        return changes

    def _remember(self, tenant: TenantId, user: str, stored: _Stored) -> None:
        self._known.pop((tenant, user), None)
        if stored:
            self._known[tenant, user] = stored
            if len(self._known) > _MAX_KNOWN_USERS:
                self._known.popitem(last=False)

    def _live(self, stored: _Stored) -> list[Binding]:
        now_s = self._unix_clock()
        bindings = [self._from_json(each) for each in stored.values()]
        bindings.sort(key=lambda each: each.expires_unix_s, reverse=True)
        return [each for each in bindings if each.expires_unix_s > now_s]

    def _to_json(self, change: ContactChange, update: ContactUpdate, expires: int) -> str:
        hop = change.hop
        return json.dumps(
            {
                "uri": change.contact_uri,
                "hop": [hop.transport, hop.host, hop.port, hop.connection],
                "expires": expires,
                "node": self._node,
                "process": self._process,
                "call_id": update.call_id,
                "cseq": update.cseq,
            }
        )

    def _from_json(self, text: str) -> Binding:
        fields: dict[str, Any] = json.loads(text)
        transport, host, port, connection = fields["hop"]
        if fields["process"] != self._process:
            connection = 0
        way = Way(Hop(transport, host, port, connection), (), fields["uri"])
        return Binding((way,), fields["expires"])


def _keys(tenant: TenantId, user: str) -> list[str]:
    return [f"{{{tenant}}}:contacts:{user}", f"{{{tenant}}}:contacts-life"]


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode()
