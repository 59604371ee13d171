"""A headless Chromium, driven over its DevTools protocol."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import shutil
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp

PATIENCE_S = 30.0
_LISTENING = re.compile(rb"DevTools listening on (ws://\S+)")

# Nothing is asked of any other machine; addresses stand in candidates as they are, loopback too;
# audio may begin without a click.
_SWITCHES = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-sync",
    "--disable-extensions",
    "--disable-component-update",
    "--disable-background-networking",
    "--disable-domain-reliability",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
    "--allow-loopback-in-peer-connection",
    "--autoplay-policy=no-user-gesture-required",
    "--mute-audio",
    "--remote-debugging-port=0",
)


def find_chromium() -> str | None:
    """Return the program, where there is one."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Page:
    """One page, whose scripts are run from here."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._loaded = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    async def open(self, url: str) -> None:
        """Load a page."""
        await self._call("Page.enable")
        self._loaded.clear()
        await self._call("Page.navigate", url=url)
        await asyncio.wait_for(self._loaded.wait(), PATIENCE_S)

    async def run(self, script: str) -> Any:
        """Run a script and wait for what its promise gives; AssertionError when it throws."""
        answer = await self._call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def call(self, function: str, *arguments: object) -> Any:
        """Call a function of the page."""
        return await self.run(f"{function}({', '.join(map(json.dumps, arguments))})")

    async def _call(self, method: str, **parameters: object) -> dict[str, Any]:
        number = next(self._ids)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        return await asyncio.wait_for(future, PATIENCE_S)

    async def _read(self) -> None:
        async for frame in self._socket:
            message = json.loads(frame.data)
            if message.get("method") == "Page.loadEventFired":
                self._loaded.set()
            future = self._waiting.pop(message.get("id", 0), None)
            if future is not None and not future.done():
                future.set_result(message.get("result") or {"exceptionDetails": message})


class Browser:
    """A browser with a profile of its own, which is empty."""

    def __init__(self, program: str, profile: Path) -> None:
        self._program = program
        self._profile = profile
        self._leaving = AsyncExitStack()
        self._client: aiohttp.ClientSession
        self._address = ""

    async def start(self) -> None:
        """Start it and find out where it listens."""
        process = await asyncio.create_subprocess_exec(
            self._program,
            *_SWITCHES,
            f"--user-data-dir={self._profile}",
            "about:blank",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )

        async def end() -> None:
            if process.returncode is None:
                process.terminate()
            await process.wait()

        self._leaving.push_async_callback(end)
        assert process.stderr is not None
        self._address = await asyncio.wait_for(_where_it_listens(process.stderr), PATIENCE_S)
        drain = asyncio.create_task(process.stderr.read())
        self._leaving.callback(drain.cancel)
        self._client = await self._leaving.enter_async_context(aiohttp.ClientSession())

    async def page(self) -> Page:
        """Open a page of its own."""
        http = re.sub(r"^ws://([^/]+)/.*", r"http://\1", self._address)
        async with self._client.put(f"{http}/json/new?about:blank") as response:
            target = await response.json()
        socket = await self._client.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0)
        self._leaving.push_async_callback(socket.close)
        return Page(socket)

    async def aclose(self) -> None:
        """Close its pages and end it."""
        await self._leaving.aclose()


async def _where_it_listens(stderr: asyncio.StreamReader) -> str:
    while line := await stderr.readline():
        if found := _LISTENING.search(line):
            return found[1].decode()
    raise AssertionError("the browser ended at once")
