"""Which codec is agreed on, under which numbers, with which keys and noise."""

from __future__ import annotations

import pytest

from cti.sdp import Codec, LocalAudio, Negotiated, answer, build_offer, negotiated, parse_sdp
from domain.failures import Code, PlatformError
from tests.sdp.test_sdp import OURS, sdp
from tests.sdp.test_wire import EVERY_CODEC


def stream(formats: str, *attributes: str) -> bytes:
    return sdp("c=IN IP4 127.0.0.9", "t=0 0", f"m=audio 4000 RTP/AVP {formats}", *attributes)


def reply(offer: bytes, *, own_order: bool = False) -> tuple[str, Negotiated]:
    local = LocalAudio(OURS, 20000, EVERY_CODEC, own_order)
    body, agreed = answer(parse_sdp(offer), local, session_id=1, version=1)
    return body.decode(), agreed


OPUS = "a=rtpmap:96 opus/48000/2"


@pytest.mark.parametrize(
    ("offer", "codec", "payload_type"),
    [
        (stream("18 8"), Codec.G729, 18),
        (stream("9 8"), Codec.G722, 9),
        (stream("9 8", "a=rtpmap:9 G722/16000"), Codec.G722, 9),
        (stream("97", "a=rtpmap:97 G729/8000"), Codec.G729, 97),
        (stream("97 8", "a=rtpmap:97 PCMU/8000/1"), Codec.PCMU, 97),
        (stream("96 8", OPUS), Codec.OPUS, 96),
        (stream("96 8", "a=rtpmap:96 OPUS/48000/2"), Codec.OPUS, 96),
        # Opus is always written with two channels (RFC 7587 7), others have one.
        (stream("96 8", "a=rtpmap:96 opus/48000"), Codec.PCMA, 8),
        (stream("97 8", "a=rtpmap:97 PCMU/16000"), Codec.PCMA, 8),
        (stream("97 8", "a=rtpmap:97 PCMU/8000/2"), Codec.PCMA, 8),
        (stream("97 8", "a=rtpmap:97 PCMU/x"), Codec.PCMA, 8),
        (stream("97 200 -1 x 8"), Codec.PCMA, 8),
        (stream("18 8", "a=rtpmap:18 G723/8000"), Codec.PCMA, 8),
    ],
)
def test_a_codec_is_known_by_number_or_name(offer: bytes, codec: Codec, payload_type: int) -> None:
    body, agreed = reply(offer)
    assert (agreed.codec, agreed.payload_type) == (codec, payload_type)
    assert agreed.receive_payload_type == payload_type
    assert f"m=audio 20000 RTP/AVP {payload_type}\r\n" in body


def test_our_order_counts_where_it_is_asked_for() -> None:
    assert reply(stream("96 9 0 8", OPUS), own_order=True)[1].codec is Codec.PCMA
    assert reply(stream("18 96 9", OPUS), own_order=True)[1].codec is Codec.G722


def test_what_is_said_of_codecs() -> None:
    body, _ = reply(stream("18", "a=fmtp:18 annexb=yes"))
    assert "a=rtpmap:18 G729/8000\r\na=fmtp:18 annexb=no\r\n" in body
    body, _ = reply(stream("96", OPUS, "a=fmtp:96 stereo=1;maxaveragebitrate=30000"))
    assert "a=rtpmap:96 opus/48000/2\r\na=fmtp:96 useinbandfec=1\r\n" in body


@pytest.mark.parametrize(
    ("attributes", "digits"),
    [
        (["a=rtpmap:99 telephone-event/48000", "a=rtpmap:101 telephone-event/8000"], 99),
        (["a=rtpmap:101 telephone-event/8000", "a=rtpmap:99 telephone-event/48000"], 99),
        (["a=rtpmap:101 telephone-event/8000", "a=rtpmap:99 telephone-event/16000"], 101),
        (["a=rtpmap:101 telephone-event"], None),
        (["a=rtpmap:102 telephone-event/8000"], None),  # no format of the stream
    ],
)
def test_keys_are_those_of_the_codecs_clock(attributes: list[str], digits: int | None) -> None:
    body, agreed = reply(stream("96 99 101", OPUS, *attributes))
    assert agreed.codec is Codec.OPUS
    assert agreed.digit_payload_type == digits
    assert body.count("telephone-event") == (digits is not None)


def test_noise_goes_with_codecs_of_8000_hz() -> None:
    body, agreed = reply(stream("8 13 96", OPUS))
    assert agreed.comfort_noise_payload_type == 13
    assert "m=audio 20000 RTP/AVP 8 13\r\n" in body
    assert "a=rtpmap:13 CN/8000\r\n" in body
    assert reply(stream("96 13", OPUS))[1].comfort_noise_payload_type is None


def test_our_offer_names_every_codec_and_clock() -> None:
    body = build_offer(LocalAudio(OURS, 20000, EVERY_CODEC), session_id=1, version=1).decode()
    for line in (
        "m=audio 20000 RTP/AVP 8 0 9 111 18 101 110",
        "a=rtpmap:111 opus/48000/2",
        "a=rtpmap:101 telephone-event/8000",
        "a=rtpmap:110 telephone-event/48000",
        "a=maxptime:60",
    ):
        assert f"{line}\r\n" in body


def test_each_side_sends_with_the_numbers_of_the_other() -> None:
    offer = build_offer(LocalAudio(OURS, 20000, EVERY_CODEC), session_id=1, version=1)
    body = stream(
        "96 97",
        OPUS,
        "a=rtpmap:97 telephone-event/48000",
        "a=ptime:40",
        "a=rtcp:5003 IN IP4 127.0.0.9",
    )
    agreed = negotiated(parse_sdp(offer), parse_sdp(body))
    assert (agreed.payload_type, agreed.receive_payload_type) == (96, 111)
    assert (agreed.digit_payload_type, agreed.receive_digit_payload_type) == (97, 110)
    assert (agreed.packet_time_ms, agreed.rtcp_port, agreed.rtcp_mux) == (40, 5003, False)


def test_numbers_keep_their_meaning_within_a_session() -> None:
    former = parse_sdp(
        stream(
            "111 98 8 110",
            "a=rtpmap:111 telephone-event/8000",
            "a=rtpmap:98 opus/48000/2",
            "a=rtpmap:110 AMR-WB/16000",
        )
    ).streams
    local = LocalAudio(OURS, 20000, (Codec.OPUS, Codec.PCMA))
    offer = build_offer(local, session_id=1, version=2, former=former).decode()
    assert "m=audio 20000 RTP/AVP 98 8 111 96\r\n" in offer
    assert "a=rtpmap:111 telephone-event/8000\r\n" in offer
    assert "a=rtpmap:96 telephone-event/48000\r\n" in offer


@pytest.mark.parametrize(
    "port",
    ["", "x IN IP4 127.0.0.9", "99999", "4001"],
)
def test_the_usual_port_of_rtcp(port: str) -> None:
    assert reply(stream("8", f"a=rtcp:{port}"))[1].rtcp_port == 0


def test_an_answer_with_another_codec_is_none() -> None:
    offer = build_offer(LocalAudio(OURS, 20000), session_id=1, version=1)
    with pytest.raises(PlatformError) as caught:
        negotiated(parse_sdp(offer), parse_sdp(stream("96", OPUS)))
    assert caught.value.code is Code.NO_COMMON_CODEC
