"""Messages out of a byte stream."""

from cti.sip.messages.message import MAX_MESSAGE_BYTES, Malformed, Request, SipSyntaxError
from cti.sip.transports.framing import Frame, KeepAlive, StreamFramer
from tests.sip_core.messages import request


def message(body: bytes = b"", call_id: str = "1") -> bytes:
    built = request("INFO", transport="TCP", call_id=call_id)
    built.body = body
    return built.to_bytes()


def only(frames: list[Frame]) -> Frame:
    assert len(frames) == 1
    return frames[0]


def test_several_messages_in_one_piece_and_one_in_many() -> None:
    framer = StreamFramer()
    frames = framer.feed(message(b"one", "1") + message(b"two", "2") + message(b"three", "3")[:-2])
    assert [f.body for f in frames if isinstance(f, Request)] == [b"one", b"two"]
    assert not framer.idle
    assert [f.body for f in framer.feed(b"ee") if isinstance(f, Request)] == [b"three"]
    assert framer.idle
    bodies = []
    for byte in message(b"drip"):
        bodies += [f.body for f in framer.feed(bytes([byte])) if isinstance(f, Request)]
    assert bodies == [b"drip"]


def test_keep_alives() -> None:
    framer = StreamFramer()
    assert framer.feed(b"\r\n\r\n") == [KeepAlive.PING]
    assert framer.feed(b"\r\n") == []
    assert framer.idle
    assert framer.feed(b"\r\n") == [KeepAlive.PING]
    assert framer.feed(b"\r\n") == []
    assert isinstance(only(framer.feed(message())), Request)
    assert framer.idle


def test_a_broken_header_does_not_end_the_stream() -> None:
    framer = StreamFramer()
    broken = message(b"skipped").replace(b"CSeq: 1 INFO", b"CSeq: 1 BYE")
    error, following = framer.feed(broken + message(b"good"))
    assert isinstance(error, SipSyntaxError)
    assert error.partial is not None
    assert isinstance(following, Request)
    assert following.body == b"good"
    assert not framer.broken


def test_without_content_length_the_stream_ends() -> None:
    framer = StreamFramer()
    error = only(framer.feed(message().replace(b"Content-Length: 0\r\n", b"") + message()))
    assert isinstance(error, SipSyntaxError)
    assert (error.kind, error.status) == (Malformed.CONTENT_LENGTH, 400)
    assert error.partial is not None
    assert framer.broken
    assert framer.feed(message()) == []


def test_a_body_too_large_is_refused_before_it_comes() -> None:
    framer = StreamFramer()
    error = only(framer.feed(message().replace(b"Content-Length: 0", b"Content-Length: 9999999")))
    assert isinstance(error, SipSyntaxError)
    assert (error.kind, error.status) == (Malformed.TOO_LARGE, 513)
    assert framer.broken


def test_endless_headers_are_refused() -> None:
    framer = StreamFramer()
    frames: list[Frame] = []
    fed = 0
    while not framer.broken:
        frames += framer.feed(b"X-Endless: headers\r\n" * 50)
        fed += 1000
        assert fed < 2 * MAX_MESSAGE_BYTES
    error = only(frames)
    assert isinstance(error, SipSyntaxError)
    assert error.kind is Malformed.TOO_LARGE
