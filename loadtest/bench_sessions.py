"""What a call costs in the session layer: two user agents over loopback UDP in one process.

A call is INVITE, 180, 200, ACK, BYE, 200 with the headers that user agents of ours write.

Run: python -m loadtest.bench_sessions
"""

from __future__ import annotations

import asyncio
import sys
import time

import uvloop

from cti.sip.endpoint import SipEndpoint
from cti.sip.sessions.session import InviteSession, SessionEnd, SessionObserverBase
from cti.sip.transports.transport import Hop
from cti.sip.user_agent import UserAgent
from domain.failures import Code
from loadtest.bench_sip import SDP

_ROUNDS = 5


class _Caller(SessionObserverBase):
    """Hangs up once it is answered, and lets the next call begin."""

    def __init__(self, calls: _Calls) -> None:
        self._calls = calls
        self.session: InviteSession | None = None

    def on_answered(self, sdp: bytes) -> None:  # noqa: ARG002 - the protocol's
        assert self.session is not None  # noqa: S101 - a benchmark
        self.session.end(Code.FLOW_ENDED)

    def on_ended(self, end: SessionEnd) -> None:
        self._calls.finish(end)


class _Calls:
    """Keeps so many calls under way until all are done."""

    def __init__(self, agent: UserAgent, hop: Hop, count: int) -> None:
        self._agent = agent
        self._hop = hop
        self._left = self._unfinished = count
        self.done = asyncio.Event()
        self.failed = 0

    def start(self) -> None:
        self._left -= 1
        caller = _Caller(self)
        caller.session = self._agent.invite(
            "sip:95598@127.0.0.1",
            from_="sip:13812345678@127.0.0.1",
            hop=self._hop,
            sdp=SDP,
            observer=caller,
        )

    def finish(self, end: SessionEnd) -> None:
        self.failed += end.status != 200
        self._unfinished -= 1
        if self._left:
            self.start()
        elif not self._unfinished:
            self.done.set()


def _take(session: InviteSession) -> None:
    session.ring()
    session.accept(SDP)


async def _measure(calls: int, at_once: int) -> tuple[float, int]:
    """Return CPU seconds of one call, and how many failed."""
    client, server = SipEndpoint(user_agent="bench"), SipEndpoint(user_agent="bench")
    await client.listen("udp", "127.0.0.1", 0)
    hop = Hop("udp", *await server.listen("udp", "127.0.0.1", 0))
    UserAgent(server, on_invite=_take)
    work = _Calls(UserAgent(client, on_invite=_take), hop, calls)
    began_s = time.process_time()
    for _ in range(at_once):
        work.start()
    await asyncio.wait_for(work.done.wait(), 120.0)
    spent_s = (time.process_time() - began_s) / calls
    await client.aclose()
    await server.aclose()
    return spent_s, work.failed


def main(calls: int = 2_000, at_once: int = 20) -> int:
    """Print the best of several rounds."""
    rounds = [uvloop.run(_measure(calls, at_once)) for _ in range(_ROUNDS)]
    best_s = min(spent_s for spent_s, _ in rounds)
    print(
        f"calls of two user agents, both ends: {best_s * 1e6:.0f} us each, "
        f"{sum(failed for _, failed in rounds)} failed"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
