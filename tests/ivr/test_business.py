"""The client against the real demonstration server on a free port."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import pytest

from cti.call import JsonValue
from demo.business import running_business, sample_ledger
from domain.failures import Code, PlatformError
from domain.ids import CallId, TenantId
from ivr.business import BusinessClient, BusinessSystems, Query, Reply

NOW = datetime.fromisoformat("2026-11-21T10:00:00+08:00")


def query(
    path: str,
    *,
    method: str = "GET",
    params: dict[str, str] | None = None,
    body: JsonValue = None,
    timeout_ms: int | None = None,
) -> Query:
    return Query(method, path, params or {}, body, timeout_ms, CallId("call-1"))


@pytest.fixture
async def client() -> AsyncIterator[BusinessClient]:
    async with running_business(sample_ledger(NOW), faults=True) as url:
        client = BusinessClient(url, timeout_ms=5000)
        yield client
        await client.aclose()


async def _fails(client: BusinessClient, wanted: Query) -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        await client.ask(wanted)
    return caught.value


async def _body(client: BusinessClient, path: str, **params: str) -> Any:
    reply = await client.ask(query(path, params=params))
    assert reply.status == 200
    return reply.body


async def test_accounts_and_bills(client: BusinessClient) -> None:
    bound = await _body(client, "/accounts", phone="13800138000")
    assert bound["count"] == 1
    number = bound["accounts"][0]["customer_number"]
    bill = await _body(client, f"/accounts/{number}/bill")
    assert (bill["month"], bill["amount"], bill["due_date"]) == ("2026-10", "128.56", "2026-12-01")
    assert (await _body(client, f"/accounts/{number}"))["phone"] == "13800138000"
    assert (await _body(client, "/accounts", phone="13900139000"))["count"] == 2


async def test_outages(client: BusinessClient) -> None:
    assert (await _body(client, "/outages"))["count"] == 2
    assert (await _body(client, "/outages", region="0532"))["outages"][0]["kind"] == "planned"
    assert (await _body(client, "/accounts/3701004512/outages"))["count"] == 0


async def test_work_orders(client: BusinessClient) -> None:
    body: JsonValue = {"kind": "fault", "phone": "138", "customer_number": None, "call_id": "c"}
    reply = await client.ask(query("/work-orders", method="POST", body=body))
    assert reply.status == 201
    assert isinstance(reply.body, dict)
    order = await _body(client, f"/work-orders/{reply.body['number']}")
    assert order["status"] == "accepted"
    assert (await _body(client, "/work-orders", phone="138"))["count"] == 1


@pytest.mark.parametrize(
    "path",
    ["/accounts/1", "/accounts/1/bill", "/accounts/1/outages", "/work-orders/1", "/none"],
)
async def test_what_is_not_there(client: BusinessClient, path: str) -> None:
    reply = await client.ask(query(path))
    assert not reply.found
    assert reply == Reply(404, None)


async def test_a_late_reply_is_a_timeout(client: BusinessClient) -> None:
    late = query("/healthz", params={"delay_ms": "5000"}, timeout_ms=100)
    assert (await _fails(client, late)).code is Code.QUERY_TIMEOUT


@pytest.mark.parametrize("status", ["500", "503", "403"])
async def test_an_error_status_is_a_failure(client: BusinessClient, status: str) -> None:
    error = await _fails(client, query("/outages", params={"fail": status}))
    assert error.code is Code.QUERY_FAILED
    assert status in error.detail


async def test_a_reply_that_is_not_json_is_a_failure(client: BusinessClient) -> None:
    error = await _fails(client, query("/outages", params={"garbage": "1"}))
    assert error.code is Code.QUERY_FAILED


async def test_a_refused_body_is_a_failure(client: BusinessClient) -> None:
    wrong = query("/work-orders", method="POST", body={"kind": "party"})
    assert (await _fails(client, wrong)).code is Code.QUERY_FAILED


async def test_trouble_is_not_for_everyone() -> None:
    async with running_business(sample_ledger(NOW)) as url:
        client = BusinessClient(url)
        reply = await client.ask(query("/outages", params={"fail": "500"}))
        assert reply.status == 200
        await client.aclose()


async def test_nobody_there_is_a_failure(unused_tcp_port: int) -> None:
    client = BusinessClient(f"http://127.0.0.1:{unused_tcp_port}")
    assert (await _fails(client, query("/outages"))).code is Code.QUERY_FAILED
    await client.aclose()


async def _serve_raw(reply: bytes) -> asyncio.Server:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        writer.close()

    return await asyncio.start_server(answer, "127.0.0.1", 0)


_LARGE = json.dumps("x" * 70_000).encode()


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(_LARGE) + _LARGE,
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}",
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\xff\xfe",
        b"garbage\r\n\r\n",
        b"",
    ],
    ids=["too large", "cut short", "redirect", "not UTF-8", "not HTTP", "closed"],
)
async def test_strange_replies_are_failures(reply: bytes) -> None:
    server = await _serve_raw(reply)
    client = BusinessClient(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    assert (await _fails(client, query("/x"))).code is Code.QUERY_FAILED
    await client.aclose()
    server.close()


async def test_a_tenant_without_business_system_fails_by_code() -> None:
    systems = BusinessSystems({})
    with pytest.raises(PlatformError) as caught:
        await systems.of(TenantId("other")).ask(query("/outages"))
    assert caught.value.code is Code.QUERY_FAILED
    await systems.aclose()
