"""Hold in each of its forms, and the session descriptions that follow one another (RFC 3264 8)."""

from __future__ import annotations

import pytest

from cti.media_policy import MediaAddress, PortPlan
from cti.rtp_port import MediaRouter, RtpPort
from cti.sdp import Codec, LocalAudio, answer, build_offer, negotiated, parse_sdp
from domain.failures import Code, PlatformError
from tests.fakes.media import FakeMedia
from tests.sdp.test_sdp import OURS, PLAIN, phone_offer, reply, sdp

AUDIO = "m=audio 4000 RTP/AVP 8"


def offer(*lines: str, address: str = "IN IP4 127.0.0.9") -> bytes:
    return sdp(f"c={address}", "t=0 0", *lines)


# What the far end writes, what we answer, and whether we still send and receive.
HOLDS = {
    "sendonly": (offer(AUDIO, "a=sendonly"), "a=recvonly", False, True),
    "sendonly of the session": (offer("a=sendonly", AUDIO), "a=recvonly", False, True),
    "the stream's direction wins": (
        offer("a=inactive", AUDIO, "a=sendonly"), "a=recvonly", False, True,
    ),
    "inactive": (offer(AUDIO, "a=inactive"), "a=inactive", False, False),
    "inactive of the session": (offer("a=inactive", AUDIO), "a=inactive", False, False),
    "zeros of RFC 2543": (offer(AUDIO, address="IN IP4 0.0.0.0"), "a=recvonly", False, True),
    "zeros of the stream": (offer(AUDIO, "c=IN IP4 0.0.0.0"), "a=recvonly", False, True),
    "zeros and sendonly": (
        offer(AUDIO, "a=sendonly", address="IN IP4 0.0.0.0"), "a=recvonly", False, True,
    ),
    "zeros and inactive": (
        offer(AUDIO, "a=inactive", address="IN IP4 0.0.0.0"), "a=inactive", False, False,
    ),
    "port 0": (offer("m=audio 0 RTP/AVP 8 101"), "m=audio 0 RTP/AVP 8 101", False, False),
    "port 0 beside video": (
        offer("m=video 6000 RTP/AVP 31", "m=audio 0 RTP/AVP 8"), "m=audio 0 RTP/AVP 8",
        False, False,
    ),
    "no hold: recvonly": (offer(AUDIO, "a=recvonly"), "a=sendonly", True, False),
    "resumed": (offer(AUDIO, "a=sendrecv"), "a=sendrecv", True, True),
    "resumed without a word": (offer(AUDIO), "a=sendrecv", True, True),
}  # fmt: skip


@pytest.mark.parametrize("name", HOLDS)
def test_hold(name: str) -> None:
    body, line, send, receive = HOLDS[name]
    text, agreed = reply(body, before=PLAIN)
    assert f"{line}\r\n" in text
    assert (agreed.send, agreed.receive) == (send, receive)
    assert agreed.is_held is not send


@pytest.mark.parametrize("zeros", ["::", "0::0", "0:0:0:0:0:0:0:0"])
def test_hold_by_zeros_of_ipv6(zeros: str) -> None:
    parsed = parse_sdp(offer(AUDIO, address=f"IN IP6 {zeros}"))
    body, agreed = answer(parsed, LocalAudio("::1", 20000), session_id=1, version=1, before=PLAIN)
    assert b"a=recvonly\r\n" in body
    assert agreed.is_held


def test_a_call_does_not_begin_with_port_0() -> None:
    with pytest.raises(PlatformError) as caught:
        reply(offer("m=audio 0 RTP/AVP 8"))
    assert caught.value.code is Code.NO_COMMON_CODEC


def test_many_payload_types_and_lines_of_others() -> None:
    text, agreed = reply(
        sdp(
            "c=IN IP4 127.0.0.9",
            "t=0 0",
            "a=group:BUNDLE 0 1",
            "a=ice-lite",
            "m=audio 4000 RTP/AVP 112 113 96 9 18 4 3 98 99 8 0 101 13",
            "a=rtpmap:112 opus/48000/2",
            "a=rtpmap:96 AMR-WB/16000",
            "a=rtpmap:101 telephone-event/8000",
            "a=rtcp-mux",
            "a=rtcp:4001 IN IP4 127.0.0.9",
            "a=mid:0",
            "a=candidate:1 1 UDP 1 127.0.0.9 4000 typ host",
            "m=video 6000 RTP/AVP 31",
            "a=sendonly",
            "m=audio 4002 RTP/AVP 8",
        )
    )
    assert (agreed.codec, agreed.digit_payload_type) == (Codec.PCMA, 101)
    assert agreed.comfort_noise_payload_type == 13
    assert (agreed.rtcp_port, agreed.rtcp_mux) == (0, True)
    assert [line for line in text.split("\r\n") if line[:2] == "m="] == [
        "m=audio 20000 RTP/AVP 8 13 101",
        "m=video 0 RTP/AVP 31",
        "m=audio 0 RTP/AVP 8",
    ]
    for ours in ("group", "mid", "candidate"):
        assert ours not in text


def test_a_session_keeps_its_lines() -> None:
    former = parse_sdp(offer("m=video 0 RTP/AVP 31", AUDIO, "m=audio 0 RTP/AVP 18")).streams
    body = build_offer(LocalAudio(OURS, 20000), session_id=1, version=2, former=former)
    assert [each.port for each in parse_sdp(body).streams] == [0, 20000, 0]
    answered = offer("m=video 0 RTP/AVP 31", AUDIO, "m=audio 0 RTP/AVP 18")
    assert negotiated(parse_sdp(body), parse_sdp(answered)).remote_port == 4000
    with pytest.raises(PlatformError) as caught:
        negotiated(parse_sdp(body), parse_sdp(offer(AUDIO)))
    assert caught.value.code is Code.SDP_MALFORMED


def version(body: bytes) -> int:
    return int(parse_sdp(body).version)


def test_a_port_numbers_what_changes() -> None:
    port = RtpPort(MediaRouter(FakeMedia()), PortPlan(MediaAddress(OURS)), 60_000)
    first = port.answer(phone_offer())
    assert port.answer(phone_offer()) == first  # a refresh changes nothing
    held = port.answer(phone_offer("a=sendonly"))
    assert port.is_held
    assert version(held) == version(first) + 1
    port.take_answer(phone_offer())  # the answer to a refresh that repeats our last description
    again = port.answer(phone_offer())
    assert not port.is_held
    assert version(again) == version(held) + 1
    assert again != first
    ours = port.offer()
    assert version(ours) == version(again) + 1
    assert port.offer() == ours
    port.take_answer(phone_offer("a=inactive"))
    assert port.is_held


def test_a_port_keeps_the_lines_of_its_session() -> None:
    port = RtpPort(MediaRouter(FakeMedia()), PortPlan(MediaAddress(OURS)), 60_000)
    port.answer(offer("m=video 6000 RTP/AVP 31", AUDIO))
    ours = port.offer()
    assert [(each.kind, each.port > 0) for each in parse_sdp(ours).streams] == [
        ("video", False),
        ("audio", True),
    ]
    port.take_answer(offer("m=video 0 RTP/AVP 31", AUDIO))
    port.answer(offer("m=video 0 RTP/AVP 31", "m=audio 0 RTP/AVP 8"))
    assert port.is_held
    port.connect()
    port.answer(offer("m=video 0 RTP/AVP 31", AUDIO))
    assert not port.is_held
