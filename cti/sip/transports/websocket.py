"""SIP over WebSocket, the server's side (RFC 7118, RFC 6455); sans-IO, on wsproto."""

from __future__ import annotations

from collections.abc import Collection

from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import ProtocolError, RemoteProtocolError

from cti.sip.messages.message import MAX_MESSAGE_BYTES, SipSyntaxError, parse_message
from cti.sip.transports.framing import Frame, KeepAlive

_SUBPROTOCOL = "sip"
_MAX_HANDSHAKE_BYTES = 16_384
_END_OF_HANDSHAKE = b"\r\n\r\n"
_GET = b"GET "
_PING = b"\r\n\r\n"


class WebSocketFraming:
    """Cuts a WebSocket connection into messages: one SIP message a WebSocket message."""

    def __init__(self, origins: Collection[str] = ()) -> None:
        """`origins` are the web pages that may connect, such as https://desk.example; none: all.

        What sends no Origin is no browser, and is not held back by it.
        """
        self.broken = False
        self.ended = False
        self._origins = frozenset(origins)
        self._socket = WSConnection(ConnectionType.SERVER)
        self._handshake: bytearray | None = bytearray()
        self._message = bytearray()
        self._in_message = False
        self._between = False
        self._output: list[bytes] = []

    @property
    def idle(self) -> bool:
        """See Framing; the start of a frame's header right behind a message is overlooked."""
        return self._between

    def feed(self, data: bytes) -> list[Frame]:
        """See Framing."""
        frames: list[Frame] = []
        if self.broken or self.ended:
            return frames
        try:
            if self._handshake is not None:
                data = self._shake_hands(self._handshake + data)
            if data and not (self.broken or self.ended):
                self._between = False
                self._socket.receive_data(data)
                for event in self._socket.events():
                    self._take(event, frames)
                    if self.broken or self.ended:
                        break
        except (ProtocolError, ValueError):  # ValueError: names that are no IDNA, and the like
            self.broken = True
        return frames

    def wrap(self, data: bytes) -> bytes:
        """See Framing; text where it is text, as scripts in browsers find it handier."""
        if self._socket.state is not ConnectionState.OPEN:
            return b""
        try:
            return self._socket.send(TextMessage(data.decode()))
        except UnicodeDecodeError:
            return self._socket.send(BytesMessage(data))

    def output(self) -> bytes:
        """See Framing."""
        if not self._output:
            return b""
        output = b"".join(self._output)
        self._output.clear()
        return output

    def end(self) -> bytes:
        """See Framing."""
        if self._socket.state is not ConnectionState.OPEN:
            return b""
        return self._socket.send(CloseConnection(CloseReason.GOING_AWAY))

    def _shake_hands(self, head: bytearray) -> bytes:
        """Answer the HTTP request when it is complete; return what follows it."""
        end = head.find(_END_OF_HANDSHAKE)
        size = len(head) if end < 0 else end
        if size > _MAX_HANDSHAKE_BYTES or not _GET.startswith(head[: len(_GET)]):
            self.broken = True
            return b""
        if end < 0:
            self._handshake = head
            return b""
        self._handshake = None
        rest = bytes(head[end + len(_END_OF_HANDSHAKE) :])
        try:
            self._socket.receive_data(bytes(head[: end + len(_END_OF_HANDSHAKE)]))
            request = next(iter(self._socket.events()), None)
        except RemoteProtocolError as error:
            hint = error.event_hint
            self._reject(hint if isinstance(hint, RejectConnection) else RejectConnection())
            return b""
        if isinstance(request, Request):
            self._answer(request)
        else:
            self.broken = True
        return rest

    def _answer(self, request: Request) -> None:
        headers = {name.lower(): value for name, value in request.extra_headers}
        origin = headers.get(b"origin", b"").decode("latin-1")
        if _SUBPROTOCOL not in request.subprotocols:
            self._reject(RejectConnection(status_code=400))  # RFC 7118 4.1
        elif origin and self._origins and origin not in self._origins:
            self._reject(RejectConnection(status_code=403))
        else:
            # No extension is offered: compression would let a small frame become a large one.
            self._output.append(self._socket.send(AcceptConnection(_SUBPROTOCOL)))
            self._between = True

    def _reject(self, rejection: RejectConnection) -> None:
        """Turn away what speaks HTTP, but comes for something else."""
        self.ended = True
        self._output.append(self._socket.send(rejection))

    def _take(self, event: Event, frames: list[Frame]) -> None:
        if isinstance(event, TextMessage | BytesMessage):
            self._take_part(event, frames)
        elif isinstance(event, Ping):
            self._output.append(self._socket.send(event.response()))
            self._between = not self._in_message
        elif isinstance(event, CloseConnection):
            # What cannot be read comes as a closure too, one that the peer did not send.
            self.ended = self._socket.state is not ConnectionState.OPEN
            self.broken = not self.ended
            if self._socket.state is not ConnectionState.CLOSED:
                self._output.append(self._socket.send(event.response()))
        else:
            self._between = not self._in_message

    def _take_part(self, event: TextMessage | BytesMessage, frames: list[Frame]) -> None:
        data = event.data
        self._message += data.encode() if isinstance(data, str) else data
        self._in_message = not event.message_finished
        self._between = event.message_finished
        if len(self._message) > MAX_MESSAGE_BYTES:
            self.broken = True
            self._output.append(self._socket.send(CloseConnection(CloseReason.MESSAGE_TOO_BIG)))
        elif event.message_finished:
            message = bytes(self._message)
            self._message.clear()
            self._read(message, frames)

    @staticmethod
    def _read(message: bytes, frames: list[Frame]) -> None:
        if not message.strip(b"\r\n"):
            if message == _PING:
                frames.append(KeepAlive.PING)
            return
        try:
            frames.append(parse_message(message))
        except SipSyntaxError as error:
            frames.append(error)
