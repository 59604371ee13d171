"""Keys from one party to the other: by RFC 4733, SIP INFO, or as tones, as each of them wants."""

from __future__ import annotations

from typing import Any

import pytest

from cti.call import Call, DialTarget
from cti.media import (
    Answer,
    AnswerJudged,
    Detect,
    DigitReceived,
    DigitSource,
    PortId,
    Signal,
    ToneDetected,
)
from cti.media_policy import DigitWay, MediaPolicy
from cti.sdp import Codec
from tests.call_control.conftest import Bench, answered
from tests.call_control.test_media_negotiation import UDP, allow, dial, offered, register
from tests.fakes.descriptions import build_offer
from tests.fakes.session import FakeSession
from tests.fakes.turn import turn

CALLER, FAR_END = PortId(1), PortId(2)
OFFER = offered(Codec.PCMA)
PLAIN_OFFER = OFFER.replace(b" 101", b"").replace(b"a=rtpmap:101 telephone-event/8000\r\n", b"")


async def talking(
    bench: Bench, tenant: MediaPolicy | None = None, *, caller: bytes = OFFER, **trunk: Any
) -> tuple[FakeSession, FakeSession]:
    """The sessions of a caller over a trunk and of a phone, in conversation."""
    allow(bench, tenant or MediaPolicy(), **trunk)
    register(bench, UDP)
    dial(bench)
    session = bench.invite(offer=caller)
    await bench.until(lambda: bench.user_agent.sessions)
    (phone,) = bench.user_agent.sessions
    phone.answer(build_offer("127.0.0.1", 40010, session_id=1, version=1))
    await bench.until(lambda: "bridged" in bench.sink.names)
    return session, phone


def keys_of(bench: Bench, port: PortId) -> list[PortId]:
    return bench.media.ports[port].keys_of


def detect(bench: Bench, port: PortId) -> frozenset[Detect]:
    connected = bench.media.ports[port].connected
    assert connected is not None
    return connected.detect


async def test_the_engine_passes_keys_where_events_are_negotiated(bench: Bench) -> None:
    _, phone = await talking(bench)
    assert (keys_of(bench, CALLER), keys_of(bench, FAR_END)) == ([FAR_END], [CALLER])
    assert detect(bench, CALLER) == detect(bench, FAR_END) == frozenset()
    bench.media.key(FAR_END, "5")
    await turn()
    assert phone.infos == []


async def test_who_wants_info_gets_and_sends_keys_by_info(bench: Bench) -> None:
    caller, phone = await talking(bench, digits="info")
    assert b"telephone-event" not in (caller.accepted_sdp or b"")
    assert b"telephone-event" in phone.sent_sdp
    assert (keys_of(bench, CALLER), keys_of(bench, FAR_END)) == ([], [CALLER])
    assert detect(bench, CALLER) == frozenset()
    bench.media.emit(DigitReceived(FAR_END, "7", 140))
    await bench.until(lambda: caller.infos)
    assert caller.infos == [b"Signal=7\r\nDuration=140\r\n"]
    caller.observer.on_info("application/dtmf-relay", b"Signal=9\r\nDuration=200\r\n")
    assert bench.media.log[-1] == f"digits {FAR_END} 9"


async def test_a_phone_that_wants_info(bench: Bench) -> None:
    caller, phone = await talking(bench, MediaPolicy(digits=DigitWay.INFO))
    assert b"telephone-event" not in phone.sent_sdp
    bench.media.emit(DigitReceived(CALLER, "#", 80, DigitSource.INBAND))
    await bench.until(lambda: phone.infos)
    assert phone.infos == [b"Signal=#\r\nDuration=80\r\n"]
    phone.observer.on_info("application/dtmf", b"4")
    assert bench.media.log[-1] == f"digits {CALLER} 4"
    assert caller.infos == []


@pytest.mark.parametrize(
    ("digits", "offer", "wanted"),
    [
        ("auto", OFFER, frozenset[Detect]()),
        ("auto", PLAIN_OFFER, frozenset({Detect.DTMF})),
        ("rfc4733", PLAIN_OFFER, frozenset[Detect]()),
        ("inband", OFFER, frozenset({Detect.DTMF})),
    ],
)
async def test_keys_in_the_audio_are_looked_for_where_they_come_in_no_other_way(
    bench: Bench, digits: str, offer: bytes, wanted: frozenset[Detect]
) -> None:
    caller, _ = await talking(bench, caller=offer, digits=digits)
    assert detect(bench, CALLER) == wanted
    has_events = b"telephone-event" in (caller.accepted_sdp or b"")
    assert has_events == (digits in {"auto", "rfc4733"} and offer == OFFER)


async def test_a_dial_hears_the_network_and_who_answers(bench: Bench) -> None:
    heard: list[Signal | Answer] = []

    async def body(call: Call) -> None:
        leg = await call.dial(DialTarget("1001", "1"), timeout_ms=5000, on_heard=heard.append)
        await call.bridge(leg)

    bench.handler = answered(body)
    register(bench, UDP)
    bench.invite()
    await bench.until(lambda: bench.user_agent.sessions)
    (phone,) = bench.user_agent.sessions
    phone.observer.on_progress(183, build_offer("127.0.0.1", 40010, session_id=1, version=1))
    assert detect(bench, FAR_END) == {Detect.PROGRESS, Detect.FAX}
    bench.media.emit(ToneDetected(FAR_END, Signal.RINGBACK, 2500))
    await bench.until(lambda: heard)
    phone.answer(build_offer("127.0.0.1", 40010, session_id=1, version=1))
    await bench.until(lambda: "bridged" in bench.sink.names)
    assert detect(bench, FAR_END) == {Detect.ANSWER, Detect.FAX}
    bench.media.emit(AnswerJudged(FAR_END, Answer.MACHINE, 2400))
    await bench.until(lambda: len(heard) == 2)
    assert heard == [Signal.RINGBACK, Answer.MACHINE]


async def test_a_caller_hears_that_somebody_is_rung(bench: Bench) -> None:
    async def body(call: Call) -> None:
        call.start_ringback()
        call.stop_music()

    bench.handler = answered(body)
    bench.invite()
    await bench.until(lambda: "call_ended" in bench.sink.names)
    assert f"tone {CALLER} ringback" in bench.media.log
    assert f"stop {CALLER}" in bench.media.log
