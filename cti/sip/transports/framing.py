"""Messages out of a byte stream, framed by Content-Length (RFC 3261 18.3). Sans-IO."""

from __future__ import annotations

from enum import Enum

from cti.sip.messages.message import (
    MAX_MESSAGE_BYTES,
    Malformed,
    Request,
    Response,
    SipSyntaxError,
    find_head_end,
    parse_head,
)


class KeepAlive(Enum):
    """What else a stream carries (RFC 5626 3.5.1)."""

    PING = "double CRLF, to be answered by one CRLF"


_PING = b"\r\n\r\n"

Frame = Request | Response | SipSyntaxError | KeepAlive


class StreamFramer:
    """Cuts a stream into messages; holds at most one message's worth of bytes beside its input."""

    __slots__ = ("_buffer", "_message", "_missing", "_scanned", "broken")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._message: Request | Response | None = None  # its body is on the way
        self._missing = 0  # bytes of the body, wanted or skipped
        self._scanned = 0
        self.broken = False
        """No message boundary is known any more: the connection must be closed."""

    @property
    def idle(self) -> bool:
        """Whether the stream stands between two messages."""
        return not self._missing and self._message is None and _PING.startswith(self._buffer)

    def feed(self, data: bytes) -> list[Frame]:
        """Take bytes, return what they complete."""
        frames: list[Frame] = []
        if self.broken:
            return frames
        self._buffer += data
        while not self.broken and (self._take_body(frames) and self._take_head(frames)):
            pass
        return frames

    def _take_body(self, frames: list[Frame]) -> bool:
        """Take the body that is due; tell whether a head may follow."""
        if self._message is None:
            skipped = min(self._missing, len(self._buffer))
            del self._buffer[:skipped]
            self._missing -= skipped
            return not self._missing
        if len(self._buffer) < self._missing:
            return False
        self._message.body = bytes(self._buffer[: self._missing])
        del self._buffer[: self._missing]
        frames.append(self._message)
        self._message = None
        self._missing = 0
        return True

    def _take_head(self, frames: list[Frame]) -> bool:
        """Take keep-alives and one head; tell whether to go on."""
        self._take_line_breaks(frames)
        if _PING.startswith(self._buffer):
            return False  # nothing, or what may become a ping
        end, body_start = find_head_end(self._buffer, self._scanned)
        if end < 0:
            self._scanned = max(0, len(self._buffer) - 3)
            if len(self._buffer) > MAX_MESSAGE_BYTES:
                self._break(frames, Malformed.TOO_LARGE, "Message Too Large", 513)
            return False
        head = bytes(self._buffer[:end])
        del self._buffer[:body_start]
        self._scanned = 0
        try:
            message, length = parse_head(head)
        except SipSyntaxError as error:
            frames.append(error)
            self._missing = error.content_length or 0
            self.broken = error.content_length is None or self._missing > MAX_MESSAGE_BYTES
            return not self.broken
        request = message if isinstance(message, Request) else None
        if length is None:
            # RFC 3261 20.14: on a stream the header is mandatory.
            self._break(frames, Malformed.CONTENT_LENGTH, "Missing Content-Length", 400, request)
        elif end + length > MAX_MESSAGE_BYTES:
            self._break(frames, Malformed.TOO_LARGE, "Message Too Large", 513, request)
        else:
            self._message = message
            self._missing = length
        return not self.broken

    def _take_line_breaks(self, frames: list[Frame]) -> None:
        """Drop line breaks before a message (RFC 3261 7.5); two in a row are a ping."""
        buffer = self._buffer
        if not buffer.startswith((b"\r", b"\n")):
            return
        if buffer.startswith(_PING):
            frames.append(KeepAlive.PING)
        while buffer.startswith(_PING):
            del buffer[: len(_PING)]
        if not _PING.startswith(buffer):
            del buffer[: len(buffer) - len(buffer.lstrip(b"\r\n"))]
        self._scanned = 0

    def _break(
        self,
        frames: list[Frame],
        kind: Malformed,
        reason: str,
        status: int,
        partial: Request | None = None,
    ) -> None:
        frames.append(SipSyntaxError(kind, reason, status, partial))
        self.broken = True
        self._buffer.clear()
