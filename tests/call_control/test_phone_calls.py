"""Calls of phones, outside calls over several trunks, early media and hold, on real SIP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cti.admission import TenantAccess
from cti.call import Call, DialTarget
from cti.sdp import Direction
from cti.settings import AccessCodeSettings, TrunkSettings
from cti.shared.contacts import Way
from cti.sip.transactions.timers import Timers
from domain.failures import Code
from tests.call_control.conftest import TENANT, answered
from tests.call_control.exchange import Exchange, Phone, Transferor, exchange_on, held
from tests.call_control.party import PartyCall
from tests.call_control.platform import until
from tests.fakes.media import FakeMedia


@pytest.fixture
async def exchange(tmp_path: Path) -> AsyncIterator[Exchange]:
    async with exchange_on(tmp_path, FakeMedia()) as running:
        yield running


@pytest.fixture
async def one(exchange: Exchange) -> Phone:
    return await exchange.phone("1001")


@pytest.fixture
async def two(exchange: Exchange) -> Phone:
    return await exchange.phone("1002")


async def settled(exchange: Exchange) -> None:
    await until(lambda: exchange.control.calls == 0)


async def test_one_phone_calls_another(exchange: Exchange, one: Phone, two: Phone) -> None:
    call = one.dial("1002")
    rung = await two.next_call()
    assert rung.session is not None
    assert str(rung.session.request.from_.uri) == "sip:1001@cti95598"
    assert int(rung.session.request.headers.get("Max-Forwards") or 0) == 69
    await call.until_progress(180)
    rung.answer()
    await call.until_answered()
    await until(lambda: exchange.are_talking(call, rung))
    rung.hang_up()
    await call.until_ended()
    await settled(exchange)
    arrived = exchange.sink.one("call_arrived")
    assert (arrived.phone, arrived.trunk, arrived.caller, arrived.called) == (
        "1001", "", "1001", "1002",
    )  # fmt: skip
    assert exchange.sink.cause("leg_ended") == Code.FAR_END_HUNG_UP
    assert exchange.sink.cause("call_ended") == Code.FAR_END_HUNG_UP


@pytest.mark.parametrize(("code", "status"), [(Code.BUSY, 486), (Code.DECLINED, 603)])
async def test_what_the_far_end_says_is_relayed(
    exchange: Exchange, one: Phone, two: Phone, code: Code, status: int
) -> None:
    call = one.dial("1002")
    (await two.next_call()).hang_up(code)
    assert (await call.until_ended()).status == status
    await settled(exchange)
    assert exchange.sink.one("call_ended").sip_status == status


async def test_a_phone_that_gives_up(exchange: Exchange, one: Phone, two: Phone) -> None:
    call = one.dial("1002")
    rung = await two.next_call()
    call.hang_up()
    assert (await rung.until_ended()).status == 487
    await settled(exchange)
    assert exchange.sink.cause("call_ended") == Code.CALLER_ABANDONED


async def test_who_may_call(exchange: Exchange, one: Phone, two: Phone) -> None:
    one.password = "wrong"
    assert (await one.dial("1002").until_ended()).status == 401
    assert exchange.failed_sign_ins == ["1001"]
    assert not exchange.sink.events
    one.password = "secret-1001"
    one.user = "1999"  # nobody's
    assert (await one.dial("1002").until_ended()).status == 404
    one.user = "1001"
    stranger = await exchange.phone("2001")
    assert (await stranger.dial("1002").until_ended()).status in {480, 503}  # a trunk's business
    assert (await one.dial("ab-cd").until_ended()).status == 404
    assert two.incoming.empty()
    assert exchange.strangers == []  # a challenge and a wrong password are no strangers' calls


async def test_calls_of_phones_count_in_the_limit_of_an_access_code(
    exchange: Exchange, one: Phone, two: Phone
) -> None:
    elsewhere = TrunkSettings.model_validate({"name": "carrier", "addresses": ["192.0.2.1"]})
    code = AccessCodeSettings(code="4001", flow="b", max_calls=1)
    exchange.admission.load([TenantAccess(TENANT, [elsewhere], [code])])
    first = one.dial("4001")
    await until(lambda: exchange.control.calls == 1)
    end = await two.dial("4001").until_ended()
    assert end.status == 503
    assert exchange.sink.cause("call_refused") == Code.ACCESS_CODE_BUSY
    assert [each.access_code for each in exchange.arrived()] == ["4001", "4001"]
    first.hang_up()
    await settled(exchange)
    again = two.dial("4001")
    await until(lambda: exchange.control.calls == 1)
    again.hang_up()
    await settled(exchange)


async def test_a_phone_calls_over_a_trunk(exchange: Exchange, one: Phone) -> None:
    carrier = await exchange.carrier()
    exchange.trunks.carriers = [carrier]
    call = one.dial("13900001111")
    rung = await carrier.next_call()
    rung.answer()
    await until(lambda: exchange.are_talking(call, rung))
    call.hang_up()
    await rung.until_ended()
    await settled(exchange)
    assert exchange.sink.one("leg_ended").trunk == "carrier-0"


async def test_early_media_of_a_carrier_is_heard_and_ends_with_the_failure(
    exchange: Exchange, one: Phone
) -> None:
    carrier = await exchange.carrier()
    carrier.rings_by_itself = False
    exchange.trunks.carriers = [carrier]
    call = one.dial("13900001111")
    rung = await carrier.next_call()
    rung.ring(with_media=True)
    await call.until_progress(183)
    await until(lambda: exchange.are_talking(call, rung))
    assert not call.answered.done()
    assert rung.session is not None
    rung.session.reject(status=404)
    assert (await call.until_ended()).status == 404
    await settled(exchange)
    assert exchange.trunks.reports == [("carrier-0", 404)]


async def test_early_media_then_the_answer(exchange: Exchange, one: Phone) -> None:
    carrier = await exchange.carrier()
    carrier.rings_by_itself = False
    exchange.trunks.carriers = [carrier]
    call = one.dial("13900001111")
    rung = await carrier.next_call()
    rung.ring(with_media=True)
    await until(lambda: exchange.are_talking(call, rung))
    rung.answer()
    await call.until_answered()
    await until(lambda: "bridged" in exchange.sink.names)
    assert exchange.are_talking(call, rung)
    call.hang_up()
    await settled(exchange)


@pytest.mark.parametrize("fault", ["silent", "503", "gone", "full", "trying"])
async def test_the_next_trunk_is_taken(exchange: Exchange, one: Phone, fault: str) -> None:
    first, second = await exchange.carrier(), await exchange.carrier()
    exchange.trunks.carriers = [first, second]
    first.rings_by_itself = False
    if fault == "silent":
        exchange.endpoint.timers = Timers(t1_s=0.02)  # else it listens for late answers for 32 s
        first.endpoint.on_message = lambda *_: None  # type: ignore[method-assign]
    elif fault == "503":
        first.refuses_with = 503
    elif fault == "gone":
        await first.endpoint.aclose()
    elif fault == "full":
        exchange.trunks.full = {"carrier-0"}
    call = one.dial("13900001111")
    rung = await second.next_call()
    rung.answer()
    await until(lambda: exchange.are_talking(call, rung))
    if fault == "trying":
        late = await first.next_call()  # it had our INVITE, and hears that it is not wanted
        assert (await late.until_ended()).status == 487
    rung.hang_up()
    await call.until_ended()
    await settled(exchange)
    assert exchange.trunks.reports[-1] == ("carrier-1", 200)
    assert exchange.sink.one("leg_ended").trunk == "carrier-1"


async def test_a_carrier_that_asks_to_be_left_alone(exchange: Exchange, one: Phone) -> None:
    first, second = await exchange.carrier(), await exchange.carrier()
    exchange.trunks.carriers = [first, second]
    first.refuses_with = 503
    first.refusal_headers = [("Retry-After", "17 (maintenance);duration=60")]
    call = one.dial("13900001111")
    await second.next_call()
    assert exchange.trunks.asked_to_wait_s == [17]
    call.hang_up()
    await settled(exchange)


async def test_who_rang_is_not_tried_elsewhere(exchange: Exchange, one: Phone) -> None:
    first, second = await exchange.carrier(), await exchange.carrier()
    exchange.trunks.carriers = [first, second]
    call = one.dial("13900001111")
    rung = await first.next_call()
    await call.until_progress(180)
    assert rung.session is not None
    rung.session.reject(status=503)
    assert (await call.until_ended()).status == 503
    await settled(exchange)
    assert second.incoming.empty()


async def test_the_caller_of_a_flow_waits_with_music_while_trunks_fail(exchange: Exchange) -> None:
    async def body(call: Call) -> None:
        call.start_music([Path("waiting.wav")])
        target = DialTarget("13900001111", call.info.caller, outside=True)
        await call.bridge(await call.dial(target, timeout_ms=5000))

    exchange.handler = answered(body)
    dead, alive, from_ = [await exchange.carrier() for _ in range(3)]
    exchange.trunks.carriers = [dead, alive]
    await dead.endpoint.aclose()
    caller = from_.call("95598", exchange.hop)
    rung = await alive.next_call()
    assert exchange.hears(caller) == ["waiting.wav"]
    rung.answer()
    await until(lambda: exchange.are_talking(caller, rung))
    caller.hang_up()
    await settled(exchange)
    await from_.endpoint.aclose()


@pytest.mark.parametrize(
    ("direction", "ip"),
    [
        (Direction.SENDONLY, "127.0.0.1"),
        (Direction.INACTIVE, "127.0.0.1"),
        (Direction.SENDRECV, "0.0.0.0"),  # RFC 2543
    ],
)
@pytest.mark.parametrize("by_caller", [True, False])
@pytest.mark.parametrize("has_music", [True, False])
async def test_hold_and_resume(
    exchange: Exchange,
    one: Phone,
    two: Phone,
    direction: Direction,
    ip: str,
    by_caller: bool,
    has_music: bool,
) -> None:
    if not has_music:
        exchange.hold_music = []
    call = one.dial("1002")
    rung = await two.next_call()
    rung.answer()
    await call.until_answered()
    await until(lambda: exchange.are_talking(call, rung))
    holder, other = (call, rung) if by_caller else (rung, call)
    assert holder.session is not None
    holder.session.reinvite(held(holder, direction, ip))
    await until(lambda: exchange.media_timeout_ms(holder) == 0)
    assert exchange.hears(other) == (["hold.wav"] if has_music else [])
    assert exchange.hears(holder) == []
    assert exchange.media_timeout_ms(other) > 0
    holder.session.reinvite(held(holder, Direction.SENDRECV))
    await until(lambda: exchange.media_timeout_ms(holder) > 0)
    assert exchange.hears(other) == []
    assert exchange.are_talking(call, rung)
    holder.session.reinvite(held(holder, direction, ip))
    await until(lambda: exchange.media_timeout_ms(holder) == 0)
    other.hang_up()
    await holder.until_ended()
    await settled(exchange)


@pytest.mark.parametrize("fault", ["gone", "503"])
async def test_a_phone_is_reached_by_its_next_way(
    exchange: Exchange, one: Phone, two: Phone, fault: str
) -> None:
    edge = await exchange.carrier()
    edge.refuses_with = 503
    if fault == "gone":
        await edge.endpoint.aclose()
    exchange.ways_before["1002"] = Way(edge.hop, (), edge.contact("1002"))
    call = one.dial("1002")
    rung = await two.next_call()
    rung.answer()
    await until(lambda: exchange.are_talking(call, rung))
    call.hang_up()
    await rung.until_ended()
    await settled(exchange)
    assert exchange.sink.names.count("leg_started") == 1
    await edge.endpoint.aclose()


async def test_what_an_invite_tells_of_its_caller_is_attached(exchange: Exchange) -> None:
    calls: list[Call] = []

    async def handler(call: Call) -> None:
        calls.append(call)

    exchange.handler = handler
    carrier = await exchange.carrier()
    call = PartyCall(carrier.sdp)
    call.session = carrier.user_agent.invite(
        f"sip:95598@{exchange.hop.host}:{exchange.hop.port}",
        from_="sip:anonymous@anonymous.invalid",
        hop=exchange.hop,
        sdp=carrier.sdp,
        observer=call,
        headers=[
            ("P-Asserted-Identity", "<tel:+8613812345678>"),
            ("Privacy", "id"),
            ("Diversion", "<sip:057112345@c.example>;reason=no-answer"),
            ("User-to-User", "56a390f3d2b7310023a2;encoding=hex"),
            ("User-to-User", "account 12"),
        ],
    )
    await call.until_ended()
    (arrived,) = calls
    assert arrived.info.caller == "13812345678"
    assert arrived.info.withheld
    assert arrived.data["caller_withheld"] is True
    assert arrived.data["diverted_from"] == "057112345"
    await carrier.endpoint.aclose()


async def test_a_withheld_number_is_not_shown_to_phones(
    exchange: Exchange, one: Phone, two: Phone
) -> None:
    call = one.dial("1002", headers=[("Privacy", "id")])
    rung = await two.next_call()
    assert rung.session is not None
    assert b"1001" not in rung.session.request.to_bytes()
    assert exchange.sink.one("call_arrived").withheld
    call.hang_up()
    await rung.until_ended()
    await settled(exchange)


async def test_a_loop_of_calls_ends(exchange: Exchange, one: Phone) -> None:
    exchange.phones["1002"] = one
    exchange.ways_before["1002"] = Way(exchange.hop, (), f"sip:95598@{exchange.hop.host}")

    async def handler(call: Call) -> None:
        await call.dial(DialTarget("1002", call.info.caller), timeout_ms=5000)

    exchange.handler = handler
    carrier = await exchange.carrier()
    call = carrier.call("95598", exchange.hop)
    assert (await call.until_ended()).status >= 400
    await settled(exchange)
    arrived = exchange.sink.names.count("call_arrived")
    assert 1 < arrived <= 70
    await carrier.endpoint.aclose()


async def test_far_ends_of_trunks_may_transfer_only_where_it_is_allowed(
    exchange: Exchange, one: Phone, two: Phone
) -> None:
    carrier = await exchange.carrier()
    exchange.trunks.carriers = [carrier]
    call = one.dial("13900001111")
    rung = await carrier.next_call()
    rung.answer()
    await until(lambda: exchange.are_talking(call, rung))
    asks = Transferor(carrier, rung)
    asks.refer("sip:1002@cti95598")
    await until(lambda: asks.status)
    assert asks.status == 403
    exchange.may_trunks_transfer(True)
    asks.refer("sip:1002@cti95598")
    other = await two.next_call()
    other.answer()
    await until(lambda: exchange.are_talking(call, other))
    await rung.until_ended()
    call.hang_up()
    await settled(exchange)
