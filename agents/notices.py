"""What happens to an agent, fanned out to whoever watches; a slow watcher is dropped."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from agents.state import AgentState
from agents.summary import CallSummary

_MAX_UNREAD = 64

SLOW = "slow_consumer"


@dataclass(frozen=True, slots=True)
class Notice:
    """The agent's state at a time, and the call it is about."""

    time_unix_ms: int
    state: AgentState
    reason: str
    call: CallSummary | None


class Subscription:
    """One watcher's unread notices."""

    def __init__(self) -> None:
        self._unread: deque[Notice] = deque()
        self._wake = asyncio.Event()
        self.ended = ""
        """Why no more will come; empty while they do."""

    def push(self, notice: Notice) -> None:
        """Add a notice, or end the subscription of a reader who is too far behind."""
        if self.ended:
            return
        if len(self._unread) >= _MAX_UNREAD:
            self.end(SLOW)
            return
        self._unread.append(notice)
        self._wake.set()

    def end(self, reason: str) -> None:
        """No more notices; those unread can still be read."""
        self.ended = self.ended or reason
        self._wake.set()

    async def next(self) -> Notice | None:
        """The next notice, None at the end."""
        while not self._unread:
            if self.ended:
                return None
            self._wake.clear()
            await self._wake.wait()
        return self._unread.popleft()
