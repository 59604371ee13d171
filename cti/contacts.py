"""Where registered phones are reached: the bindings of RFC 3261 section 10, kept in Redis."""

from __future__ import annotations

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

_SCRIPT = (Path(__file__).parent / "lua" / "register.lua").read_text(encoding="utf-8")
_MAX_BINDINGS = 8
_MAX_CACHED_USERS = 50_000


@dataclass(frozen=True, slots=True)
class Binding:
    """One phone of a user, and where requests to it are sent."""

    contact_uri: str
    hop: Hop
    expires_unix_s: int
    node: NodeId
    """The node it registered with; a TCP connection is of use there only."""


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
        """Return the user's live bindings."""


class RedisContactStore:
    """Bindings in one hash a user, one round trip a REGISTER.

    The last known bindings are kept in memory too, so that phones stay reachable while Redis is
    away; writing then fails.
    """

    def __init__(
        self, redis: Redis, *, node: NodeId, unix_clock: Callable[[], float] = time.time
    ) -> None:
        self._redis = redis
        self._node = node
        self._unix_clock = unix_clock
        # Connections are numbered anew by each process: those of another mean nothing here.
        self._process = os.urandom(4).hex()
        self._register = redis.register_script(_SCRIPT)
        self._known: OrderedDict[tuple[TenantId, str], list[Binding]] = OrderedDict()

    async def apply(self, update: ContactUpdate) -> list[Binding] | None:
        """See ContactStore."""
        now_s = int(self._unix_clock())
        arguments: list[str | int] = [
            now_s, update.call_id, update.cseq, int(update.remove_all), _MAX_BINDINGS,
        ]  # fmt: skip
        for change in update.changes:
            expires = now_s + change.expires_s if change.expires_s else 0
            arguments += [change.key, expires, self._to_json(change, update, expires)]
        try:
            stored = await self._register(keys=[_key(update.tenant, update.user)], args=arguments)
        except (RedisError, OSError, TimeoutError) as error:
            raise PlatformError(Code.STORE_UNAVAILABLE, "registrations") from error
        if stored is None:
            return None
        return self._remember(update.tenant, update.user, stored)

    async def lookup(self, tenant: TenantId, user: str) -> list[Binding]:
        """See ContactStore; from memory while Redis is away."""
        try:
            stored = await self._redis.hvals(_key(tenant, user))
        except (RedisError, OSError, TimeoutError):
            bindings = self._known.get((tenant, user), [])
        else:
            bindings = self._remember(tenant, user, stored)
        now_s = self._unix_clock()
        return [each for each in bindings if each.expires_unix_s > now_s]

    def _remember(
        self, tenant: TenantId, user: str, stored: Sequence[str | bytes]
    ) -> list[Binding]:
        bindings = [self._from_json(each) for each in stored]
        bindings.sort(key=lambda each: each.expires_unix_s, reverse=True)
        self._known.pop((tenant, user), None)
        if bindings:
            self._known[tenant, user] = bindings
            if len(self._known) > _MAX_CACHED_USERS:
                self._known.popitem(last=False)
        return bindings

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

    def _from_json(self, text: str | bytes) -> Binding:
        fields: dict[str, Any] = json.loads(text)
        transport, host, port, connection = fields["hop"]
        if fields["process"] != self._process:
            connection = 0
        return Binding(
            contact_uri=fields["uri"],
            hop=Hop(transport, host, port, connection),
            expires_unix_s=fields["expires"],
            node=NodeId(fields["node"]),
        )


def _key(tenant: TenantId, user: str) -> str:
    return f"{{{tenant}}}:contacts:{user}"
