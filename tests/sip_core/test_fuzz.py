"""The parser against what nobody wrote on purpose."""

import itertools
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cti.sip.messages.headers import canonical_name
from cti.sip.messages.message import (
    MAX_MESSAGE_BYTES,
    Request,
    Response,
    SipSyntaxError,
    parse_message,
    response_to,
)
from cti.sip.messages.syntax import split_outside
from cti.sip.messages.uri import NameAddr, SipUri, Via
from cti.sip.transports.framing import StreamFramer
from loadtest.fuzz_sip import fuzz
from tests.sip_core.messages import request

SAMPLES = [file.read_bytes() for file in (Path(__file__).parent / "wire").rglob("*.sip")]

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
@settings(max_examples=400, deadline=None)
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


@given(
    st.lists(mutated() | st.sampled_from(SAMPLES) | st.just(b"\r\n\r\n"), max_size=4),
    st.lists(st.integers(0, 5_000), max_size=40),
)
@settings(max_examples=200, deadline=None)
def test_a_stream_in_any_pieces(messages: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(messages)
    framer = StreamFramer()
    whole = StreamFramer()
    expected = [repr(frame) for frame in whole.feed(stream)]
    frames: list[str] = []
    for start, stop in itertools.pairwise([0, *sorted(set(cuts) - {0}), max(len(stream), 5_001)]):
        frames += [repr(frame) for frame in framer.feed(stream[start:stop])]
    # Pings in a row count as one when they come in one piece.
    assert [f for f in frames if "PING" not in f] == [f for f in expected if "PING" not in f]
    assert framer.broken == whole.broken


class Counted(str):
    """Text that counts the characters its searches look at."""

    looked_at = 0

    def find(self, *arguments: Any) -> int:
        found = super().find(*arguments)
        start = arguments[1] if len(arguments) > 1 else 0
        stop = arguments[2] if len(arguments) > 2 else len(self)
        Counted.looked_at += (found if found >= 0 else stop) - start + 1
        return found


def looks(split: Callable[[str], object], text: str) -> int:
    Counted.looked_at = 0
    with suppress(SipSyntaxError):
        split(Counted(text))
    return Counted.looked_at


HOSTILE = (
    '"', "<", ",", ";", '""', "<>", "<>,", '"",', "\\", '"\\"', '"\\\\', "<a", '"<">,', ';a="b"',
    "((", "x,",
)  # fmt: skip


@pytest.mark.parametrize("filler", HOSTILE)
@pytest.mark.parametrize("separator", [",", ";"])
def test_splitting_takes_time_in_proportion(filler: str, separator: str) -> None:
    half = looks(lambda text: split_outside(text, separator), filler * 1000)
    full = looks(lambda text: split_outside(text, separator), filler * 2000)
    assert full <= 2.2 * half + 10
    assert full <= 6 * len(filler) * 2000


@pytest.mark.parametrize("filler", HOSTILE)
def test_an_address_is_read_in_proportion(filler: str) -> None:
    half = looks(NameAddr.parse, f'"{filler * 1000}')
    full = looks(NameAddr.parse, f'"{filler * 2000}')
    assert full <= 2.2 * half + 10


def test_what_a_message_may_be_is_bounded() -> None:
    head = request().to_bytes().removesuffix(b"\r\n\r\n")
    for line in (b"X: 1", b"Via: SIP/2.0/UDP a", b" folded", b":", b"x", b"X: " + b"a" * 200):
        parse(b"\r\n".join([head, *[line] * 20_000])[:MAX_MESSAGE_BYTES] + b"\r\n\r\n")
        with pytest.raises(SipSyntaxError):
            parse_message(b"\r\n".join([head, *[line] * 300]) + b"\r\n\r\n")
    with pytest.raises(SipSyntaxError) as caught:
        parse_message(b"A" * (MAX_MESSAGE_BYTES + 1))
    assert caught.value.status == 513
    parse(b"\r\n" * (MAX_MESSAGE_BYTES // 2))


@given(st.lists(st.tuples(values, values), max_size=4), values, values)
def test_own_values_stay_in_their_line(
    headers: list[tuple[str, str]], display: str, user: str
) -> None:
    built = request()
    built.headers.set("From", str(NameAddr(SipUri(user=user, host="b"), display, {"tag": "t"})))
    for name, value in headers:
        with suppress(ValueError):
            built.headers.add(name, value)
    written = built.to_bytes()
    assert written.count(b"\r\n") == len(built.headers.lines()) + 3
    assert written.count(b"\n") == written.count(b"\r") == written.count(b"\r\n")


@pytest.mark.parametrize("seed", [1, 2])
def test_a_user_agent_among_spoilt_messages(seed: int) -> None:
    report = fuzz(10_000, seed)
    assert not report.findings, report.examples
    assert report.calls > 200
    assert report.malformed < report.messages / 2
    # All that is there after one part of the run is there after the next, and no more.
    assert report.objects[-1] < report.objects[2] * 1.05
