"""SRTP on ports, with keys as SDP would have carried them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cti.audio import read_wav, tone_spans, write_tone
from cti.media import (
    Connection,
    DtlsPeer,
    PlayEnded,
    PortClosed,
    PortId,
    RecordingEnded,
    SecureMediaReady,
    SrtpKeys,
    SrtpSuite,
)
from cti.media_engine import RtpEngine
from cti.sdp import Codec
from domain.failures import Code, PlatformError
from tests.media.conftest import inside, remote
from tests.media.peer import PCMA_SILENCE, WAIT_S, Events, Peer, rtp
from tests.peers.waiting import wait_until

HZ = 1000


def keys(suite: SrtpSuite, local: int, remote: int) -> SrtpKeys:
    return SrtpKeys(suite, bytes([local]) * suite.key_len, bytes([remote]) * suite.key_len)


def connect(
    engine: RtpEngine,
    port: PortId,
    number: int,
    srtp: SrtpKeys | None = None,
    dtls: DtlsPeer | None = None,
) -> None:
    engine.connect(port, Connection("127.0.0.1", number, Codec.PCMA, 8, srtp=srtp, dtls=dtls))


@pytest.mark.parametrize(
    ("engines", "suite"),
    # A suite is but a name on the way to a media process.
    [*((inside, suite) for suite in SrtpSuite), (remote, SrtpSuite.AEAD_AES_128_GCM)],
    indirect=["engines"],
)
async def test_a_tone_passes_from_port_to_port(
    engine: RtpEngine, events: Events, tmp_path: Path, suite: SrtpSuite
) -> None:
    (one, one_number), (other, other_number) = (engine.open_port("127.0.0.1") for _ in range(2))
    connect(engine, one, other_number, keys(suite, 1, 2))
    connect(engine, other, one_number, keys(suite, 2, 1))
    assert (await events.wait(SecureMediaReady, port=one)).suite is suite
    recording = engine.start_recording(str(tmp_path / "heard.wav"), [other], None)
    tone = write_tone(tmp_path / "tone.wav", HZ, 500)
    await events.wait(PlayEnded, play=engine.play(one, [str(tone)]))
    engine.stop_recording(recording)
    await events.wait(RecordingEnded)
    for port in (one, other):
        engine.close_port(port)
    figures = (await events.wait(PortClosed, port=other)).figures
    spans = tone_spans(read_wav(tmp_path / "heard.wav")[0], HZ)
    assert sum(span.duration_ms for span in spans) > 300
    assert figures.packets_invalid == 0


async def test_plain_packets_are_refused(engine: RtpEngine, events: Events) -> None:
    peer = await Peer.open()
    port, number = engine.open_port("127.0.0.1")
    connect(engine, port, peer.port, keys(SrtpSuite.AES_CM_128_HMAC_SHA1_80, 1, 2))
    await peer.wait(1)
    for sequence in range(10):
        peer.send(rtp(8, sequence, 160 * sequence, PCMA_SILENCE), number)
    await wait_until(
        lambda: engine.figures()["packets_invalid"] == 10, WAIT_S, "plain packets counted"
    )
    engine.close_port(port)
    figures = (await events.wait(PortClosed, port=port)).figures
    assert (figures.packets_received, figures.packets_invalid) == (0, 10)


async def test_what_leaves_is_not_plain(engine: RtpEngine) -> None:
    peer = await Peer.open()
    port, _ = engine.open_port("127.0.0.1")
    connect(engine, port, peer.port, keys(SrtpSuite.AES_CM_128_HMAC_SHA1_80, 1, 2))
    packets = await peer.wait(3)
    assert {len(packet.payload) for packet in packets} == {160 + 10}
    assert all(PCMA_SILENCE[:20] not in packet.payload for packet in packets)


async def test_before_a_browser_was_heard_nothing_leaves(engine: RtpEngine, events: Events) -> None:
    peer = await Peer.open()
    port, number = engine.open_port("127.0.0.1")
    browser = DtlsPeer(engine.fingerprint(), "ours", "a password of ours", "theirs")
    connect(engine, port, peer.port, dtls=browser)
    await peer.stream(number, [rtp(8, 1, 160, PCMA_SILENCE)] * 10)
    engine.close_port(port)
    figures = (await events.wait(PortClosed)).figures
    assert (figures.packets_sent, figures.packets_received, peer.received) == (0, 0, [])


@pytest.mark.parametrize(
    "connection",
    [
        {"srtp": SrtpKeys(SrtpSuite.AEAD_AES_128_GCM, bytes(27), bytes(28))},
        {"dtls": DtlsPeer("AB:CD", "ours", "password", "theirs")},
        {
            "srtp": keys(SrtpSuite.AEAD_AES_128_GCM, 1, 2),
            "dtls": DtlsPeer(":".join(["AB"] * 32), "ours", "password", "theirs"),
        },
    ],
)
async def test_what_cannot_protect_is_refused(
    events: Events, tmp_path: Path, connection: dict[str, SrtpKeys | DtlsPeer]
) -> None:
    async with inside(events, tmp_path, port_min=48_020, port_max=48_029) as engine:
        port, _ = engine.open_port("127.0.0.1")
        with pytest.raises(PlatformError) as refused:
            connect(engine, port, 4000, **connection)  # type: ignore[arg-type]
    assert refused.value.code is Code.SDP_MALFORMED


def test_keys_and_passwords_are_not_shown() -> None:
    shown = repr((keys(SrtpSuite.AEAD_AES_128_GCM, 7, 8), DtlsPeer("", "u", "secret", "v")))
    assert "x07" not in shown
    assert "secret" not in shown


async def test_a_fingerprint_is_new_at_each_start(engine: RtpEngine) -> None:
    other = RtpEngine(port_min=48_000, port_max=48_010)
    await asyncio.wait_for(other.aclose(), WAIT_S)
    assert len(engine.fingerprint()) == 95
    assert engine.fingerprint() != other.fingerprint()
