"""When a message came is told by the kernel, not by when the generator had time for it."""

from __future__ import annotations

import asyncio
import socket
import time

from loadtest.generator.sip_line import SipLine

_OPTIONS = (
    b"OPTIONS sip:phone@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK1\r\n"
    b"From: <sip:far@127.0.0.1>;tag=1\r\nTo: <sip:phone@127.0.0.1>\r\nCall-ID: one\r\n"
    b"CSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
)
_BUSY_S = 0.03


async def test_how_long_a_message_has_waited_is_known() -> None:
    waited: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    line = SipLine("127.0.0.1")
    line.on_request = lambda _request, _source: waited.set_result(line.waited_s)
    try:
        with socket.socket(type=socket.SOCK_DGRAM) as far:
            far.sendto(_OPTIONS, ("127.0.0.1", line.port))
        began_s = time.monotonic()
        while time.monotonic() - began_s < _BUSY_S:
            pass  # the generator has something else to do
        assert await waited >= _BUSY_S
    finally:
        line.close()
