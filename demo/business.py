"""A small business system (营销系统): customers, bills, outages and work orders over HTTP.

    python -m demo.business --host 127.0.0.1 --port 8096

The demonstration's flow and the tests ask it through the client that a real one would be asked
through. Sample data lie around the present day, so that bills and outages are always recent.

    GET  /accounts?phone=13800138000          accounts bound to a number; 404 when none is
    GET  /accounts/{customer_number}
    GET  /accounts/{customer_number}/bill     the latest bill
    GET  /accounts/{customer_number}/outages  outages where the customer lives
    GET  /outages?region=0531                 all outages, or those of one region
    POST /work-orders                         {kind, phone, customer_number, call_id} gives 201
    GET  /work-orders/{number}
    GET  /work-orders?phone=13800138000       404 when there is none
    GET  /healthz

With `--faults` every request may ask for trouble: `?delay_ms=2000`, `?fail=500`, `?garbage=1`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

import uvicorn
from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel, StringConstraints

_LOCAL_TIME = ZoneInfo("Asia/Shanghai")
_LONGEST_DELAY_MS = 60_000
_MOST_WORK_ORDERS = 10_000


@dataclass(frozen=True, slots=True)
class Account:
    """A customer's account (户号) and the number bound to it."""

    customer_number: str
    name: str
    phone: str
    region: str
    address: str
    level: int = 100
    """Priority in queues; higher is served earlier."""


@dataclass(frozen=True, slots=True)
class Bill:
    """A month's bill. Amounts are decimal text, as money travels."""

    month: str
    usage_kwh: int
    amount: str
    due_date: str
    paid: bool
    arrears: str


@dataclass(frozen=True, slots=True)
class Outage:
    """A planned or unplanned outage of an area."""

    kind: Literal["planned", "fault"]
    region: str
    area: str
    area_en: str
    reason: str
    reason_en: str
    from_time: str
    until_time: str


@dataclass(frozen=True, slots=True)
class WorkOrder:
    """A fault report or another request, and how far it is."""

    number: str
    kind: str
    phone: str
    customer_number: str
    status: Literal["accepted", "dispatched", "finished"]
    created: str
    call_id: str = ""


class NewWorkOrder(BaseModel):
    """The body of POST /work-orders."""

    kind: Literal["fault", "complaint", "consulting"]
    phone: Annotated[str, StringConstraints(max_length=32)]
    customer_number: Annotated[str, StringConstraints(max_length=32)] | None = None
    call_id: Annotated[str, StringConstraints(max_length=64)] = ""


@dataclass(slots=True)
class Ledger:
    """All that the business system knows."""

    accounts: dict[str, Account]
    bills: dict[str, Bill]
    outages: list[Outage]
    work_orders: dict[str, WorkOrder]
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(20))


def sample_ledger(now: datetime) -> Ledger:
    """Return the sample data around a moment."""
    accounts = [
        Account("3701004512", "王建国", "13800138000", "0531", "历下区泉城路18号"),
        Account("3701008823", "李秀英", "13900139000", "0531", "市中区经四路66号"),
        Account("3701008824", "李秀英", "13900139000", "0531", "市中区经四路68号商铺"),
        Account(
            "3702001177", "青岛海风餐饮有限公司", "053288886666", "0532", "市南区香港中路9号", 150
        ),
        Account("3706003390", "赵敏", "13700137000", "0535", "芝罘区南大街120号"),
    ]
    today = now.date()
    month = (today.replace(day=1) - timedelta(days=1)).strftime("%Y-%m")
    due = (today + timedelta(days=10)).isoformat()
    bills = {
        "3701004512": _bill(month, 236, "128.56", due, "0.00"),
        "3701008823": _bill(month, 180, "98.02", due, "98.02"),
        "3701008824": _bill(month, 1204, "1005.30", due, "2010.60"),
        "3702001177": _bill(month, 20_480, "17612.80", due, "0.00"),
        "3706003390": _bill(month, 0, "0.00", due, "0.00"),
    }
    outages = [
        Outage(
            "planned", "0532", "市南区香港中路", "Hong Kong Middle Road, Shinan District",
            "线路检修", "line maintenance",
            _moment(now, days=1, hour=8, minute=30), _moment(now, days=1, hour=17),
        ),
        Outage(
            "fault", "0535", "芝罘区南大街", "South Street, Zhifu District",
            "线路故障", "a line fault",
            _moment(now, days=0, hour=now.hour), _moment(now, days=1, hour=0),
        ),
    ]  # fmt: skip
    yesterday = _moment(now, days=-1, hour=19, minute=12)
    orders = [
        WorkOrder("10000016", "fault", "13900139000", "3701008823", "dispatched", yesterday),
        WorkOrder("10000017", "consulting", "13700137000", "3706003390", "finished", yesterday),
    ]
    return Ledger(
        {account.customer_number: account for account in accounts},
        bills,
        outages,
        {order.number: order for order in orders},
    )


def _bill(month: str, usage_kwh: int, amount: str, due_date: str, arrears: str) -> Bill:
    return Bill(month, usage_kwh, amount, due_date, Decimal(arrears) == 0, arrears)


def _moment(now: datetime, *, days: int, hour: int, minute: int = 0) -> str:
    day = now.replace(hour=hour, minute=minute, second=0, microsecond=0) + timedelta(days=days)
    return day.isoformat(timespec="minutes")


def business_app(ledger: Ledger, *, faults: bool = False) -> FastAPI:
    """Return the HTTP application over a ledger."""
    app = FastAPI(title="营销系统 · business system", docs_url=None, redoc_url=None)
    if faults:
        app.middleware("http")(_trouble)

    @app.get("/healthz")
    async def healthz() -> PlainTextResponse:
        return PlainTextResponse("ok")

    @app.get("/accounts")
    async def accounts(phone: str) -> JSONResponse:
        bound = [asdict(a) for a in ledger.accounts.values() if a.phone == phone]
        return _some({"count": len(bound), "accounts": bound}, bool(bound))

    @app.get("/accounts/{customer_number}")
    async def account(customer_number: str) -> JSONResponse:
        return JSONResponse(asdict(_account(ledger, customer_number)))

    @app.get("/accounts/{customer_number}/bill")
    async def bill(customer_number: str) -> JSONResponse:
        latest = ledger.bills.get(customer_number)
        return _some({} if latest is None else asdict(latest), latest is not None)

    @app.get("/accounts/{customer_number}/outages")
    async def outages_at(customer_number: str) -> JSONResponse:
        region = _account(ledger, customer_number).region
        return _outages(ledger, region)

    @app.get("/outages")
    async def outages(region: str = "") -> JSONResponse:
        return _outages(ledger, region)

    @app.post("/work-orders")
    async def create(new: NewWorkOrder) -> JSONResponse:
        if len(ledger.work_orders) >= _MOST_WORK_ORDERS:
            raise HTTPException(503, "the demonstration takes no more work orders")
        order = WorkOrder(
            number=f"{10_000_000 + next(ledger.numbers)}",
            kind=new.kind,
            phone=new.phone,
            customer_number=new.customer_number or "",
            status="accepted",
            created=datetime.now(_LOCAL_TIME).isoformat(timespec="minutes"),
            call_id=new.call_id,
        )
        ledger.work_orders[order.number] = order
        return JSONResponse(asdict(order), status_code=201)

    @app.get("/work-orders/{number}")
    async def work_order(number: str) -> JSONResponse:
        order = ledger.work_orders.get(number)
        return _some({} if order is None else asdict(order), order is not None)

    @app.get("/work-orders")
    async def work_orders(phone: Annotated[str, Query(min_length=1)]) -> JSONResponse:
        found = [asdict(o) for o in ledger.work_orders.values() if o.phone == phone]
        return _some({"count": len(found), "work_orders": found}, bool(found))

    return app


def _account(ledger: Ledger, customer_number: str) -> Account:
    account = ledger.accounts.get(customer_number)
    if account is None:
        raise HTTPException(404, "no such account")
    return account


def _outages(ledger: Ledger, region: str) -> JSONResponse:
    found = [asdict(o) for o in ledger.outages if region in ("", o.region)]
    return JSONResponse({"count": len(found), "outages": found})


def _some(body: dict[str, object], found: bool) -> JSONResponse:
    return JSONResponse(body if found else {"detail": "not found"}, 200 if found else 404)


async def _trouble(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    wanted = request.query_params
    if wanted.get("garbage"):
        return PlainTextResponse("not JSON")
    if (delay := wanted.get("delay_ms", "")).isdigit():
        await asyncio.sleep(min(int(delay), _LONGEST_DELAY_MS) / 1000)
    if (status := wanted.get("fail", "")).isdigit() and 400 <= int(status) <= 599:
        return PlainTextResponse("asked to fail", int(status))
    return await call_next(request)


class _Server(uvicorn.Server):
    """Leaves signals to the process that it runs in."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def running_business(
    ledger: Ledger | None = None, *, port: int = 0, faults: bool = False
) -> AsyncIterator[str]:
    """Serve on loopback inside this process while the block runs; gives the base URL."""
    app = business_app(ledger or sample_ledger(datetime.now(_LOCAL_TIME)), faults=faults)
    # asyncio sets TCP_NODELAY only where the protocol is named; without it replies take 40 ms
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen()
    server = _Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off"))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        # the socket listens already: requests wait in its backlog until the server accepts
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        await serving
        listener.close()


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(description="业务系统演示 · demonstration business system")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8096)
    parser.add_argument("--faults", action="store_true", help="obey ?delay_ms= and ?fail=")
    options = parser.parse_args()
    app = business_app(sample_ledger(datetime.now(_LOCAL_TIME)), faults=options.faults)
    uvicorn.run(app, host=options.host, port=options.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
