"""Offer/answer of unprotected audio: what is agreed, what is refused, what no bytes may raise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cti.sdp import (
    Codec,
    Direction,
    LocalAudio,
    Negotiated,
    answer,
    build_offer,
    negotiated,
    parse_sdp,
)
from domain.failures import Code, PlatformError

OURS = "127.0.0.1"


def sdp(*lines: str) -> bytes:
    return "\r\n".join(["v=0", "o=- 1 1 IN IP4 127.0.0.9", "s=-", *lines, ""]).encode()


def phone_offer(*attributes: str, formats: str = "8 0 101", address: str = "127.0.0.9") -> bytes:
    return sdp(
        f"c=IN IP4 {address}",
        "t=0 0",
        f"m=audio 4000 RTP/AVP {formats}",
        "a=rtpmap:101 telephone-event/8000",
        "a=fmtp:101 0-15",
        *attributes,
    )


PLAIN = Negotiated(
    "127.0.0.9",
    4000,
    Codec.PCMA,
    payload_type=8,
    receive_payload_type=8,
    digit_payload_type=101,
    receive_digit_payload_type=101,
)


def reply(
    offer: bytes, *, before: Negotiated | None = None, **options: Any
) -> tuple[str, Negotiated]:
    local = LocalAudio(OURS, 20000, **options)
    body, agreed = answer(parse_sdp(offer), local, session_id=7, version=1, before=before)
    parse_sdp(body)
    return body.decode(), agreed


def refusal(offer: bytes) -> Code:
    with pytest.raises(PlatformError) as caught:
        reply(offer)
    return caught.value.code


def test_an_offer_is_answered_with_its_first_codec_and_keys() -> None:
    body, agreed = reply(phone_offer())
    assert agreed == PLAIN
    assert "m=audio 20000 RTP/AVP 8 101\r\n" in body
    assert "a=fmtp:101 0-15\r\n" in body
    assert "a=sendrecv\r\n" in body


@pytest.mark.parametrize(
    ("formats", "options", "expected"),
    [
        ("0 8 101", {}, Codec.PCMU),
        ("18 8 101", {}, Codec.PCMA),
        ("0 8 101", {"own_order": True}, Codec.PCMA),
        ("8 0 101", {"codecs": (Codec.PCMU,)}, Codec.PCMU),
    ],
)
def test_the_offers_order_counts_unless_ours_is_asked_for(
    formats: str, options: dict[str, Any], expected: Codec
) -> None:
    assert reply(phone_offer(formats=formats), **options)[1].codec is expected


def test_flash_is_answered_to_those_who_offer_it() -> None:
    body, agreed = reply(
        sdp(
            "c=IN IP4 127.0.0.9",
            "t=0 0",
            "m=audio 4000 RTP/AVP 0 96 97",
            "a=rtpmap:96 telephone-event/48000",
            "a=rtpmap:97 telephone-event/8000",
            "a=fmtp:97 0-16,66",
        )
    )
    assert agreed.digit_payload_type == 97
    assert "a=fmtp:97 0-16\r\n" in body


def test_a_phone_without_keys_gets_none() -> None:
    body, agreed = reply(sdp("c=IN IP4 127.0.0.9", "t=0 0", "m=audio 4000 RTP/AVP 8"))
    assert agreed.digit_payload_type is None
    assert "telephone-event" not in body


def test_other_streams_are_refused_in_their_place() -> None:
    body, agreed = reply(
        sdp(
            "c=IN IP4 127.0.0.9",
            "t=3034423619 0",
            "m=video 6000 RTP/AVP 31 32",
            "m=audio 4000 RTP/SAVP 8",
            "m=audio 4002 RTP/AVP 8",
            "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
        )
    )
    streams = parse_sdp(body.encode()).streams
    assert [(each.kind, each.port) for each in streams] == [
        ("video", 0),
        ("audio", 0),
        ("audio", 20000),
        ("application", 0),
    ]
    assert streams[0].formats == ("31", "32")
    assert streams[1].protocol == "RTP/SAVP"
    assert agreed.remote_port == 4002
    assert "t=3034423619 0\r\n" in body


@pytest.mark.parametrize(
    ("theirs", "ours", "send", "receive"),
    [
        ("sendrecv", "sendrecv", True, True),
        ("sendonly", "recvonly", False, True),
        ("recvonly", "sendonly", True, False),
        ("inactive", "inactive", False, False),
    ],
)
def test_directions_are_answered_in_kind(theirs: str, ours: str, send: bool, receive: bool) -> None:
    body, agreed = reply(phone_offer(f"a={theirs}"))
    assert f"a={ours}\r\n" in body
    assert (agreed.send, agreed.receive) == (send, receive)


def test_our_own_wish_narrows_the_direction() -> None:
    body, agreed = reply(phone_offer(), direction=Direction.SENDONLY)
    assert "a=sendonly\r\n" in body
    assert (agreed.send, agreed.receive) == (True, False)


def test_hold_of_rfc_2543_stops_our_sending() -> None:
    body, agreed = reply(phone_offer(address="0.0.0.0"))
    assert not agreed.send
    assert "a=recvonly\r\n" in body


def test_a_session_direction_covers_streams_without_their_own() -> None:
    offer = sdp("c=IN IP4 127.0.0.9", "t=0 0", "a=sendonly", "m=audio 4000 RTP/AVP 8")
    assert not reply(offer)[1].send


def test_a_streams_own_address_wins() -> None:
    offer = sdp("c=IN IP4 127.0.0.1", "t=0 0", "m=audio 4000 RTP/AVP 8", "c=IN IP4 127.0.0.5")
    assert reply(offer)[1].remote_ip == "127.0.0.5"


def test_ipv6() -> None:
    offer = sdp("c=IN IP6 ::1", "t=0 0", "m=audio 4000 RTP/AVP 8")
    body, agreed = answer(parse_sdp(offer), LocalAudio("::1", 20000), session_id=1, version=1)
    assert agreed.remote_ip == "::1"
    assert b"c=IN IP6 ::1\r\n" in body
    assert refusal(offer) is Code.NO_COMMON_CODEC


@pytest.mark.parametrize(
    ("asked", "used_ms"),
    [
        (["a=ptime:30"], 30),
        (["a=ptime:25"], 20),
        (["a=ptime:40", "a=maxptime:20"], 20),
        (["a=ptime:20.0"], 20),
        ([], 20),
    ],
)
def test_packets_are_as_long_as_the_peer_likes(asked: list[str], used_ms: int) -> None:
    assert reply(phone_offer(*asked))[1].packet_time_ms == used_ms


@pytest.mark.parametrize(
    "lines",
    [
        ["t=0 0"],
        ["c=IN IP4 127.0.0.9", "t=0 0", "m=audio 0 RTP/AVP 8"],
        ["c=IN IP4 127.0.0.9", "t=0 0", "m=audio 4000 RTP/AVP 18"],
        ["c=IN IP4 127.0.0.9", "t=0 0", "m=audio 4000 RTP/AVP 8", "a=rtpmap:8 G729/8000"],
    ],
)
def test_no_common_codec(lines: list[str]) -> None:
    assert refusal(sdp(*lines)) is Code.NO_COMMON_CODEC


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"v=0\r\n",
        b"v=1\r\no=- 1 1 IN IP4 1.1.1.1\r\n",
        b"hello",
        sdp("c=IN IP4 phone.example", "t=0 0", "m=audio 4000 RTP/AVP 8"),
        sdp("c=IN IP4 224.2.1.1/127", "t=0 0", "m=audio 4000 RTP/AVP 8"),
        sdp("c=IN IP4 239.0.0.1", "t=0 0", "m=audio 4000 RTP/AVP 8"),
        sdp("c=IN IP4 127.0.0.1", "t=0 0", "m=audio 70000 RTP/AVP 8"),
        sdp("c=IN IP4 127.0.0.1", "t=0 0", "m=audio x RTP/AVP 8"),
        sdp("c=IN IP4 127.0.0.1", "t=0 0", "m=audio \u0663 RTP/AVP 8"),
        sdp("c=IN IP4 127.0.0.1", "t=0 0", "m=audio 4000 RTP/AVP"),
        sdp("c=IN IP4 127.0.0.1", "t=0 0\x85", "m=audio 4000 RTP/AVP 8", "a=rtpmap:x PCMA/8000"),
        sdp("t=0 0", "m=audio 4000 RTP/AVP 8"),
        sdp("c=IN IP4 127.0.0.1", *["m=audio 4000 RTP/AVP 8"] * 17),
        sdp(*["a=x"] * 600),
        b"v=0\n" * 20_000,
    ],
)
def test_malformed(body: bytes) -> None:
    assert refusal(body) is Code.SDP_MALFORMED


def test_our_offer_and_its_answer() -> None:
    offer = build_offer(LocalAudio(OURS, 20000), session_id=3, version=2)
    assert offer.startswith(b"v=0\r\no=- 3 2 IN IP4 127.0.0.1\r\n")
    assert b"a=fmtp:101 0-16\r\n" in offer
    body, theirs = answer(parse_sdp(offer), LocalAudio("127.0.0.9", 4000), session_id=1, version=1)
    ours = negotiated(parse_sdp(offer), parse_sdp(body))
    assert theirs == replace(PLAIN, remote_ip=OURS, remote_port=20000)
    assert ours == PLAIN


def test_our_hold_and_its_answer() -> None:
    offer = parse_sdp(
        build_offer(LocalAudio(OURS, 20000, direction=Direction.SENDONLY), session_id=3, version=3)
    )
    body, theirs = answer(offer, LocalAudio("127.0.0.9", 4000), session_id=1, version=2)
    assert (theirs.send, theirs.receive) == (False, True)
    ours = negotiated(offer, parse_sdp(body))
    assert (ours.send, ours.receive) == (True, False)


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        (["m=audio 0 RTP/AVP 8"], Code.NO_COMMON_CODEC),
        (["m=audio 4000 RTP/AVP 18"], Code.NO_COMMON_CODEC),
        (["m=audio 4000 RTP/AVP 8", "m=video 0 RTP/AVP 31"], Code.SDP_MALFORMED),
        ([], Code.SDP_MALFORMED),
    ],
)
def test_answers_that_will_not_do(lines: list[str], code: Code) -> None:
    offer = parse_sdp(build_offer(LocalAudio(OURS, 20000), session_id=3, version=2))
    with pytest.raises(PlatformError) as caught:
        negotiated(offer, parse_sdp(sdp("c=IN IP4 127.0.0.9", "t=0 0", *lines)))
    assert caught.value.code is code
