"""What holds for every offer of ours, and for every bytes of others."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cti.sdp import (
    Codec,
    Direction,
    LocalAudio,
    LocalSecrets,
    Negotiated,
    Protection,
    SrtpPolicy,
    Stream,
    answer,
    build_offer,
    negotiated,
    parse_sdp,
)
from domain.failures import Code, PlatformError
from tests.sdp.test_wire import EVERY_CODEC, FINGERPRINT, OUTCOMES, WIRE

_CORPUS = [(WIRE / f"{name}.sdp").read_bytes() for name in OUTCOMES]
_REFUSALS = {Code.SDP_MALFORMED, Code.NO_COMMON_CODEC, Code.NO_COMMON_PROTECTION}

_LINES = st.sampled_from(
    [
        "v=0",
        "o=- 1 1 IN IP4 1.2.3.4",
        "c=IN IP4 127.0.0.1",
        "c=IN IP6 ::1",
        "t=0 0",
        "m=audio 4000 RTP/AVP 8 0 101",
        "m=audio 4000/2 RTP/AVP 8",
        "m=audio 9 UDP/TLS/RTP/SAVPF 96 8 13 97",
        "m=audio 9 RTP/SAVP 18 9",
        "m=video 1 RTP/AVP 31\ra=evil",
        "a=rtpmap:101 telephone-event/8000",
        "a=rtpmap:97 telephone-event/48000",
        "a=rtpmap:96 opus/48000/2",
        "a=fmtp:101 0-16",
        "a=ptime:20",
        "a=sendonly",
        "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd",
        f"a=fingerprint:sha-256 {FINGERPRINT}",
        "a=setup:actpass",
        "a=ice-ufrag:abcd",
        "a=ice-pwd:abcdefghijklmnopqrstuvwx",
        "a=mid:0",
        "a=mid:\x00",
        "a=group:BUNDLE 0 1",
        "a=rtcp-mux",
        "a=rtcp:4001",
    ]
)
_CODECS = st.permutations(EVERY_CODEC).flatmap(
    lambda order: st.integers(1, len(order)).map(lambda count: tuple(order[:count]))
)
_POLICIES = st.sampled_from(SrtpPolicy)


def _local(codecs: tuple[Codec, ...], srtp: SrtpPolicy, way: Direction, port: int) -> LocalAudio:
    secrets = LocalSecrets(FINGERPRINT)
    return LocalAudio("127.0.0.1", port, codecs, direction=way, srtp=srtp, secrets=secrets)


@given(
    _CODECS,
    st.sampled_from(Protection),
    st.sampled_from(Direction),
    st.sampled_from(Direction),
    st.booleans(),
    st.sampled_from([(), *(parse_sdp(each).streams for each in _CORPUS)]),
)
def test_we_agree_with_ourselves(
    codecs: tuple[Codec, ...],
    protection: Protection,
    near_way: Direction,
    far_way: Direction,
    own_order: bool,
    former: list[Stream],
) -> None:
    near = _local(codecs, SrtpPolicy.OPTIONAL, near_way, 20000)
    far = LocalAudio(
        "127.0.0.1",
        30000,
        EVERY_CODEC[::-1],
        own_order,
        direction=far_way,
        srtp=SrtpPolicy.OPTIONAL,
        secrets=LocalSecrets(FINGERPRINT),
    )
    sent = build_offer(near, session_id=1, version=1, protection=protection, former=former)
    offer = parse_sdp(sent)
    body, theirs = answer(offer, far, session_id=2, version=1)
    ours = negotiated(offer, parse_sdp(body), SrtpPolicy.OPTIONAL)
    assert ours.codec is theirs.codec
    assert ours.codec in codecs
    if not own_order:
        assert ours.codec is codecs[0]
    assert ours.payload_type == theirs.receive_payload_type
    assert theirs.payload_type == ours.receive_payload_type
    assert (ours.digit_payload_type is None) == (theirs.digit_payload_type is None)
    assert ours.send == theirs.receive
    assert ours.receive == theirs.send
    assert ours.rtcp_mux == theirs.rtcp_mux
    assert (ours.remote_port, theirs.remote_port) == (30000, 20000)
    _same_keys(ours, theirs)
    wanted = Protection.SDES if protection is Protection.SDES_OR_NONE else protection
    assert ours.protection is wanted


def _same_keys(ours: Negotiated, theirs: Negotiated) -> None:
    if ours.srtp is not None:
        assert theirs.srtp is not None
        assert ours.srtp.suite is theirs.srtp.suite
        assert (ours.srtp.local, ours.srtp.remote) == (theirs.srtp.remote, theirs.srtp.local)
    if ours.dtls is not None:
        assert theirs.dtls is not None
        assert ours.dtls.active != theirs.dtls.active or not ours.dtls.active
        assert theirs.dtls.remote_ufrag == ours.dtls.local_ufrag
        assert ours.dtls.remote_ufrag == theirs.dtls.local_ufrag


@given(st.binary(max_size=300) | st.lists(_LINES | st.text(max_size=20), max_size=25), _POLICIES)
def test_no_bytes_raise_anything_but_a_platform_error(
    body: bytes | list[str], policy: SrtpPolicy
) -> None:
    if isinstance(body, list):
        body = "\r\n".join(["v=0", "o=- 1 1 IN IP4 1.2.3.4", *body]).encode()
    ours = _local(EVERY_CODEC, policy, Direction.SENDRECV, 20000)
    try:
        offer = parse_sdp(body)
        replied, agreed = answer(offer, ours, session_id=1, version=1)
    except PlatformError as error:
        if error.code not in _REFUSALS:
            raise
        return
    back = parse_sdp(replied)
    assert len(back.streams) == len(offer.streams)
    assert b"evil" not in replied.replace(b"\r\n", b"").partition(b"m=")[0]
    assert agreed.codec in EVERY_CODEC
    if policy is SrtpPolicy.REQUIRED:
        assert agreed.protection is not Protection.NONE
    again = build_offer(ours, session_id=1, version=2, former=offer.streams)
    assert len(parse_sdp(again).streams) == len(offer.streams)


@given(st.lists(_LINES, max_size=20), _POLICIES, st.sampled_from(Protection))
def test_no_answer_raises_anything_but_a_platform_error(
    lines: list[str], policy: SrtpPolicy, protection: Protection
) -> None:
    body = "\r\n".join(["v=0", "o=- 1 1 IN IP4 1.2.3.4", *lines]).encode()
    ours = _local(EVERY_CODEC, policy, Direction.SENDRECV, 20000)
    offer = parse_sdp(build_offer(ours, session_id=1, version=1, protection=protection))
    try:
        agreed = negotiated(offer, parse_sdp(body), policy)
    except PlatformError as error:
        if error.code not in _REFUSALS:
            raise
        return
    if policy is SrtpPolicy.REQUIRED:
        assert agreed.protection is not Protection.NONE
