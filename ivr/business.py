"""The client of the business system (营销系统): HTTP and JSON, pooled, bounded in time and size."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, cast

import aiohttp
from prometheus_client import Histogram

from cti.call import JsonValue
from domain.failures import Code, PlatformError
from domain.ids import CallId, TenantId

_duration = Histogram(
    "ivr_query_seconds",
    "Duration of queries to business systems",
    ["outcome"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5),
)

_NOT_FOUND = 404
_LARGEST_BODY_BYTES = 64 * 1024
_MOST_CONNECTIONS = 200


@dataclass(frozen=True, slots=True)
class Query:
    """One request. `path` begins with "/" and is encoded already."""

    method: str
    path: str
    params: Mapping[str, str]
    body: JsonValue
    timeout_ms: int | None
    """None: the usual one of the business system."""
    call_id: CallId


@dataclass(frozen=True, slots=True)
class Reply:
    """The status, 2xx or 404, and the JSON that came with it (None when there was none)."""

    status: int
    body: JsonValue

    @property
    def found(self) -> bool:
        """False when the business system knows no such thing."""
        return self.status != _NOT_FOUND


class QueryClient(Protocol):
    """Asks a tenant's business system."""

    async def ask(self, query: Query) -> Reply:
        """Return the reply; PlatformError QUERY_TIMEOUT or QUERY_FAILED."""


class BusinessClient:
    """A `QueryClient` over HTTP/1.1 with connections kept alive."""

    def __init__(
        self,
        base_url: str,
        *,
        timeout_ms: int = 3000,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._timeout_ms = timeout_ms
        self._headers = dict(headers or {})
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, query: Query) -> Reply:
        """Send one request; never follows redirects, sends no cookies, uses no proxy."""
        timeout_ms = query.timeout_ms or self._timeout_ms
        began_s = time.perf_counter()
        outcome = "error"
        try:
            reply = await self._send(query, timeout_ms)
            outcome = "ok" if reply.found else "not_found"
        except TimeoutError:
            outcome = "timeout"
            raise PlatformError(Code.QUERY_TIMEOUT, f"no reply in {timeout_ms} ms") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise PlatformError(Code.QUERY_FAILED, type(error).__name__) from None
        finally:
            _duration.labels(outcome).observe(time.perf_counter() - began_s)
        return reply

    async def _send(self, query: Query, timeout_ms: int) -> Reply:
        session = self._session or self._open()
        async with session.request(
            query.method,
            self._base_url + query.path,
            params=query.params or None,
            json=query.body,
            headers={"X-Call-Id": query.call_id},
            timeout=aiohttp.ClientTimeout(total=timeout_ms / 1000),
            allow_redirects=False,
        ) as response:
            return await _read(response)

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open(self) -> aiohttp.ClientSession:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_MOST_CONNECTIONS),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept": "application/json", **self._headers},
        )
        return self._session


class BusinessSystems:
    """The clients of all tenants: `queries=systems.of` for the flow runner."""

    def __init__(self, clients: Mapping[TenantId, BusinessClient]) -> None:
        self._clients = clients

    def of(self, tenant: TenantId) -> QueryClient:
        """Return the client of a tenant; queries fail for one that has no business system."""
        return self._clients.get(tenant, _NONE)

    async def aclose(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.aclose()


class _NoBusinessSystem:
    async def ask(self, query: Query) -> Reply:
        raise PlatformError(
            Code.QUERY_FAILED, f"the tenant has no business system for {query.method}"
        )


_NONE = _NoBusinessSystem()


async def _read(response: aiohttp.ClientResponse) -> Reply:
    body = b""
    while chunk := await response.content.read(_LARGEST_BODY_BYTES + 1 - len(body)):
        body += chunk
        if len(body) > _LARGEST_BODY_BYTES:
            raise PlatformError(Code.QUERY_FAILED, f"reply over {_LARGEST_BODY_BYTES} bytes")
    if response.status == _NOT_FOUND:
        return Reply(response.status, None)
    if not 200 <= response.status < 300:
        raise PlatformError(Code.QUERY_FAILED, f"HTTP {response.status}")
    return Reply(response.status, cast("JsonValue", json.loads(body)) if body else None)
