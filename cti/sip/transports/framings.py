"""What lies between the bytes of a connection and SIP messages."""

from __future__ import annotations

from typing import Protocol

from cti.sip.transports.framing import Frame, StreamFramer


class Framing(Protocol):
    """Cuts what a connection carries into messages; sans-IO."""

    broken: bool
    """What came cannot be read on: the connection is to be closed."""
    ended: bool
    """The peer is done, or has come to the wrong place: the connection is to be closed."""

    @property
    def idle(self) -> bool:
        """Whether the connection stands between two messages."""

    def feed(self, data: bytes) -> list[Frame]:
        """Take bytes, return what they complete."""

    def wrap(self, data: bytes) -> bytes:
        """Return a message as it goes over the connection; empty when none can go any more."""

    def output(self) -> bytes:
        """Return what is to be sent besides messages, such as the answer to a handshake."""

    def end(self) -> bytes:
        """Return what is said before we close the connection."""


class BareFraming(StreamFramer):
    """Messages one after the other (RFC 3261 18.3), as over TCP and TLS."""

    __slots__ = ("ended",)

    def __init__(self) -> None:
        super().__init__()
        self.ended = False

    def wrap(self, data: bytes) -> bytes:
        """See Framing."""
        return data

    def output(self) -> bytes:
        """See Framing."""
        return b""

    def end(self) -> bytes:
        """See Framing."""
        return b""
