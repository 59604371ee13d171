"""`python -m loadtest.flooder HOST PORT RATE SECONDS`: attackers on loopback, one address a kind.

Sends RATE datagrams a second in all, of every kind of abuse in turn, and holds streams open that
drip. Prints what it sent as JSON. It is a process of its own so that its cost is nobody else's.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections import Counter
from collections.abc import Callable
from itertools import cycle

from cti.sip.authentication.digest import Credentials, authorization
from cti.sip.messages.message import Response, SipSyntaxError, parse_message

_TICK_S = 0.01
_DRIPPING_STREAMS = 200
_MOST_PER_S = 20_000
_LONGEST_S = 120


def _request(method: str, host: str, *lines: str, user: str = "95598", body: str = "") -> bytes:
    mark = os.urandom(8).hex()
    head = [
        f"{method} sip:{user}@127.0.0.1 SIP/2.0",
        f"Via: SIP/2.0/UDP {host}:5060;branch=z9hG4bK{mark};rport",
        f"From: <sip:8{mark[:10]}@{host}>;tag={mark}",
        f"To: <sip:{user}@127.0.0.1>",
        f"Call-ID: {mark}",
        f"CSeq: 1 {method}",
        "Max-Forwards: 70",
        *lines,
        f"Content-Length: {len(body)}",
        "",
        body,
    ]
    return "\r\n".join(head).encode()


class _Attacker:
    """One address that sends one kind of thing."""

    def __init__(self, kind: str, host: str, make: Callable[[_Attacker], bytes]) -> None:
        self.kind = kind
        self.host = host
        self.challenges: tuple[str, ...] = ()
        self._make = make
        self._socket = socket.socket(type=socket.SOCK_DGRAM)
        self._socket.bind((host, 0))
        self._socket.setblocking(False)

    def send(self, target: tuple[str, int]) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            self._socket.sendto(self._make(self), target)

    def read(self) -> None:
        """Take what came back; a guesser needs the nonce."""
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while True:
                data = self._socket.recv(65_535)
                with contextlib.suppress(SipSyntaxError):
                    answer = parse_message(data)
                    if isinstance(answer, Response) and answer.status == 401:
                        self.challenges = tuple(answer.headers.get_all("WWW-Authenticate"))


def _call(attacker: _Attacker) -> bytes:
    return _request("INVITE", attacker.host, f"Contact: <sip:x@{attacker.host}>")


def _register(attacker: _Attacker) -> bytes:
    contact = f"Contact: <sip:x@{attacker.host}>"
    return _request("REGISTER", attacker.host, contact, user="1001")


def _guess(attacker: _Attacker) -> bytes:
    credentials = Credentials("1001", os.urandom(4).hex())
    value = authorization(
        list(attacker.challenges), method="REGISTER", uri="sip:127.0.0.1", credentials=credentials
    )
    lines = [f"Authorization: {value}"] if value else []
    return _request("REGISTER", attacker.host, *lines, user="1001")


def _scan(attacker: _Attacker) -> bytes:
    return _request("OPTIONS", attacker.host, "User-Agent: friendly-scanner", user="100")


def _garbage(attacker: _Attacker) -> bytes:
    return b"INVITE sip:" + os.urandom(300) + attacker.host.encode()


def _huge(attacker: _Attacker) -> bytes:
    return _request("INVITE", attacker.host, *("X-Fill: " + "x" * 900 for _ in range(60)))


_KINDS: dict[str, Callable[[_Attacker], bytes]] = {
    "calls": _call,
    "registrations": _register,
    "guesses": _guess,
    "scans": _scan,
    "garbage": _garbage,
    "oversize": _huge,
}


async def _drip(target: tuple[str, int], host: str, seconds: float) -> int:
    """Hold a stream open with a message that never ends; return how often it was opened."""
    opened = 0
    loop = asyncio.get_running_loop()
    until_s = loop.time() + seconds
    while loop.time() < until_s:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(*target, local_addr=(host, 0))
            opened += 1
            while loop.time() < until_s and not writer.is_closing():
                writer.write(b"I")
                await writer.drain()
                await asyncio.sleep(1)
        await asyncio.sleep(1)
    return opened


async def flood(target: tuple[str, int], rate: int, seconds: float) -> Counter[str]:
    """Attack for so long; return how much of each kind was sent."""
    attackers = [
        _Attacker(kind, f"127.0.0.{66 + at}", make)
        for at, (kind, make) in enumerate(_KINDS.items())
    ]
    loop = asyncio.get_running_loop()
    drips = [
        asyncio.create_task(_drip(target, "127.0.0.90", seconds)) for _ in range(_DRIPPING_STREAMS)
    ]
    sent: Counter[str] = Counter()
    turn = cycle(attackers)
    begun_s = loop.time()
    while (passed_s := loop.time() - begun_s) < seconds:
        for _ in range(int(passed_s * rate) - sent.total()):
            attacker = next(turn)
            attacker.send(target)
            sent[attacker.kind] += 1
        for attacker in attackers:
            attacker.read()
        await asyncio.sleep(_TICK_S)
    sent["streams"] = sum(await asyncio.gather(*drips))
    return sent


def main() -> None:
    """Run the command."""
    host, port, rate, seconds = sys.argv[1], *map(int, sys.argv[2:5])
    if not host.startswith("127."):
        sys.exit("only loopback is attacked")
    sent = asyncio.run(flood((host, port), min(rate, _MOST_PER_S), min(seconds, _LONGEST_S)))
    print(json.dumps(sent))


if __name__ == "__main__":
    main()
