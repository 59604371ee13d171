"""Descriptions that real programs wrote, each with what comes of it.

chromium: 156, `RTCPeerConnection.createOffer`; chromium_answer: its answer to an offer of ours,
made by the same code as below. baresip 1.0.0 and linphone 5.1: offers of their INVITEs.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from cti.media import SrtpSuite
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

WIRE = Path(__file__).parent / "wire"
EVERY_CODEC = (Codec.PCMA, Codec.PCMU, Codec.G722, Codec.OPUS, Codec.G729)
FINGERPRINT = ":".join(["AB"] * 32)


def local(srtp: SrtpPolicy, ip: str = "127.0.0.1") -> LocalAudio:
    secrets = LocalSecrets(fingerprint=FINGERPRINT)
    return LocalAudio(ip, 20000, EVERY_CODEC, srtp=srtp, secrets=secrets)


def read(name: str) -> Sdp:
    return parse_sdp((WIRE / f"{name}.sdp").read_bytes())


def answered(offer: Sdp, srtp: SrtpPolicy) -> tuple[str, Negotiated]:
    ip = "::1" if ":" in offer.address else "127.0.0.1"
    body, agreed = answer(offer, local(srtp, ip), session_id=1, version=1)
    return body.decode(), agreed


@dataclass(frozen=True)
class Outcome:
    codec: Codec
    payload_type: int
    digits: int
    protection: Protection
    suite: SrtpSuite | None = None


_PLAIN = Outcome(Codec.PCMU, 0, 101, Protection.NONE)
_SDES = Outcome(Codec.PCMU, 0, 101, Protection.SDES, SrtpSuite.AES_CM_128_HMAC_SHA1_80)
_DTLS = Outcome(Codec.PCMU, 0, 101, Protection.DTLS)
_BROWSER = Outcome(Codec.OPUS, 111, 110, Protection.DTLS)
_LINPHONE = Outcome(Codec.OPUS, 96, 99, Protection.SDES, SrtpSuite.AES_CM_128_HMAC_SHA1_80)
_REFUSED = Code.NO_COMMON_PROTECTION

# What comes of an offer with srtp off, optional, and required.
OUTCOMES: dict[str, tuple[Outcome | Code, Outcome | Code, Outcome | Code]] = {
    "chromium_audio": (_REFUSED, _BROWSER, _BROWSER),
    "chromium_audio_video_data": (_REFUSED, _BROWSER, _BROWSER),
    "baresip_plain": (_PLAIN, _PLAIN, _REFUSED),
    "baresip_srtp": (_PLAIN, _SDES, _SDES),
    "baresip_srtp_mand": (_REFUSED, _SDES, _SDES),
    "baresip_srtp_f": (_REFUSED, _SDES, _SDES),
    "baresip_dtls": (_REFUSED, _DTLS, _DTLS),
    "linphone_srtp": (_REFUSED, _LINPHONE, _LINPHONE),
    "linphone_dtls": (_REFUSED, _REFUSED, _REFUSED),  # DTLS without ICE
}


@pytest.mark.parametrize("policy", SrtpPolicy)
@pytest.mark.parametrize("name", OUTCOMES)
def test_offers(name: str, policy: SrtpPolicy) -> None:
    expected = OUTCOMES[name][list(SrtpPolicy).index(policy)]
    offer = read(name)
    if isinstance(expected, Code):
        with pytest.raises(PlatformError) as caught:
            answered(offer, policy)
        assert caught.value.code is expected
        return
    body, agreed = answered(offer, policy)
    assert expected == Outcome(
        agreed.codec,
        agreed.payload_type,
        agreed.digit_payload_type or 0,
        agreed.protection,
        agreed.srtp.suite if agreed.srtp is not None else None,
    )
    assert agreed.send
    assert agreed.receive
    back = parse_sdp(body.encode())
    assert [(each.kind, each.protocol) for each in back.streams] == [
        (each.kind, each.protocol) for each in offer.streams
    ]
    assert [each.port for each in back.streams] == [20000] + [0] * (len(offer.streams) - 1)


def test_every_file_has_an_outcome() -> None:
    names = {file.stem for file in WIRE.glob("*.sdp")}
    assert names == {*OUTCOMES, "chromium_answer"}


def test_what_a_browser_is_answered() -> None:
    body, agreed = answered(read("chromium_audio_video_data"), SrtpPolicy.OPTIONAL)
    session, audio, *others = body.split("m=")
    assert "a=group:BUNDLE 0\r\n" in session  # RFC 8843 7.3: refused streams are out of it
    assert "a=ice-lite\r\n" in session
    assert [each.split()[:2] for each in others] == [["video", "0"], ["application", "0"]]
    assert agreed.dtls is not None
    assert not agreed.dtls.active
    assert agreed.dtls.remote_ufrag == "CST3"
    names = Counter(line.partition(":")[0] for line in audio.split("\r\n"))
    for once in ("mid", "rtcp-mux", "ice-ufrag", "ice-pwd", "candidate", "end-of-candidates"):
        assert names[f"a={once}"] == 1
    for line in (
        f"a=ice-ufrag:{agreed.dtls.local_ufrag}",
        f"a=ice-pwd:{agreed.dtls.local_password}",
        f"a=fingerprint:sha-256 {FINGERPRINT}",
        "a=setup:passive",
        "a=mid:0",
        "a=candidate:1 1 udp 2130706431 127.0.0.1 20000 typ host",
    ):
        assert f"{line}\r\n" in audio


def test_a_browsers_answer_to_our_offer() -> None:
    offer = parse_sdp(
        build_offer(local(SrtpPolicy.OPTIONAL), session_id=1, version=1, protection=Protection.DTLS)
    )
    agreed = negotiated(offer, read("chromium_answer"), SrtpPolicy.OPTIONAL)
    assert (agreed.codec, agreed.payload_type, agreed.digit_payload_type) == (Codec.PCMA, 8, 101)
    assert agreed.rtcp_mux
    assert agreed.dtls is not None
    assert agreed.dtls.remote_ufrag == "J+dX"
    assert not agreed.dtls.active
    assert agreed.send
    assert agreed.receive
