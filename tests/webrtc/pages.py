"""The test's page, from a web server on loopback: browsers give such pages every right."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

_HERE = Path(__file__).parent


@asynccontextmanager
async def serve_pages() -> AsyncIterator[str]:
    """Serve this folder's page; its address is given."""
    application = web.Application()
    for name in ("page.html", "voice.js", "phone.js"):
        application.router.add_get(f"/{name}", _file(_HERE / name))
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


def _file(path: Path) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def get(_request: web.Request) -> web.StreamResponse:
        return web.FileResponse(path)

    return get
