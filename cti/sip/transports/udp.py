"""UDP (RFC 3261 18), over a plain socket: only so do ICMP errors come with what they are about."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Callable

from cti.sip.defence.guard import Guard
from cti.sip.messages.message import SipSyntaxError, parse_message
from cti.sip.metrics import TRANSPORT_ERRORS
from cti.sip.transports.transport import Hop, Receiver

_BUFFER_BYTES = 4 * 1024 * 1024
_MAX_DATAGRAM_BYTES = 65_535
_KEEP_ALIVE_BYTES = 8
_BATCH = 8
"""Datagrams that are read before others have their turn: each may be a call's work of a
millisecond, while Redis has answered for those before it."""
_MOST_ERRORS = 64

# <asm-generic/socket.h>: the kernel tells when a datagram came, by the clock of the day.
_SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("@ll")
_TIMESPEC_ROOM = socket.CMSG_SPACE(_TIMESPEC.size)
_LONGEST_WAIT_S = 60.0  # beyond it somebody has set that clock

# <linux/in.h>, <linux/in6.h>, <linux/errqueue.h>; the socket module does not name them.
_IP_RECVERR = 11
_IPV6_RECVERR = 25
_ICMP_ORIGINS = frozenset({2, 3})  # SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6
_ORIGIN_AT = 4
_DESTINATION_UNREACHABLE = {2: 3, 3: 1}  # ICMP type by origin
_TYPE_AT = 5
_CODE_AT = 6
_FRAGMENTATION_NEEDED = 4  # of ICMPv4: the next try goes in pieces
_QUOTED_BYTES = 2048


class UdpSocket:
    """One bound socket; read in batches, written at once."""

    def __init__(self, bound: socket.socket, connection: int, receiver: Receiver) -> None:
        self.connection = connection
        self.family = bound.family
        self.address: tuple[str, int] = bound.getsockname()[:2]
        self.guard: Guard | None = None
        self.early: Callable[[bytes, Hop], bool] | None = None
        """Takes a datagram before it is parsed; False leaves it to be parsed."""
        self._on_wait: Callable[[float], None] | None = None
        self._socket = bound
        self._receiver = receiver
        self._has_errors = False
        self._loop = asyncio.get_running_loop()
        for buffer in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            bound.setsockopt(socket.SOL_SOCKET, buffer, _BUFFER_BYTES)
        if bound.family is socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
        else:
            bound.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
        self._loop.add_reader(bound.fileno(), self._read)

    @property
    def on_wait(self) -> Callable[[float], None] | None:
        """Hears how long the first datagram of each batch has waited in the kernel, in seconds."""
        return self._on_wait

    @on_wait.setter
    def on_wait(self, heard: Callable[[float], None] | None) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, int(heard is not None))
        self._on_wait = heard

    def send(self, data: bytes, host: str, port: int) -> bool:
        """Send now; False when the system refused.

        What does not fit into its buffer is lost like any datagram, and sent again by its timer.
        """
        try:
            self._socket.sendto(data, (host, port))
        except BlockingIOError:
            TRANSPORT_ERRORS.labels("udp").inc()
        except OSError:
            # The error may be that of an earlier datagram, which the socket reports first.
            self._has_errors = True
            try:
                self._socket.sendto(data, (host, port))
            except OSError:
                return False
        return True

    def _read(self) -> None:
        receive = self._socket.recvfrom
        taken = 0
        try:
            if self._on_wait is not None:
                self._read_first(self._on_wait)
                taken = 1
            for taken in range(taken, _BATCH):  # noqa: B007, B020 - the handler below wants it
                data, address = receive(_MAX_DATAGRAM_BYTES)
                self._take(data, address[0], address[1])
        except BlockingIOError:
            # Called with nothing to read: there is an error, or was.
            self._has_errors = self._has_errors or not taken
        except OSError:
            self._has_errors = True
        if self._has_errors and self._socket.fileno() >= 0:
            self._has_errors = False
            self._read_errors()

    def _read_first(self, on_wait: Callable[[float], None]) -> None:
        data, ancillary, _, address = self._socket.recvmsg(_MAX_DATAGRAM_BYTES, _TIMESPEC_ROOM)
        for level, kind, value in ancillary:
            if (level, kind, len(value)) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS, _TIMESPEC.size):
                seconds, nanoseconds = _TIMESPEC.unpack(value)
                wait_s = time.time() - seconds - nanoseconds / 1e9
                if 0 <= wait_s < _LONGEST_WAIT_S:
                    on_wait(wait_s)
        self._take(data, address[0], address[1])

    def _take(self, data: bytes, host: str, port: int) -> None:
        # Keep-alives: line breaks, NULs, or STUN, whose first two bits are zero (RFC 5389 6).
        if len(data) <= _KEEP_ALIVE_BYTES or data[0] < 0x04:
            return
        if self.guard is not None and self.guard.is_banned(host):
            return
        source = Hop("udp", host, port, self.connection)
        if self.early is not None and self.early(data, source):
            return
        try:
            message = parse_message(data)
        except SipSyntaxError as error:
            self._receiver.on_malformed(error, source)
        else:
            self._receiver.on_message(message, source)

    def _read_errors(self) -> None:
        """Read which datagrams found nobody (RFC 3261 18.4); other ICMP errors are passing."""
        try:
            for _ in range(_MOST_ERRORS):
                quoted, ancillary, _, _ = self._socket.recvmsg(
                    _QUOTED_BYTES, 512, socket.MSG_ERRQUEUE
                )
                if any(_is_unreachable(level, error) for level, _, error in ancillary):
                    self._receiver.on_unreachable(quoted)
        except OSError:
            pass  # no more of them
        # uvloop stops to watch a socket that has an error.
        with contextlib.suppress(OSError, ValueError):
            self._loop.remove_reader(self._socket.fileno())
            self._loop.add_reader(self._socket.fileno(), self._read)

    def close(self) -> None:
        """Close the socket."""
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()


def _is_unreachable(level: int, error: bytes) -> bool:
    origin = error[_ORIGIN_AT]
    return (
        level in {socket.IPPROTO_IP, socket.IPPROTO_IPV6}
        and origin in _ICMP_ORIGINS
        and error[_TYPE_AT] == _DESTINATION_UNREACHABLE[origin]
        and (level == socket.IPPROTO_IPV6 or error[_CODE_AT] != _FRAGMENTATION_NEEDED)
    )
