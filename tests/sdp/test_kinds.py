"""Descriptions of one phone are read by what they have in common; nobody can tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from cti.sdp import parse_sdp
from cti.sdp.description import parse_anew

WIRE = sorted((Path(__file__).parent / "wire").glob("*.sdp"))

_HEAD = (
    "v=0\r\no={user} {session} {version} IN IP4 127.0.0.9\r\ns=-\r\nc=IN IP4 127.0.0.9\r\nt=0 0\r\n"
)
_AUDIO = "m=audio {port} RTP/AVP 8 101\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n"
_VIDEO = "m=video 5004 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"


def described(
    text: str = _HEAD + _AUDIO,
    *,
    user: str = "-",
    session: int = 1,
    version: int = 1,
    port: int | str = 4000,
) -> bytes:
    return text.format(user=user, session=session, version=version, port=port).encode()


@pytest.mark.parametrize("path", WIRE, ids=lambda path: path.stem)
def test_what_programs_write_is_read_the_same(path: Path) -> None:
    body = path.read_bytes()
    assert parse_sdp(body) == parse_sdp(body) == parse_anew(body)


@pytest.mark.parametrize(
    "body",
    [
        described(),
        described(port=4002, session=7, version=9),
        described(port=65_535, user="alice"),
        described(_HEAD + _VIDEO + _AUDIO),
        described(_HEAD + _AUDIO + _VIDEO, port=4004),
        described(_HEAD + _AUDIO + _AUDIO, port=4006),
        described(_HEAD + "m=audio 0 RTP/AVP 0\r\n" + _AUDIO),
        described(port=0),
        described(port="4000/2"),
        described(session=2**70),
    ],
)
def test_ports_sessions_and_versions_are_each_description_s_own(body: bytes) -> None:
    assert parse_sdp(body) == parse_anew(body)


def test_a_description_is_not_changed_by_the_next_of_its_kind() -> None:
    first = parse_sdp(described(port=4000, session=1))
    second = parse_sdp(described(port=4002, session=2))
    assert [first.streams[0].port, second.streams[0].port] == [4000, 4002]
    assert [first.session_id, second.session_id] == ["1", "2"]
