"""Checks agents' passwords: slow hashes off the event loop, a lockout, and a fast second sign-in.

A scrypt check takes some 40 ms of CPU by design, so two cores alone manage about 50 sign-ins a
second. After a first success this process remembers an HMAC of the password under a key that never
leaves its memory; the next sign-in of the agent then takes microseconds. The price: a changed
password is honoured here only after `forget`, or when the memory of the old one expires; and who
can read this process's memory can guess at HMACs faster than at scrypt hashes.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from domain.failures import Code, PlatformError
from domain.ids import AgentId, TenantId

_MAX_REMEMBERED = 50_000
_MAX_WAITING = 256
_THREADS = 2

_Key = tuple[TenantId, AgentId]
T = TypeVar("T")


@dataclass(slots=True)
class _Attempts:
    last: float
    failures: int = 0
    locked_until: float = 0.0


class PasswordCheck:
    """Checks passwords by `verify`, which may block and must be thread-safe."""

    def __init__(
        self,
        verify: Callable[[TenantId, AgentId, str], bool],
        clock: Callable[[], float],
        *,
        max_failures: int = 5,
        lock_s: float = 300.0,
        remember_s: float = 3600.0,
    ) -> None:
        self._verify = verify
        self._clock = clock
        self._max_failures = max_failures
        self._lock_s = lock_s
        self._remember_s = remember_s
        self._key = secrets.token_bytes(32)
        self._known: OrderedDict[_Key, tuple[bytes, float]] = OrderedDict()
        self._attempts: OrderedDict[_Key, _Attempts] = OrderedDict()
        self._waiting = 0
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="password")

    async def check(self, tenant: TenantId, agent: AgentId, password: str) -> None:
        """Return when the password is right; else PASSWORD_WRONG, AGENT_LOCKED or OVERLOADED."""
        key = (tenant, agent)
        now = self._clock()
        attempts = self._attempts.get(key)
        if attempts is not None and attempts.locked_until > now:
            raise PlatformError(Code.AGENT_LOCKED, f"agent {agent}")
        mac = self._mac(tenant, agent, password)
        if self._remembers(key, mac, now):
            self._attempts.pop(key, None)
            return
        # Counted before it is known to be wrong, so that parallel guesses are limited as well.
        self._count_failure(key, now)
        if not await self._verify_in_thread(tenant, agent, password):
            raise PlatformError(Code.PASSWORD_WRONG, f"agent {agent}")
        self._attempts.pop(key, None)
        _bounded_put(self._known, key, (mac, now + self._remember_s))

    def forget(self, tenant: TenantId, agent: AgentId) -> None:
        """Ask `verify` again: the password was changed."""
        self._known.pop((tenant, agent), None)

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _mac(self, tenant: TenantId, agent: AgentId, password: str) -> bytes:
        text = f"{tenant}\0{agent}\0{password}"
        return hmac.digest(self._key, text.encode(), hashlib.sha256)

    def _remembers(self, key: _Key, mac: bytes, now: float) -> bool:
        known = self._known.get(key)
        return known is not None and now < known[1] and hmac.compare_digest(known[0], mac)

    def _count_failure(self, key: _Key, now: float) -> None:
        attempts = self._attempts.get(key)
        if attempts is None or now - attempts.last >= self._lock_s:
            attempts = _Attempts(now)
            _bounded_put(self._attempts, key, attempts)
        attempts.failures += 1
        attempts.last = now
        if attempts.failures >= self._max_failures:
            attempts.locked_until = now + self._lock_s

    async def _verify_in_thread(self, tenant: TenantId, agent: AgentId, password: str) -> bool:
        if self._waiting >= _MAX_WAITING:
            raise PlatformError(Code.OVERLOADED, "too many sign-ins at once")
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, self._verify, tenant, agent, password)
        finally:
            self._waiting -= 1


def _bounded_put(table: OrderedDict[_Key, T], key: _Key, value: T) -> None:
    table[key] = value
    if len(table) > _MAX_REMEMBERED:
        table.popitem(last=False)
