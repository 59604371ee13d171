"""Keys by SDES, DTLS behind ICE-lite, and what a policy takes of both."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from cti.media import SrtpKeys, SrtpSuite
from cti.sdp import (
    Codec,
    LocalAudio,
    LocalSecrets,
    Negotiated,
    Protection,
    Sdp,
    SrtpPolicy,
    answer,
    build_offer,
    negotiated,
    parse_sdp,
)
from domain.failures import Code, PlatformError
from tests.sdp.test_sdp import OURS, sdp
from tests.sdp.test_wire import FINGERPRINT, answered, read

_80, _32 = SrtpSuite.AES_CM_128_HMAC_SHA1_80, SrtpSuite.AES_CM_128_HMAC_SHA1_32
KEY = bytes(range(30))
INLINE = base64.b64encode(KEY).decode()


def secrets(suites: tuple[SrtpSuite, ...] = tuple(SrtpSuite)) -> LocalSecrets:
    return LocalSecrets(FINGERPRINT, suites, random_octets=lambda count: b"\x55" * count)


def local(srtp: SrtpPolicy = SrtpPolicy.OPTIONAL, own: LocalSecrets | None = None) -> LocalAudio:
    return LocalAudio(OURS, 20000, srtp=srtp, secrets=own or secrets())


def stream(*attributes: str, profile: str = "RTP/SAVP") -> Sdp:
    return parse_sdp(sdp("c=IN IP4 127.0.0.9", "t=0 0", f"m=audio 4000 {profile} 8", *attributes))


def reply(offer: Sdp, ours: LocalAudio, before: Negotiated | None = None) -> tuple[str, Negotiated]:
    body, agreed = answer(offer, ours, session_id=1, version=1, before=before)
    return body.decode(), agreed


def refusal(offer: Sdp, srtp: SrtpPolicy) -> Code:
    with pytest.raises(PlatformError) as caught:
        reply(offer, local(srtp))
    return caught.value.code


def test_the_first_usable_line_is_taken() -> None:
    body, agreed = reply(
        stream(
            "a=crypto:1 AES_256_CM_HMAC_SHA1_80 inline:" + "A" * 62 + "==",
            f"a=crypto:2 {_32} inline:{INLINE}|2^31|1:4",
            f"a=crypto:3 {_32} inline:{INLINE}|2^31",
            f"a=crypto:4 {_80} inline:{INLINE}",
        ),
        local(),
    )
    assert agreed.srtp == SrtpKeys(_32, b"\x55" * 30, KEY)
    ours = base64.b64encode(b"\x55" * 30).decode()
    assert f"a=crypto:3 {_32} inline:{ours}\r\n" in body
    assert "m=audio 20000 RTP/SAVP 8\r\n" in body


@pytest.mark.parametrize(
    "line",
    [
        "",
        "1",
        f"0 {_80} inline:{INLINE}",
        f"x {_80} inline:{INLINE}",
        f"1 NULL inline:{INLINE}",
        f"1 {_80} {INLINE}",
        f"1 {_80} inline:",
        f"1 {_80} inline:{INLINE[:-1]}",
        f"1 {_80} inline:{INLINE}AAAA",
        f"1 {SrtpSuite.AEAD_AES_128_GCM} inline:{INLINE}",
        f"1 {_80} inline:{INLINE}|2^4",
        f"1 {_80} inline:{INLINE}|1000",
        f"1 {_80} inline:{INLINE}|2^31|1:4",
        f"1 {_80} inline:{INLINE}|1:4",
        f"1 {_80} inline:{INLINE};inline:{INLINE}",
        f"1 {_80} inline:{INLINE} UNENCRYPTED_SRTP",
        f"1 {_80} inline:{INLINE} KDR=1",
        "1 \u0663 inline:\u0663",
    ],
)
def test_lines_of_no_use(line: str) -> None:
    assert refusal(stream(f"a=crypto:{line}"), SrtpPolicy.OPTIONAL) is Code.NO_COMMON_PROTECTION
    plain = stream(f"a=crypto:{line}", profile="RTP/AVP")
    assert reply(plain, local())[1].protection is Protection.NONE


@pytest.mark.parametrize("suite", SrtpSuite)
def test_every_suite_of_the_engine(suite: SrtpSuite) -> None:
    ours, theirs = secrets((suite,)), secrets()
    offer = build_offer(local(own=ours), session_id=1, version=1, protection=Protection.SDES)
    assert b"RTP/SAVP" in offer
    body, far = reply(parse_sdp(offer), local(own=theirs))
    near = negotiated(parse_sdp(offer), parse_sdp(body.encode()), SrtpPolicy.REQUIRED)
    assert near.srtp is not None
    assert far.srtp is not None
    assert near.srtp.suite is suite
    assert (near.srtp.local, near.srtp.remote) == (far.srtp.remote, far.srtp.local)
    assert len(near.srtp.local) == suite.key_len


PLAIN, BEST_EFFORT = (stream(*each, profile="RTP/AVP") for each in ((), (
    f"a=crypto:1 {_80} inline:{INLINE}",
)))  # fmt: skip
SDES = stream(f"a=crypto:1 {_80} inline:{INLINE}")


@pytest.mark.parametrize(
    ("policy", "plain", "best_effort", "sdes"),
    [
        (SrtpPolicy.OFF, Protection.NONE, Protection.NONE, None),
        (SrtpPolicy.OPTIONAL, Protection.NONE, Protection.SDES, Protection.SDES),
        (SrtpPolicy.REQUIRED, None, Protection.SDES, Protection.SDES),
    ],
)
def test_a_policy_for_offers(
    policy: SrtpPolicy,
    plain: Protection | None,
    best_effort: Protection | None,
    sdes: Protection | None,
) -> None:
    for offer, expected in ((PLAIN, plain), (BEST_EFFORT, best_effort), (SDES, sdes)):
        if expected is None:
            assert refusal(offer, policy) is Code.NO_COMMON_PROTECTION
        else:
            assert reply(offer, local(policy))[1].protection is expected


@pytest.mark.parametrize(
    ("offered", "policy", "answer", "outcome"),
    [
        (Protection.NONE, SrtpPolicy.OFF, PLAIN, Protection.NONE),
        (Protection.SDES_OR_NONE, SrtpPolicy.OPTIONAL, PLAIN, Protection.NONE),
        (Protection.SDES_OR_NONE, SrtpPolicy.OPTIONAL, BEST_EFFORT, Protection.SDES),
        (Protection.SDES_OR_NONE, SrtpPolicy.REQUIRED, PLAIN, Code.NO_COMMON_PROTECTION),
        (Protection.SDES, SrtpPolicy.REQUIRED, SDES, Protection.SDES),
        (Protection.SDES, SrtpPolicy.REQUIRED, PLAIN, Code.NO_COMMON_PROTECTION),
        (Protection.DTLS, SrtpPolicy.OPTIONAL, PLAIN, Code.NO_COMMON_PROTECTION),
        (Protection.DTLS, SrtpPolicy.OPTIONAL, SDES, Code.NO_COMMON_PROTECTION),
    ],
)
def test_a_policy_for_answers(
    offered: Protection, policy: SrtpPolicy, answer: Sdp, outcome: Protection | Code
) -> None:
    ours = local(policy, secrets((_80, _32)))
    offer = parse_sdp(build_offer(ours, session_id=1, version=1, protection=offered))
    if isinstance(outcome, Protection):
        assert negotiated(offer, answer, policy).protection is outcome
        return
    with pytest.raises(PlatformError) as caught:
        negotiated(offer, answer, policy)
    assert caught.value.code is outcome


def test_a_key_under_a_tag_that_we_did_not_offer_is_none() -> None:
    ours = local(own=secrets((_32, _80)))  # tag 1 is _32, the answer takes 1 for _80
    offer = build_offer(ours, session_id=1, version=1, protection=Protection.SDES)
    with pytest.raises(PlatformError) as caught:
        negotiated(parse_sdp(offer), SDES)
    assert caught.value.code is Code.NO_COMMON_PROTECTION


def test_a_session_keeps_its_keys() -> None:
    ours = local(own=LocalSecrets(FINGERPRINT))
    first, agreed = reply(SDES, ours)
    assert reply(SDES, ours, agreed)[0] == first
    other = base64.b64encode(KEY[::-1]).decode()
    again = reply(stream(f"a=crypto:1 {_80} inline:{other}"), ours, agreed)[1]
    assert again.srtp is not None
    assert agreed.srtp is not None
    assert again.srtp == replace(agreed.srtp, remote=KEY[::-1])
    offers = {
        build_offer(ours, session_id=1, version=1, protection=Protection.SDES) for _ in range(2)
    }
    assert len(offers) == 1


def test_ice_restarts_when_the_far_end_does() -> None:
    ours = local(own=LocalSecrets(FINGERPRINT))
    offer = read("chromium_audio")
    first, agreed = reply(offer, ours)
    assert reply(offer, ours, agreed)[0] == first
    restarted = read("chromium_audio")
    restarted.streams[0].attributes = [
        (name, "new1" if name == "ice-ufrag" else value)
        for name, value in restarted.streams[0].attributes
    ]
    _, again = reply(restarted, ours, agreed)
    assert agreed.dtls is not None
    assert again.dtls is not None
    assert again.dtls.local_ufrag != agreed.dtls.local_ufrag
    assert again.dtls.local_password != agreed.dtls.local_password


@pytest.mark.parametrize(
    ("setup", "ours", "active"),
    [("actpass", "passive", False), ("active", "passive", False), ("passive", "active", True)],
)
def test_who_begins_the_handshake(setup: str, ours: str, active: bool) -> None:
    offer = read("chromium_audio")
    audio = offer.streams[0]
    audio.attributes = [(n, setup if n == "setup" else value) for n, value in audio.attributes]
    body, agreed = answered(offer, SrtpPolicy.OPTIONAL)
    assert f"a=setup:{ours}\r\n" in body
    assert agreed.dtls is not None
    assert agreed.dtls.active is active


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fingerprint", None),
        ("fingerprint", "sha-1 AB:CD"),
        ("fingerprint", "sha-256 AB:CD"),
        ("fingerprint", "sha-256 " + ":".join(["GG"] * 32)),
        ("ice-ufrag", None),
        ("ice-ufrag", "abc"),
        ("ice-pwd", "short"),
        ("ice-pwd", "x y" * 10),
        ("setup", "holdconn"),
        ("setup", "nonsense"),
    ],
)
def test_dtls_that_lacks_a_part_is_none(name: str, value: str | None) -> None:
    offer = read("chromium_audio")
    audio = offer.streams[0]
    kept = [(each, said) for each, said in audio.attributes if each != name]
    audio.attributes = kept if value is None else [*kept, (name, value)]
    if name == "fingerprint" and value is not None:
        # A fingerprint of another hash beside a good one does no harm.
        audio.attributes.append(("fingerprint", f"sha-256 {FINGERPRINT.lower()}"))
        assert answered(offer, SrtpPolicy.OPTIONAL)[1].dtls is not None
        audio.attributes.pop()
    with pytest.raises(PlatformError) as caught:
        answered(offer, SrtpPolicy.OPTIONAL)
    assert caught.value.code is Code.NO_COMMON_PROTECTION


def test_a_browser_holds_by_direction_alone() -> None:
    offer = read("chromium_audio_video_data")
    assert offer.streams[0].address == "0.0.0.0"
    assert answered(offer, SrtpPolicy.OPTIONAL)[1].send
    offer.streams[0].direction = offer.streams[0].direction.INACTIVE  # type: ignore[union-attr]
    assert not answered(offer, SrtpPolicy.OPTIONAL)[1].send


def test_without_a_certificate_there_is_no_dtls() -> None:
    ours = LocalAudio(OURS, 20000, tuple(Codec), srtp=SrtpPolicy.OPTIONAL)
    with pytest.raises(PlatformError) as caught:
        reply(read("chromium_audio"), ours)
    assert caught.value.code is Code.NO_COMMON_PROTECTION


def test_keys_are_not_shown() -> None:
    _, agreed = reply(SDES, local())
    assert "\\x55" not in repr(agreed)
    assert "UUUU" not in repr(agreed)
