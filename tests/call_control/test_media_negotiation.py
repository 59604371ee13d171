"""What each leg is offered and answered: codecs of the other party first, ports by kind of way."""

from __future__ import annotations

from typing import Any

import pytest

from cti.admission import Admission, TenantAccess
from cti.call import Call, DialError, DialTarget
from cti.media import SrtpSuite
from cti.media_policy import MediaAddress, MediaAddresses, MediaPolicy
from cti.sdp import Codec, LocalAudio, LocalSecrets, Protection, SrtpPolicy, answer, parse_sdp
from cti.sdp import build_offer as build_any_offer
from cti.settings import AccessCodeSettings, TrunkSettings
from cti.shared.contacts import Binding, Way
from cti.sip.transports.transport import Hop
from domain.failures import Code
from tests.call_control.conftest import TENANT, Bench, answered
from tests.fakes.descriptions import build_offer
from tests.fakes.session import FakeSession
from tests.sdp.test_wire import EVERY_CODEC, FINGERPRINT, WIRE

TARGET = DialTarget("1001", "13812345678")
BROWSER = (WIRE / "chromium_audio.sdp").read_bytes()


def offered(*codecs: Codec) -> bytes:
    return build_offer("127.0.0.1", 40000, session_id=1, version=1, codecs=codecs)


def codecs_of(sdp: bytes) -> list[str]:
    (stream,) = parse_sdp(sdp).streams
    return [each for each in stream.formats if each not in {"101", "110"}]


def allow(bench: Bench, tenant: MediaPolicy, **trunk: Any) -> None:
    """Give tenant and trunk these rules, and the engine its keys."""
    settings = TrunkSettings.model_validate(
        {"name": "carrier", "addresses": ["127.0.0.0/8"], **trunk}
    )
    codes = [AccessCodeSettings(code="95598", flow="main")]
    bench.control._admission = Admission([TenantAccess(TENANT, [settings], codes, media=tenant)])
    router = bench.control._context.router
    router.srtp_suites = tuple(SrtpSuite)


def register(bench: Bench, *hops: Hop, phones: int = 0) -> None:
    """One phone with several ways, or several phones with one each."""
    ways = [Way(hop, (), f"sip:1001@{hop.port}") for hop in hops]
    bindings = [Binding((way,), 2_000_000_000) for way in ways]
    if not phones:
        bindings = [Binding(tuple(ways), 2_000_000_000)]

    async def lookup(_tenant: object, _user: str) -> list[Binding]:
        return bindings

    bench.contacts.lookup = lookup  # type: ignore[method-assign,assignment]


def dial(bench: Bench, outcome: list[object] | None = None) -> None:
    async def body(call: Call) -> None:
        try:
            leg = await call.dial(TARGET, timeout_ms=5000)
        except DialError as error:
            assert outcome is not None
            outcome.append(error.code)
            return
        await call.bridge(leg)

    bench.handler = answered(body)


async def rung(bench: Bench, offer: bytes, count: int = 1) -> list[FakeSession]:
    dial(bench)
    bench.invite(offer=offer)
    await bench.until(lambda: len(bench.user_agent.sessions) == count)
    return bench.user_agent.sessions


UDP = Hop("udp", "127.0.0.1", 5070)
TLS = Hop("tls", "127.0.0.1", 5071)
WSS = Hop("wss", "127.0.0.1", 5072)
IPV6 = Hop("udp", "2001:db8::7", 5073)


async def test_a_leg_is_offered_its_callers_codec_first(bench: Bench) -> None:
    allow(bench, MediaPolicy(EVERY_CODEC), codecs=["G729", "PCMA"], codec_order="offer")
    register(bench, UDP)
    (phone,) = await rung(bench, offered(Codec.G729, Codec.PCMA))
    assert codecs_of(phone.sent_sdp) == ["18", "8", "0", "9", "111"]


async def test_a_callers_codec_that_phones_may_not_use_is_not_offered(bench: Bench) -> None:
    allow(bench, MediaPolicy((Codec.PCMU, Codec.PCMA)), codecs=["G729"])
    register(bench, UDP)
    (phone,) = await rung(bench, offered(Codec.G729))
    assert codecs_of(phone.sent_sdp) == ["0", "8"]


@pytest.mark.parametrize(
    ("trunk", "tenant", "taken"),
    [
        ({}, MediaPolicy(), "0"),
        ({}, MediaPolicy(EVERY_CODEC), "18"),
        ({}, MediaPolicy((Codec.PCMA, Codec.PCMU), own_order=True), "8"),
        ({"codecs": ["PCMA", "PCMU"]}, MediaPolicy(EVERY_CODEC), "8"),
        ({"codecs": ["PCMA", "PCMU"], "codec_order": "offer"}, MediaPolicy(EVERY_CODEC), "0"),
        ({"codecs": "G722"}, MediaPolicy(EVERY_CODEC), ""),
    ],
)
async def test_a_trunks_codecs_or_its_tenants(
    bench: Bench, trunk: dict[str, Any], tenant: MediaPolicy, taken: str
) -> None:
    allow(bench, tenant, **trunk)
    caller = bench.invite(offer=offered(Codec.G729, Codec.PCMU, Codec.PCMA))
    if taken:
        assert bench.call is None
        await bench.until(lambda: bench.call)
        assert bench.call is not None
        await bench.call.answer()
        assert caller.accepted_sdp is not None
        assert codecs_of(caller.accepted_sdp) == [taken]
    else:
        assert caller.rejected == 488


async def test_a_caller_is_answered_with_what_the_far_end_speaks(bench: Bench) -> None:
    allow(bench, MediaPolicy(EVERY_CODEC), codecs=["PCMU", "PCMA"])
    register(bench, UDP)

    async def ring_first(call: Call) -> None:
        leg = await call.dial(TARGET, timeout_ms=5000)
        await call.answer()
        await call.bridge(leg)

    bench.handler = ring_first
    caller = bench.invite(offer=offered(Codec.PCMU, Codec.PCMA))
    await bench.until(lambda: bench.user_agent.sessions)
    (phone,) = bench.user_agent.sessions
    assert codecs_of(phone.sent_sdp)[0] == "0"
    phone.answer(offered(Codec.PCMA))
    await bench.until(lambda: caller.accepted_sdp)
    assert caller.accepted_sdp is not None
    assert codecs_of(caller.accepted_sdp) == ["8"]


@pytest.mark.parametrize(
    ("srtp", "hop", "protocol", "has_keys"),
    [
        (SrtpPolicy.OFF, UDP, "RTP/AVP", False),
        (SrtpPolicy.OFF, WSS, "RTP/AVP", False),
        (SrtpPolicy.OPTIONAL, UDP, "RTP/AVP", False),
        (SrtpPolicy.OPTIONAL, TLS, "RTP/AVP", True),
        (SrtpPolicy.OPTIONAL, WSS, "UDP/TLS/RTP/SAVPF", False),
        (SrtpPolicy.REQUIRED, UDP, "RTP/SAVP", True),
        (SrtpPolicy.REQUIRED, WSS, "UDP/TLS/RTP/SAVPF", False),
    ],
)
async def test_what_a_phone_is_offered(
    bench: Bench, srtp: SrtpPolicy, hop: Hop, protocol: str, has_keys: bool
) -> None:
    allow(bench, MediaPolicy(srtp=srtp))
    register(bench, hop)
    (phone,) = await rung(bench, offered(Codec.PCMA))
    (stream,) = parse_sdp(phone.sent_sdp).streams
    assert stream.protocol == protocol
    assert bool(stream.values("crypto")) is has_keys


async def test_who_must_be_protected_is_not_rung_by_an_engine_without_keys(bench: Bench) -> None:
    allow(bench, MediaPolicy(srtp=SrtpPolicy.REQUIRED))
    bench.control._context.router.srtp_suites = ()
    register(bench, UDP)
    outcome: list[object] = []
    dial(bench, outcome)
    bench.invite(offer=offered(Codec.PCMA))
    await bench.until(lambda: outcome)
    assert outcome == [Code.NO_COMMON_PROTECTION]
    assert not bench.user_agent.sessions


async def test_a_desk_phone_and_a_browser_ring_together(bench: Bench) -> None:
    allow(bench, MediaPolicy(srtp=SrtpPolicy.OPTIONAL))
    register(bench, UDP, UDP, WSS, phones=3)
    desk, second, browser = await rung(bench, offered(Codec.PCMA), 3)
    plain, same, dtls = (parse_sdp(each.sent_sdp).streams[0] for each in (desk, second, browser))
    assert plain.port == same.port != dtls.port
    before = set(bench.media.ports)
    browsers = LocalAudio(
        "127.0.0.1", 40002, srtp=SrtpPolicy.OPTIONAL, secrets=LocalSecrets(FINGERPRINT)
    )
    body, _ = answer(parse_sdp(browser.sent_sdp), browsers, session_id=1, version=1)
    browser.answer(body)
    await bench.until(lambda: "bridged" in bench.sink.names)
    left = {state.number for state in bench.media.ports.values()}
    assert dtls.port in left
    assert plain.port not in left
    assert len(before) - len(left) == 1
    browser.hang_up()
    await bench.settle()
    assert not bench.media.ports


async def test_the_next_way_may_be_of_another_kind(bench: Bench) -> None:
    allow(bench, MediaPolicy(srtp=SrtpPolicy.OPTIONAL))
    register(bench, WSS, UDP)
    (first,) = await rung(bench, offered(Codec.PCMA))
    assert b"a=fingerprint" in first.sent_sdp
    first.fail(Code.SIP_TIMEOUT)
    await bench.until(lambda: len(bench.user_agent.sessions) == 2)
    second = bench.user_agent.sessions[1]
    assert b"a=fingerprint" not in second.sent_sdp
    second.answer(offered(Codec.PCMA))
    await bench.until(lambda: "bridged" in bench.sink.names)
    assert len(bench.media.ports) == 2


async def test_phones_of_ipv6_get_an_address_of_theirs(bench: Bench) -> None:
    allow(bench, MediaPolicy())
    addresses = MediaAddresses(
        MediaAddress("127.0.0.1", "198.51.100.9"), MediaAddress("::1", "2001:db8::9")
    )
    object.__setattr__(bench.control._context, "addresses", addresses)
    register(bench, UDP, IPV6, phones=2)
    old, new = await rung(bench, offered(Codec.PCMA), 2)
    assert b"c=IN IP4 198.51.100.9\r\n" in old.sent_sdp
    assert b"c=IN IP6 2001:db8::9\r\n" in new.sent_sdp
    (_, first), (_, second) = (
        (each, parse_sdp(each.sent_sdp).streams[0].port) for each in (old, new)
    )
    assert first != second


async def test_a_caller_of_ipv6_is_answered_by_ipv6(bench: Bench) -> None:
    allow(bench, MediaPolicy())
    addresses = MediaAddresses(MediaAddress("127.0.0.1"), MediaAddress("::1"))
    object.__setattr__(bench.control._context, "addresses", addresses)
    offer = build_offer("2001:db8::5", 40000, session_id=1, version=1)
    caller = bench.invite(offer=offer)
    await bench.until(lambda: bench.call)
    assert bench.call is not None
    await bench.call.answer()
    assert caller.accepted_sdp is not None
    assert b"c=IN IP6 ::1\r\n" in caller.accepted_sdp


async def test_a_browser_calls_through_a_policy_that_lets_it(bench: Bench) -> None:
    allow(bench, MediaPolicy(), srtp="optional")
    bench.handler = answered(lambda call: call.play([]))  # type: ignore[arg-type,return-value]
    caller = bench.invite(offer=BROWSER)
    await bench.settle()
    assert caller.accepted_sdp is not None
    assert b"a=setup:passive" in caller.accepted_sdp
    allow(bench, MediaPolicy())
    refused = bench.invite(offer=BROWSER)
    assert refused.rejected == 488
    assert bench.sink.events[-1].cause == Code.NO_COMMON_PROTECTION


async def test_a_phone_that_is_held_keeps_its_protection(bench: Bench) -> None:
    allow(bench, MediaPolicy(srtp=SrtpPolicy.REQUIRED))
    register(bench, UDP)
    (phone,) = await rung(bench, offered(Codec.PCMA))
    theirs = LocalAudio("127.0.0.1", 40002, srtp=SrtpPolicy.REQUIRED)
    body, agreed = answer(parse_sdp(phone.sent_sdp), theirs, session_id=1, version=1)
    assert agreed.srtp is not None
    phone.answer(body)
    await bench.until(lambda: "bridged" in bench.sink.names)
    ours = phone.observer.on_reoffer(b"")
    assert isinstance(ours, bytes)
    (stream,) = parse_sdp(ours).streams
    assert stream.protocol == "RTP/SAVP"
    assert stream.values("crypto") == parse_sdp(phone.sent_sdp).streams[0].values("crypto")
    again = build_any_offer(
        theirs, session_id=1, version=2, protection=Protection.SDES, former=[stream]
    )
    assert isinstance(phone.observer.on_reoffer(again), bytes)
    plain = phone.observer.on_reoffer(offered(Codec.PCMA))
    assert plain is Code.NO_COMMON_PROTECTION


async def test_the_engine_is_told_both_numbers_of_a_codec(bench: Bench) -> None:
    allow(bench, MediaPolicy((Codec.OPUS,)), codecs="opus")
    register(bench, UDP)
    (phone,) = await rung(bench, offered(Codec.OPUS))
    assert codecs_of(phone.sent_sdp) == ["111"]
    answer = offered(Codec.OPUS).replace(b"111", b"96").replace(b"110", b"97")
    phone.answer(answer)
    await bench.until(lambda: "bridged" in bench.sink.names)
    connected = [port.connected for port in bench.media.ports.values() if port.connected]
    (theirs,) = (each for each in connected if each.payload_type == 96)
    assert theirs.receive_payload_type == 111
    assert (theirs.digit_payload_type, theirs.receive_digit_payload_type) == (97, 110)
