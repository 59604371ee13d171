"""What the endpoint asks of, and tells to, whoever defends it."""

from __future__ import annotations

from typing import Protocol

from cti.sip.messages.message import Request
from cti.sip.transports.transport import Hop

PASS = 0
DROP = -1


class Shedder(Protocol):
    """Decides how many new calls there is time for; whom it refuses may come back later."""

    @property
    def is_shedding(self) -> bool:
        """Whether some are refused at present."""

    def is_trusted(self, source: str) -> bool:
        """Whether an address is a trunk's or a proxy's of ours: then its word counts."""

    def is_phone(self, source: str) -> bool:
        """Whether a phone of ours has proved its password from an address lately."""

    def admits(self, now_s: float, *, has_priority: bool = False) -> bool:
        """Decide on a new call."""

    def retry_after_s(self) -> int:
        """When whoever is refused may come back; not the same for all."""

    def on_wait(self, wait_s: float) -> None:
        """Take note of how long a datagram has waited for us."""


class Guard(Protocol):
    """Decides who may send. Nothing here may wait or be slow: a flood goes through it."""

    def is_banned(self, host: str) -> bool:
        """Whether bytes of an address are dropped unread; one look-up, asked for each datagram."""

    def judge(self, request: Request, hop: Hop, source: str, now_s: float) -> int:
        """Judge a new request before it gets a transaction.

        `source` is its sender behind a trusted proxy, else `hop.host`. PASS serves it, DROP
        leaves it without an answer, a SIP status refuses it without state.
        """

    def on_malformed(self, hop: Hop) -> None:
        """Take note of a message that could not be parsed."""

    def on_broken_stream(self, hop: Hop) -> None:
        """Take note of a stream that dripped, grew too large or failed its handshake."""
