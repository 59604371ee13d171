"""Asks carriers' servers by OPTIONS whether they live (RFC 3261 11), each address by itself."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Mapping

import structlog

from cti.sip.messages.uri import SipUri
from cti.sip.sessions.causes import retry_after_s
from cti.sip.transports.transport import Hop
from cti.sip.user_agent import UserAgent
from cti.trunks.health import ProbeOutcome, ProbeResult, probe_result
from cti.trunks.health_book import HealthBook, ServerHealth
from cti.trunks.settings import ProbeSettings
from cti.trunks.target import Target
from domain.failures import PlatformError

_log = structlog.get_logger(__name__)

# The first probes of many servers are spread, so that a start is no burst.
_FIRST_PROBES_PER_S = 200
_RESOLVE_AGAIN_S = 60.0
_RESOLVE_AFTER_FAILURE_S = 5.0

Locate = Callable[[SipUri], Awaitable[list[Hop]]]


class Prober:
    """Keeps one task a target, which finds its addresses and probes them."""

    def __init__(self, user_agent: UserAgent, book: HealthBook, locate: Locate) -> None:
        self._user_agent = user_agent
        self._book = book
        self._locate = locate
        self._tasks: dict[Target, tuple[ServerHealth, asyncio.Task[None]]] = {}
        self._clock = asyncio.get_running_loop().time
        self.on_located: Callable[[str, list[Hop]], None] = _nobody_listens
        """Told where a server is, each time that it was looked for."""

    def watch(self, targets: Mapping[Target, ProbeSettings]) -> None:
        """Watch these targets and no others; those that stay as they are notice nothing."""
        for target, (server, task) in list(self._tasks.items()):
            if targets.get(target) != server.probe:
                task.cancel()
                del self._tasks[target]
                self._book.forget(str(target))
        new = [target for target in targets if target not in self._tasks]
        spread_s = len(new) / _FIRST_PROBES_PER_S
        for target in new:
            server = self._book.watch(str(target), targets[target])
            delay_s = random.random() * spread_s if len(new) > 1 else 0.0  # noqa: S311 - no secret
            asking = self._keep_asking(server, target, delay_s)
            self._tasks[target] = server, asyncio.create_task(asking, name=f"probe {target}")

    async def aclose(self) -> None:
        """Probe no more."""
        tasks = [task for _, task in self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep_asking(self, server: ServerHealth, target: Target, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        resolve_s = 0.0
        while True:
            now = self._clock()
            if now >= resolve_s:
                resolve_s = now + await self._resolve(server, target)
            now = self._clock()
            due = [hop for hop, health in server.hops.items() if health.next_probe_s <= now]
            await asyncio.gather(*(self._probe(server, target, hop) for hop in due))
            next_s = min((health.next_probe_s for health in server.hops.values()), default=now)
            wait_s = min(next_s if server.hops else resolve_s, resolve_s) - self._clock()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(server.wake.wait(), max(0.0, wait_s))
            server.wake.clear()

    async def _resolve(self, server: ServerHealth, target: Target) -> float:
        """Find the addresses; return in how many seconds to look again."""
        before = server.state
        try:
            hops = await self._locate(target.next_hop)
        except PlatformError as error:
            server.not_resolved(str(error.code))
            _log.debug("trunk_server_not_found", server=server.uri, reason=str(error))
            self._book.compare(server, before)
            return _RESOLVE_AFTER_FAILURE_S
        server.resolved(hops, self._clock())
        self.on_located(server.uri, hops)
        self._book.compare(server, before)
        return _RESOLVE_AGAIN_S

    async def _probe(self, server: ServerHealth, target: Target, hop: Hop) -> None:
        self._book.probed(server, hop, await self._ask(server.probe, target, hop))

    async def _ask(self, probe: ProbeSettings, target: Target, hop: Hop) -> ProbeResult:
        # The From tells nothing but the carrier's own host.
        sender = str(SipUri(user="ping", host=SipUri.parse(target.server).host))
        try:
            async with asyncio.timeout(probe.timeout_s):
                response = await self._user_agent.request(
                    "OPTIONS",
                    target.server,
                    from_=sender,
                    hop=hop,
                    headers=[("Accept", "application/sdp")],
                    route=target.route,
                )
        except TimeoutError:
            return ProbeResult(ProbeOutcome.DEAD, detail="timeout")
        except PlatformError as error:
            return ProbeResult(ProbeOutcome.DEAD, detail=error.code)
        return probe_result(response.status, retry_after_s(response))


def _nobody_listens(_uri: str, _hops: list[Hop]) -> None:
    """Take news that nobody asked for."""
