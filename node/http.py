"""The HTTP side of a node: whether it takes calls, and its figures."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Annotated

import uvicorn
from fastapi import APIRouter, FastAPI, Query, Response
from fastapi.responses import JSONResponse
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    disable_created_metrics,
    generate_latest,
)

from node.listeners import bound_listener

# When a counter was made is of no use to anybody here, and doubles what the loop writes at once.
disable_created_metrics()  # type: ignore[no-untyped-call]


_ALL: list[str] = []


@dataclass(frozen=True, slots=True)
class Health:
    """What /healthz tells."""

    node: str
    takes_calls: bool
    calls: int
    reasons: list[str] = field(default_factory=list)
    """Why no calls are taken."""
    impaired: list[str] = field(default_factory=list)
    """What does not work although calls are taken."""


def gateway(health: Callable[[], Health], routers: Iterable[APIRouter] = ()) -> FastAPI:
    """Build the application; parts of the node bring what they show by routers of their own."""
    app = FastAPI(title="cti95598", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/healthz")
    async def healthz() -> JSONResponse:
        state = health()
        return JSONResponse(asdict(state), status_code=200 if state.takes_calls else 503)

    @app.get("/metrics")
    async def metrics(name: Annotated[list[str], Query(alias="name[]")] = _ALL) -> Response:
        """All figures, or as Prometheus's own servers do, those named: it takes less time."""
        registry = REGISTRY.restricted_registry(name) if name else REGISTRY
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    for router in routers:
        app.include_router(router)
    return app


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the command that runs us."""
        yield


class HttpServer:
    """Serves an application inside this process."""

    def __init__(self, app: FastAPI, host: str, port: int) -> None:
        self._address = (host, port)
        self._server = _Server(
            uvicorn.Config(app, log_config=None, access_log=False, lifespan="off")
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> tuple[str, int]:
        """Listen and serve; PlatformError CONFIG_INVALID where the port is taken."""
        listener = bound_listener("http", *self._address)
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]), name="http")
        host, port = listener.getsockname()[:2]
        return host, port

    async def stop(self) -> None:
        """Stop at once."""
        self._server.should_exit = self._server.force_exit = True
        if self._task is not None:
            await self._task
