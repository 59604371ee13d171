"""The parser against what nobody wrote on purpose."""

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from cti.sip.framing import StreamFramer
from cti.sip.headers import canonical_name
from cti.sip.message import (
    MAX_MESSAGE_BYTES,
    Request,
    Response,
    SipSyntaxError,
    parse_message,
    response_to,
)
from cti.sip.uri import NameAddr, SipUri, Via
from tests.sip_core.messages import request

SAMPLES = [file.read_bytes() for file in (Path(__file__).parent / "wire").glob("*.sip")]

tokens = st.text("abcXYZ019-.!%*_+`'~", min_size=1, max_size=12)
values = st.text(
    st.characters(exclude_categories=("Cs", "Cc", "Z"), include_characters=" "), max_size=40
).map(str.strip)
own_headers = st.lists(
    st.tuples(tokens.map(lambda name: f"X-{name}"), values), max_size=6
)  # names the parser gives no meaning to


def use(message: Request | Response) -> None:
    """Ask for all that the parser promises cannot fail."""
    _ = message.call_id, message.cseq, message.from_, message.to, message.top_via
    _ = message.from_.uri, message.to.uri, repr(message)
    message.to_bytes()
    if isinstance(message, Request):
        _ = message.target
        response_to(message, 200).to_bytes()


def parse(data: bytes) -> None:
    try:
        use(parse_message(data))
    except SipSyntaxError as error:
        if error.partial is not None:
            response_to(error.partial, error.status, error.reason).to_bytes()


@given(st.binary(max_size=400))
def test_any_bytes(data: bytes) -> None:
    parse(data)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(SAMPLES)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data)))
        match draw(st.integers(0, 3)):
            case 0:
                data[at:at] = draw(st.binary(max_size=6))
            case 1:
                del data[at : at + draw(st.integers(1, 40))]
            case 2:
                data[at : at + 1] = draw(
                    st.sampled_from([b"\r", b"\n", b"\0", b'"', b"<", b">", b";", b",", b"\\"])
                )
            case _:
                other = draw(st.sampled_from(SAMPLES))
                data[at:at] = other[: draw(st.integers(0, len(other)))]
    return bytes(data)


@given(mutated())
@settings(max_examples=400)
def test_mutated_messages(data: bytes) -> None:
    parse(data)


@given(st.text(max_size=60))
def test_any_text_as_value(text: str) -> None:
    for kind in (SipUri, NameAddr, Via):
        try:
            str(kind.parse(text))
        except SipSyntaxError:
            continue


@given(
    method=tokens,
    headers=own_headers,
    body=st.binary(max_size=60),
    number=st.integers(0, 2**31 - 1),
)
def test_a_written_request_reads_the_same(
    method: str, headers: list[tuple[str, str]], body: bytes, number: int
) -> None:
    message = request(method, number=number)
    for name, value in headers:
        message.headers.add(name, value)
    message.body = body
    again = parse_message(message.to_bytes())
    again.headers.remove("Content-Length")
    assert again == message


@given(
    status=st.integers(100, 699),
    reason=values,
    headers=own_headers,
    body=st.binary(max_size=60),
)
def test_a_written_response_reads_the_same(
    status: int, reason: str, headers: list[tuple[str, str]], body: bytes
) -> None:
    message = response_to(request("INVITE"), status, reason, headers=headers, body=body)
    again = parse_message(message.to_bytes())
    again.headers.remove("Content-Length")
    assert again == message


@given(tokens)
def test_canonical_names_are_stable(name: str) -> None:
    assert canonical_name(canonical_name(name)) == canonical_name(name)


@given(st.lists(mutated() | st.sampled_from(SAMPLES) | st.just(b"\r\n\r\n"), max_size=4), st.data())
@settings(max_examples=200)
def test_a_stream_in_any_pieces(messages: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(messages)
    framer = StreamFramer()
    whole = StreamFramer()
    expected = [repr(frame) for frame in whole.feed(stream)]
    frames: list[str] = []
    at = 0
    while at < len(stream):
        step = data.draw(st.integers(1, max(1, len(stream) - at)))
        frames += [repr(frame) for frame in framer.feed(stream[at : at + step])]
        at += step
    # Pings in a row count as one when they come in one piece.
    assert [f for f in frames if "PING" not in f] == [f for f in expected if "PING" not in f]
    assert framer.broken == whole.broken


def test_hostile_sizes_are_cheap() -> None:
    for filler in (b'"', b"<", b",", b";", b'""', b"<>,", b"\\", b"%"):
        text = filler * (8000 // len(filler))
        message = request().to_bytes().replace(b"<sip:95598@grid.example>", text)
        parse(message)
        parse(request().to_bytes().replace(b"\r\n\r\n", b"\r\nContact: " + text + b"\r\n\r\n"))
    parse(b"\r\n" * (MAX_MESSAGE_BYTES // 2))
    parse(b"A" * (MAX_MESSAGE_BYTES + 1))
