"""From INVITE to handler or refusal, and what is left on record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cti.admission import Admission, Refused
from cti.call import Call, CallInfo
from cti.sip.transports.transport import Hop, TransportName
from cti.trunks.settings import LandingCodeSource
from domain.failures import Code, PlatformError
from tests.call_control.conftest import TENANT, Bench, answered
from tests.call_control.test_admission import DIGEST, Phonebook, access
from tests.fakes.session import FakeSession, make_invite


async def test_a_call_arrives_with_all_that_is_known(bench: Bench) -> None:
    seen: list[tuple[CallInfo, str]] = []

    async def handler(call: Call) -> None:
        seen.append((call.info, call.language))

    bench.handler = answered(handler)
    request = make_invite(
        "+864001",
        "anonymous",
        headers=[("P-Asserted-Identity", '"Li" <tel:+86-138-1234-5678>')],
    )
    session = bench.invite(request=request)
    await bench.settle()
    ((info, language),) = seen
    assert info.tenant == TENANT
    assert (info.caller, info.called, info.access_code) == ("13812345678", "4001", "4001")
    assert (info.flow, info.trunk, language) == ("english", "carrier", "en")
    assert session.accepted_sdp
    assert bench.sink.names == ["call_arrived", "call_answered", "call_ended"]
    assert bench.sink.one("call_arrived").sip_call_id == "secret-call-id@carrier"
    ended = bench.sink.one("call_ended")
    assert (ended.sip_status, ended.media.packets_received) == (200, 90)
    assert bench.sink.cause("call_ended") == Code.FLOW_ENDED
    assert session.ended_with is Code.FLOW_ENDED
    assert not bench.media.ports


@pytest.mark.parametrize(
    ("session", "status", "code"),
    [
        ({"source": "192.0.2.1"}, 403, Code.TRUNK_UNKNOWN),
        ({"request": make_invite("10086")}, 404, Code.ACCESS_CODE_UNKNOWN),
        ({"offer": b"v=0\r\nrubbish"}, 400, Code.SDP_MALFORMED),
        (
            {
                "offer": b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\n"
                b"t=0 0\r\nm=audio 4000 RTP/AVP 18\r\n"
            },
            488,
            Code.NO_COMMON_CODEC,
        ),
    ],
)
async def test_refused_calls_leave_a_record(
    bench: Bench, session: dict[str, Any], status: int, code: Code
) -> None:
    invited = bench.invite(**session)
    assert invited.rejected == status
    assert bench.sink.names == ["call_arrived", "call_refused"]
    assert bench.sink.one("call_refused").sip_status == status
    assert bench.sink.cause("call_refused") == code
    assert bench.sink.one("call_arrived").caller == "13812345678"
    assert not bench.media.ports
    assert bench.control.calls == 0
    assert bench.control._admission.calls == 0
    assert bench.strangers == (["192.0.2.1"] if code is Code.TRUNK_UNKNOWN else [])


async def test_no_port_left(bench: Bench) -> None:
    bench.media.max_ports = 0
    session = bench.invite()
    assert session.rejected == 503
    assert dict(session.reject_headers)["Retry-After"]


async def test_draining_refuses_new_calls_and_keeps_old_ones(bench: Bench) -> None:
    old = bench.invite()
    bench.control.drain()
    new = bench.invite()
    assert new.rejected == 503
    assert dict(new.reject_headers)["Retry-After"]
    assert bench.control.calls == 1
    old.hang_up()
    await bench.settle()


async def test_strangers_are_cheap(bench: Bench) -> None:
    for _ in range(500):
        assert bench.invite(source="192.0.2.9").rejected == 403
    assert 2 <= len(bench.sink.events) <= 40


async def test_a_flow_that_is_missing(bench: Bench) -> None:
    async def handler(call: Call) -> None:
        raise PlatformError(Code.FLOW_MISSING, call.info.flow)

    bench.handler = handler
    session = bench.invite()
    await bench.settle()
    assert session.rejected == 480
    assert bench.sink.one("call_ended").sip_status == 480
    assert bench.sink.cause("call_ended") == Code.FLOW_MISSING


async def test_a_handler_that_returns_unanswered(bench: Bench) -> None:
    async def handler(call: Call) -> None:
        return

    bench.handler = handler
    session = bench.invite()
    await bench.settle()
    assert session.rejected == 480


async def test_landing_code(bench: Bench, admission: Admission) -> None:
    (trunk,) = admission.trunks_of("127.0.0.1")
    trunk.landing_code = LandingCodeSource.DIVERSION
    bench.invite(request=make_invite(headers=[("Diversion", "<sip:0571@c>;reason=unknown")]))
    assert bench.sink.one("call_arrived").landing_code == "0571"
    bench.sink.events.clear()
    bench.invite(request=make_invite(headers=[("Diversion", "<<<")]))
    assert bench.sink.one("call_arrived").landing_code == ""
    bench.sink.events.clear()
    trunk.landing_code = LandingCodeSource.TO_USER
    bench.invite()
    assert bench.sink.one("call_arrived").landing_code == "95598"
    await bench.control.aclose()


async def test_an_invite_without_offer_gets_ours(bench: Bench) -> None:
    session = FakeSession(offer=b"")
    session.acknowledges_at_once = False
    bench.invite(session)
    bench.handler = answered(bench.handler)
    await bench.until(lambda: session.accepted_sdp)
    (port,) = bench.media.ports.values()
    assert port.connected is None
    session.acknowledge(FakeSession().offer)
    assert port.connected is not None
    assert port.connected.remote_port == 40000
    session.hang_up()
    await bench.settle()


async def test_a_caller_who_gives_up_before_the_handler_ran(bench: Bench) -> None:
    session = bench.invite()
    session.hang_up()
    await bench.settle()
    assert bench.call is None
    assert bench.sink.cause("call_ended") == Code.CALLER_ABANDONED
    assert bench.sink.one("call_ended").sip_status == 487


async def test_close_hangs_up_everyone(bench: Bench) -> None:
    sessions = [bench.invite() for _ in range(3)]
    await bench.control.aclose()
    assert bench.control.calls == 0
    assert [session.rejected for session in sessions] == [503] * 3


@pytest.mark.parametrize(("transport", "is_told"), [("tcp", True), ("tls", True), ("udp", False)])
async def test_who_guesses_a_trunks_password_is_told_where_the_address_is_sure(
    tmp_path: Path, transport: TransportName, is_told: bool
) -> None:
    admission = Admission([access(trunks=[DIGEST])])
    book = Phonebook(admission)
    asked = admission.admit_invite(make_invite(), "198.51.100.7", 1.0)
    assert isinstance(asked, Refused)
    bench = Bench(tmp_path, admission)
    guess = FakeSession(request=book.answer(asked, "guess"), source="198.51.100.7")
    guess.hop = Hop(transport, "198.51.100.7", 5090)
    bench.invite(guess)
    assert guess.rejected == 401
    assert bench.strangers == (["198.51.100.7"] if is_told else [])
