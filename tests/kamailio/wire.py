"""A UDP socket that says what it is told to, right or wrong."""

from __future__ import annotations

import asyncio
import itertools
import socket

_numbers = itertools.count(1)


class Wire:
    """One socket at one address."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(type=socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind((address, 0))
        host, port = self._socket.getsockname()
        self.address = f"{host}:{port}"

    def send(self, to: str, method: str, uri: str, *lines: str, to_tag: str = "") -> None:
        """Send a request to host:port, with further header lines."""
        number = next(_numbers)
        self.say(
            to,
            f"{method} {uri} SIP/2.0",
            f"Via: SIP/2.0/UDP {self.address};branch=z9hG4bK{number}",
            f"From: <sip:1@example.com>;tag=a{number}",
            f"To: <{uri}>{to_tag}",
            f"Call-ID: {number}@example.com",
            f"CSeq: 1 {method}",
            f"Contact: <sip:line7@{self.address}>",
            "Max-Forwards: 70",
            *lines,
        )

    def answer(self, request: str, status: str, *lines: str) -> None:
        """Send a response to where the request came from by its top Via."""
        rows = request.splitlines()
        copied = [
            f"{row};tag=b" if row.startswith("To:") and ";tag=" not in row else row
            for row in rows
            if row.startswith(("Via:", "Record-Route:", "From:", "To:", "Call-ID:", "CSeq:"))
        ]
        via = next(row for row in rows if row.startswith("Via:"))
        self.say(via.split()[2].partition(";")[0], f"SIP/2.0 {status}", *copied, *lines)

    def say(self, to: str, *lines: str) -> None:
        """Send lines as a message without a body."""
        host, _, port = to.partition(":")
        text = "\r\n".join([*lines, "Content-Length: 0", "", ""])
        self._socket.sendto(text.encode(), (host, int(port)))

    async def receive(self, start: str = "", *, timeout_s: float = 3.0) -> str:
        """The next message that starts so; TimeoutError when there is none."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(timeout_s):
            while True:
                message = (await loop.sock_recv(self._socket, 65_535)).decode()
                if message.startswith(start):
                    return message

    def close(self) -> None:
        self._socket.close()
