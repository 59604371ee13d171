"""A SIP endpoint without sockets: bytes come and go by call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cti.sip.defence.guard import Guard
from cti.sip.endpoint import SipEndpoint
from cti.sip.messages.message import SipSyntaxError, parse_message
from cti.sip.transactions.timers import Timers
from cti.sip.transports.framing import KeepAlive, StreamFramer
from cti.sip.transports.transport import Hop

ADDRESS = ("192.0.2.95", 5060)

Sent = Callable[[bytes, Hop], bool | None]
"""Takes bytes that are sent; False says that they could not be."""


class _Wires:
    """The transports of an endpoint, as far as it asks for them."""

    def __init__(self, on_sent: Sent, address: tuple[str, int]) -> None:
        self.guard: Guard | None = None
        self._on_sent = on_sent
        self._address = address

    def local_address(self, _transport: str, _hop: Hop | None = None) -> tuple[str, int]:
        return self._address

    def send(self, data: bytes, hop: Hop, on_error: Callable[[], None]) -> int:
        if self._on_sent(data, hop) is False:
            asyncio.get_running_loop().call_soon(on_error)
        return hop.connection

    def stands(self, _connection: int) -> bool:
        return True

    async def aclose(self) -> None:
        """There is nothing to close."""


class MemoryEndpoint(SipEndpoint):
    """Takes datagrams and bytes of streams by call."""

    def __init__(
        self, on_sent: Sent, *, address: tuple[str, int] = ADDRESS, timers: Timers | None = None
    ) -> None:
        super().__init__(user_agent="memory", timers=timers)
        self._transports = _Wires(on_sent, address)  # type: ignore[assignment]
        self._streams: dict[int, StreamFramer] = {}

    @property
    def timer_count(self) -> int:
        """Timers of transactions that wait."""
        return len(self._heap)

    @property
    def transactions(self) -> list[str]:
        """Kind and state of each transaction in the tables."""
        lives = [*self._clients.values(), *self._servers.values()]
        return [f"{type(each.machine).__name__} {each.machine.state.value}" for each in lives]

    def take_datagram(self, data: bytes, host: str, port: int) -> None:
        """Take what a UDP socket would have received."""
        source = Hop("udp", host, port, 1)
        try:
            message = parse_message(data)
        except SipSyntaxError as error:
            self.on_malformed(error, source)
        else:
            self.on_message(message, source)

    def take_stream(self, data: bytes, host: str, connection: int) -> bool:
        """Take bytes of a TCP connection; False when it must be closed, and is forgotten."""
        source = Hop("tcp", host, 5060, connection)
        framer = self._streams.setdefault(connection, StreamFramer())
        for frame in framer.feed(data):
            if isinstance(frame, SipSyntaxError):
                self.on_malformed(frame, source)
            elif not isinstance(frame, KeepAlive):
                self.on_message(frame, source)
        if framer.broken:
            self.close_stream(connection)
        return not framer.broken

    def close_stream(self, connection: int) -> None:
        """Take the end of a TCP connection."""
        self._streams.pop(connection, None)
        self.on_connection_lost(connection, stood=True)
