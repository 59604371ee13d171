"""Contacts of registered phones in memory."""

from __future__ import annotations

import asyncio

from cti.shared.contacts import Binding, ContactUpdate, Registered, StoredWay, Way
from domain.failures import Code, PlatformError
from domain.ids import NodeId, TenantId


class MemoryContactStore:
    """A ContactStore of one node; `away` makes it fail as Redis would, `unix_s` is its clock."""

    def __init__(self) -> None:
        self.unix_s = 1_000_000
        self.away = False
        self.waiting = 0
        self._bound: dict[tuple[TenantId, str], dict[str, tuple[StoredWay, str, int]]] = {}

    def apply(self, update: ContactUpdate) -> asyncio.Future[Registered | None]:
        outcome: asyncio.Future[Registered | None] = asyncio.get_running_loop().create_future()
        if self.away:
            outcome.set_exception(PlatformError(Code.STORE_UNAVAILABLE))
        else:
            outcome.set_result(self._apply(update))
        return outcome

    def _apply(self, update: ContactUpdate) -> Registered | None:
        bound = self._bound.setdefault((update.tenant, update.user), {})
        keys = list(bound) if update.remove_all else [each.contact for each in update.changes]
        for key in keys:
            if key in bound and bound[key][1] == update.call_id and bound[key][2] >= update.cseq:
                return None
        if update.remove_all:
            bound.clear()
        changed, made = [], []
        for change in update.changes:
            before = bound.pop(change.contact, None)
            changed.append((before is None) == bool(change.expires_s))
            if change.expires_s:
                way = StoredWay(
                    change.contact,
                    change.uri,
                    change.hop,
                    self.unix_s + change.expires_s,
                    self.unix_s,
                    NodeId("test"),
                    "process",
                    change.instance,
                    change.reg_id,
                    change.q,
                    change.edge,
                    change.path,
                )
                bound[change.contact] = way, update.call_id, update.cseq
                made.append(way)
        live = self._live(update.tenant, update.user)
        return Registered(tuple(live), tuple(changed), tuple(made))

    async def lookup(self, tenant: TenantId, user: str) -> list[Binding]:
        return [
            Binding((Way(each.hop, each.path, each.uri),), each.expires_unix_s, each.q)
            for each in self._live(tenant, user)
        ]

    def drop(
        self, tenant: TenantId, user: str, way: StoredWay
    ) -> asyncio.Future[Registered | None]:
        outcome: asyncio.Future[Registered | None] = asyncio.get_running_loop().create_future()
        self._bound.get((tenant, user), {}).pop(way.contact, None)
        outcome.set_result(Registered(tuple(self._live(tenant, user)), (True,)))
        return outcome

    def _live(self, tenant: TenantId, user: str) -> list[StoredWay]:
        bound = self._bound.get((tenant, user), {})
        live = [each for each, _, _ in bound.values() if each.expires_unix_s > self.unix_s]
        return sorted(live, key=lambda each: each.expires_unix_s, reverse=True)
