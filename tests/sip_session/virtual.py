"""Nodes and raw peers on a network in memory, on a clock that jumps from event to event."""

from __future__ import annotations

import asyncio
import functools
import inspect
import itertools
import random
import selectors
from collections.abc import Awaitable, Callable
from typing import Any

from cti.sip.messages.message import Request, Response, parse_message
from cti.sip.sessions.session import InviteSession
from cti.sip.sessions.session_policy import SessionPolicy
from cti.sip.transactions.timers import Timers
from cti.sip.transports.transport import Hop
from tests.sip_session.conftest import Node
from tests.sip_session.observer import Recorder
from tests.sip_session.peer import ANSWER, OFFER, RawPeer, patience_s

_DELAY_S = 0.001


class _Jump(selectors.DefaultSelector):
    """Waits by moving the clock."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("nothing will ever happen")
        self.loop.now_s += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes at once."""

    patience_s = 100_000.0

    def __init__(self) -> None:
        self.now_s = 1000.0
        selector = _Jump()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now_s


class Wire:
    """Carries datagrams; it may lose, delay and repeat them."""

    def __init__(self, seed: int = 0, *, loss: float = 0.0, jitter_s: float = 0.0) -> None:
        self._chance = random.Random(seed)
        self.loss = loss
        self.jitter_s = jitter_s
        self._takers: dict[tuple[str, int], Callable[[bytes, tuple[str, int]], None]] = {}
        self._ports = itertools.count(20_000)

    def address(self) -> tuple[str, int]:
        return "127.0.0.1", next(self._ports)

    def attach(
        self, address: tuple[str, int], take: Callable[[bytes, tuple[str, int]], None]
    ) -> None:
        self._takers[address] = take

    def send(self, data: bytes, source: tuple[str, int], target: tuple[str, int]) -> None:
        if self._chance.random() < self.loss:
            return
        copies = 2 if self._chance.random() < self.loss / 4 else 1
        for _ in range(copies):
            delay_s = _DELAY_S + self._chance.random() * self.jitter_s
            asyncio.get_running_loop().call_later(delay_s, self._deliver, data, source, target)

    def _deliver(self, data: bytes, source: tuple[str, int], target: tuple[str, int]) -> None:
        take = self._takers.get(target)
        if take is not None:
            take(data, source)


class _Transports:
    """What an endpoint needs of its transports."""

    guard = None

    def __init__(self, wire: Wire, address: tuple[str, int]) -> None:
        self._wire = wire
        self._address = address

    def local_address(self, _transport: str, _hop: Hop | None = None) -> tuple[str, int]:
        return self._address

    def send(self, data: bytes, hop: Hop, _on_error: Callable[[], None]) -> int:
        self._wire.send(data, self._address, (hop.host, hop.port))
        return 1

    def stands(self, _connection: int) -> bool:
        return True

    async def aclose(self) -> None:
        """Nothing is open."""


class VirtualNode(Node):
    def __init__(self, wire: Wire, policy: SessionPolicy | None = None) -> None:
        super().__init__(timers=Timers(), policy=policy)
        self.address = wire.address()
        self.endpoint._transports = _Transports(wire, self.address)  # type: ignore[assignment]
        wire.attach(self.address, self._take)

    def _take(self, data: bytes, source: tuple[str, int]) -> None:
        self.endpoint.on_message(parse_message(data), Hop("udp", *source, 1))

    async def idle(self) -> None:
        """Wait until nothing of any call is left."""
        async with asyncio.timeout(patience_s()):
            while self.agent.session_count or self.endpoint.transaction_count:
                await passed(1.0)
        assert not self.agent._invites


class VirtualPeer(RawPeer):
    """A raw peer on the wire; it says nothing by itself."""

    def __init__(self, wire: Wire, remote: tuple[str, int]) -> None:
        super().__init__(remote)
        self.host, self.port = wire.address()
        self._wire = wire
        wire.attach((self.host, self.port), self.datagram_received)

    def send(self, message: Request | Response) -> None:
        self._wire.send(message.to_bytes(), (self.host, self.port), self.remote)

    def in_dialog(self, invite: Request) -> None:
        """Write requests of the dialog that the node's INVITE began."""
        self.call_id, self.remote_to = invite.call_id, str(invite.from_)
        self._from = f"{str(invite.to).partition(';tag')[0]};tag={self.tag}"
        original = self.request

        def request(method: str, **options: Any) -> Request:
            built = original(method, **options)
            built.headers.set("From", self._from)
            return built

        self.request = request  # type: ignore[method-assign]


class World:
    """One node of ours and one raw peer."""

    def __init__(self, policy: SessionPolicy | None = None) -> None:
        self.wire = Wire()
        self.node = VirtualNode(self.wire, policy)
        self.peer = VirtualPeer(self.wire, self.node.address)

    async def incoming(self, **options: Any) -> tuple[Request, InviteSession, Recorder]:
        """Let the peer call."""
        invite = self.peer.ask("INVITE", **{"body": OFFER, **options})
        session, told = await self.node.session()
        return invite, session, told

    async def answered(self, **options: Any) -> tuple[InviteSession, Recorder]:
        """Let the peer call, and be answered."""
        _, session, told = await self.incoming(**options)
        session.accept(ANSWER)
        self.peer.ack(await self.peer.expect_status(200))
        await told.expect("acknowledged", b"")
        return session, told

    async def outgoing(self, **options: Any) -> tuple[Request, InviteSession, Recorder]:
        """Call the peer."""
        session, told = self.node.call(self.peer, **options)
        invite = await self.peer.expect("INVITE")
        self.peer.in_dialog(invite)
        return invite, session, told

    async def over(self) -> None:
        """Check that calls leave nothing behind, whatever the peer says no more."""
        await self.node.idle()


async def passed(seconds: float) -> None:
    """Let time pass."""
    loop = asyncio.get_running_loop()
    turn: asyncio.Future[None] = loop.create_future()
    loop.call_later(seconds, turn.set_result, None)
    await turn


def play(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run a scenario on the virtual clock."""

    async def main() -> None:
        await scenario()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())


def virtual(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Let a test whose first parameter is a world run on the virtual clock."""

    @functools.wraps(test)
    def run(**parameters: Any) -> None:
        async def scenario() -> None:
            await test(World(), **parameters)

        play(scenario)

    signature = inspect.signature(test)
    del run.__wrapped__
    run.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=list(signature.parameters.values())[1:]
    )
    return run
