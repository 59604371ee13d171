"""One UDP socket for very many calls: who gets which message, and what is sent until answered."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import socket
import struct
import time
from collections.abc import Callable
from typing import Protocol

from loadtest.figures.tally import Tally
from loadtest.generator.sip_text import Address, Message, parse, response

T1_S = 0.5
T2_S = 4.0
GIVE_UP_S = 64 * T1_S
_RECEIVE_BUFFER_BYTES = 16 * 1024 * 1024
_LONGEST = 65_535
_AT_ONCE = 256
_SO_TIMESTAMPNS = 35
"""socket(7) of Linux; Python has no name for it. Option and control message are called alike."""
_TIMESPEC = struct.Struct("@ll")
_TIMESTAMP_ROOM = socket.CMSG_SPACE(_TIMESPEC.size)
_OLDEST_S = 30.0
"""What would be older only seems so, as the clock was set."""
_REMEMBERED_S = 20.0
"""How long, at least, a dialog that is over still answers what is sent again."""


class Party(Protocol):
    """Whoever takes the messages of one Call-ID."""

    def receive(self, message: Message, source: Address) -> None:
        """Take a request or a response."""


class SipLine:
    """The socket, and the parties that share it by their Call-IDs."""

    def __init__(self, host: str) -> None:
        """Bind a free port of `host`, a local IPv4 address."""
        self.host = host
        self.run = os.urandom(4).hex()
        """Makes the names of this run differ from those of all others."""
        self.on_request: Callable[[Message, Address], None] = self._refuse
        """Takes requests of no known Call-ID."""
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket(type=socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._socket.bind((host, 0))
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]
        self.parties: dict[str, Party] = {}
        self._over: dict[str, Party] = {}
        self._over_before: dict[str, Party] = {}
        self.waited_s = 0.0
        """How long ago the message that is being taken in had come, by the kernel's time."""
        self._count = 0
        self._loop.add_reader(self._socket, self._receive)
        self._rotation = self._loop.call_later(_REMEMBERED_S, self._rotate)

    def close(self) -> None:
        """Close the socket."""
        self._rotation.cancel()
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def number(self) -> int:
        """Return the next of the numbers that name calls."""
        self._count += 1
        return self._count

    def send(self, data: bytes, address: Address) -> None:
        """Send a datagram; one that the kernel does not take is as one lost on the way."""
        with contextlib.suppress(OSError):
            self._socket.sendto(data, address)

    def over(self, call_id: str) -> None:
        """Let a party go, but have it answer what comes again for a while."""
        party = self.parties.pop(call_id, None)
        if party is not None:
            self._over[call_id] = party

    def _rotate(self) -> None:
        self._over_before, self._over = self._over, {}
        self._rotation = self._loop.call_later(_REMEMBERED_S, self._rotate)

    def _receive(self) -> None:
        receive = self._socket.recvmsg
        for _ in range(_AT_ONCE):
            try:
                data, told, _, source = receive(_LONGEST, _TIMESTAMP_ROOM)
            except OSError:
                return
            message = parse(data)
            if message is None:
                continue
            self.waited_s = _age_s(told)
            call_id = message.call_id
            party = (
                self.parties.get(call_id)
                or self._over.get(call_id)
                or self._over_before.get(call_id)
            )
            if party is not None:
                party.receive(message, source)
            elif not message.status and message.method != "ACK":
                self.on_request(message, source)

    def _refuse(self, request: Message, source: Address) -> None:
        self.send(response(request, "481 Call/Transaction Does Not Exist", tag=self.run), source)


def _age_s(told: list[tuple[int, int, bytes]]) -> float:
    """Return how long ago a datagram came; 0 where the kernel does not say."""
    for level, kind, data in told:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
            seconds, nanoseconds = _TIMESPEC.unpack(data)
            age_s = time.time() - seconds - nanoseconds / 1e9
            return age_s if 0 < age_s < _OLDEST_S else 0.0
    return 0.0


class Repeated:
    """A message that is sent again until it is answered (RFC 3261 17.1.1.2 and 17.1.2.2)."""

    __slots__ = ("_address", "_data", "_given_up", "_interval_s", "_line", "_longest_s", "_sent_s",
                 "_tally", "_timer")  # fmt: skip

    def __init__(
        self,
        line: SipLine,
        data: bytes,
        address: Address,
        tally: Tally,
        given_up: Callable[[], None],
        *,
        longest_s: float = T2_S,
    ) -> None:
        """Send it now; `given_up` is called when no answer came for 32 s."""
        self._line, self._data, self._address = line, data, address
        self._tally, self._given_up = tally, given_up
        self._interval_s, self._longest_s = T1_S, longest_s
        loop = asyncio.get_running_loop()
        self._sent_s = loop.time()
        line.send(data, address)
        self._timer = loop.call_later(T1_S, self._again)

    def _again(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() - self._sent_s >= GIVE_UP_S:
            self._given_up()
            return
        self._tally.retransmissions += 1
        self._line.send(self._data, self._address)
        self._interval_s = min(2 * self._interval_s, self._longest_s)
        self._timer = loop.call_later(self._interval_s, self._again)

    def stop(self) -> None:
        """Send it no more."""
        self._timer.cancel()


UNBOUNDED = math.inf
"""An INVITE's distances double for as long as it is repeated."""
