"""Contacts of registered phones in memory."""

from __future__ import annotations

from cti.contacts import Binding, ContactUpdate, Way
from domain.failures import Code, PlatformError
from domain.ids import TenantId


class MemoryContactStore:
    """A ContactStore; `away` makes it fail as Redis would, `unix_s` is its clock."""

    def __init__(self) -> None:
        self.unix_s = 1_000_000
        self.away = False
        self._bindings: dict[tuple[TenantId, str], dict[str, tuple[Binding, str, int]]] = {}

    async def apply(self, update: ContactUpdate) -> list[Binding] | None:
        if self.away:
            raise PlatformError(Code.STORE_UNAVAILABLE)
        bound = self._bindings.setdefault((update.tenant, update.user), {})
        keys = list(bound) if update.remove_all else [each.key for each in update.changes]
        for key in keys:
            if key in bound and bound[key][1] == update.call_id and bound[key][2] >= update.cseq:
                return None
        if update.remove_all:
            bound.clear()
        for change in update.changes:
            bound.pop(change.key, None)
            if change.expires_s:
                expires = self.unix_s + change.expires_s
                binding = Binding((Way(change.hop, (), change.contact_uri),), expires)
                bound[change.key] = binding, update.call_id, update.cseq
        return await self.lookup(update.tenant, update.user)

    async def lookup(self, tenant: TenantId, user: str) -> list[Binding]:
        bound = self._bindings.get((tenant, user), {})
        live = [each for each, _, _ in bound.values() if each.expires_unix_s > self.unix_s]
        return sorted(live, key=lambda each: each.expires_unix_s, reverse=True)
