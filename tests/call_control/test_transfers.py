"""Transfers of each kind on real SIP: who talks to whom afterwards, and what is on record."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cti.call import HangUpParty
from domain.failures import Code
from tests.call_control.conftest import answered
from tests.call_control.exchange import Exchange, Transferor, exchange_on, replaces
from tests.call_control.party import Party
from tests.call_control.platform import until
from tests.call_control.talking import Service, connected, serve
from tests.fakes.media import FakeMedia


@pytest.fixture
async def exchange(tmp_path: Path) -> AsyncIterator[Exchange]:
    async with exchange_on(tmp_path, FakeMedia()) as running:
        yield running


@pytest.fixture
async def carrier(exchange: Exchange) -> AsyncIterator[Party]:
    party = await exchange.carrier()
    yield party
    await party.endpoint.aclose()


async def settled(exchange: Exchange) -> None:
    await until(lambda: exchange.control.calls == 0)


async def test_blind_by_the_agent(exchange: Exchange, carrier: Party) -> None:
    service, agent, caller, phone = await serve(exchange, carrier)
    expert = await exchange.phone("1002")
    asks = Transferor(agent, phone)
    asks.refer("sip:1002@cti95598")
    ringing = await expert.next_call()
    assert asks.status == 202
    assert exchange.hears(caller) == ["hold.wav"]
    assert not exchange.talks_to(phone)
    await asks.told(180)
    ringing.answer()
    await until(lambda: exchange.are_talking(caller, ringing))
    await asks.told(200)
    await phone.until_ended()
    assert len(service.transferred) == 1
    assert not service.ends
    ringing.hang_up()
    await caller.until_ended()
    await settled(exchange)
    assert service.ends == [HangUpParty.FAR_END]
    names = exchange.sink.names
    assert names.count("recording_started") == names.count("recording_finished") == 1
    assert names.count("bridged") == names.count("unbridged") == 2
    ended = exchange.sink.one("transfer_ended")
    assert (ended.kind, ended.sip_status) == ("blind", 200)
    assert exchange.sink.one("transfer_requested").target == "sip:1002@cti95598"


async def test_blind_to_a_phone_that_is_busy(exchange: Exchange, carrier: Party) -> None:
    service, agent, caller, phone = await serve(exchange, carrier)
    expert = await exchange.phone("1002")
    asks = Transferor(agent, phone)
    asks.refer("sip:1002@cti95598")
    (await expert.next_call()).hang_up(Code.BUSY)
    await asks.told(486)
    await until(lambda: exchange.are_talking(caller, phone))
    assert exchange.hears(caller) == []
    assert not service.transferred
    assert exchange.sink.cause("transfer_ended") == Code.BUSY
    phone.hang_up()
    await settled(exchange)
    assert exchange.sink.names.count("recording_started") == 1


@pytest.mark.parametrize("is_answered", [True, False])
async def test_an_agent_who_hangs_up_right_after_asking(
    exchange: Exchange, carrier: Party, is_answered: bool
) -> None:
    service, agent, caller, phone = await serve(exchange, carrier)
    expert = await exchange.phone("1002")
    Transferor(agent, phone).refer("sip:1002@cti95598")
    ringing = await expert.next_call()
    phone.hang_up()
    await until(phone.ended.done)
    if is_answered:
        ringing.answer()
        await until(lambda: exchange.are_talking(caller, ringing))
        caller.hang_up()
    else:
        ringing.hang_up(Code.DECLINED)
        await caller.until_ended()
        assert service.ends == [HangUpParty.FAR_END]
    await settled(exchange)


async def test_a_caller_who_hangs_up_during_a_transfer(exchange: Exchange, carrier: Party) -> None:
    _, agent, caller, phone = await serve(exchange, carrier)
    expert = await exchange.phone("1002")
    asks = Transferor(agent, phone)
    asks.refer("sip:1002@cti95598")
    ringing = await expert.next_call()
    caller.hang_up()
    assert (await ringing.until_ended()).status == 487
    await phone.until_ended()
    await settled(exchange)
    assert exchange.sink.cause("transfer_ended") == Code.CALLER_ABANDONED


async def test_blind_to_an_outside_number(exchange: Exchange, carrier: Party) -> None:
    _, agent, caller, phone = await serve(exchange, carrier)
    outside = await exchange.carrier()
    exchange.trunks.carriers = [outside]
    Transferor(agent, phone).refer("tel:+8613900001111")
    ringing = await outside.next_call()
    ringing.answer()
    await until(lambda: exchange.are_talking(caller, ringing))
    caller.hang_up()
    await ringing.until_ended()
    await settled(exchange)
    assert exchange.trunks.reports == [("carrier-0", 200)]


async def test_blind_back_into_another_flow(exchange: Exchange, carrier: Party) -> None:
    service, agent, caller, phone = await serve(exchange, carrier)
    asks = Transferor(agent, phone)
    asks.refer("sip:4001@cti95598")
    await phone.until_ended()
    await until(lambda: service.flows == ["main", "b"])
    assert not caller.ended.done()
    caller.hang_up()
    await settled(exchange)
    assert exchange.sink.cause("call_ended") == Code.CALLER_HUNG_UP


async def test_a_phone_that_called_another_is_sent_into_a_flow(exchange: Exchange) -> None:
    service = Service()
    exchange.handler = answered(service.run)
    one, two = await exchange.phone("1001"), await exchange.phone("1002")
    call, other = await connected(exchange, one, two)
    Transferor(two, other).refer("sip:4001@cti95598")
    await other.until_ended()
    await until(lambda: service.flows == ["b"])
    refused = Transferor(one, call)
    refused.refer("sip:1002@cti95598")  # a flow is nobody to be sent elsewhere
    await until(lambda: refused.status == 403)
    call.hang_up()
    await settled(exchange)


@pytest.mark.parametrize("target", ["1002", "13900001111", "4001"])
async def test_what_is_told_along_with_a_transfer(
    exchange: Exchange, carrier: Party, target: str
) -> None:
    service, agent, caller, phone = await serve(exchange, carrier)
    expert = await exchange.phone("1002")
    exchange.trunks.carriers = [await exchange.carrier()]
    asks = Transferor(agent, phone)
    asks.refer(
        f"sip:{target}@cti95598?User-to-User=04636f6e7472616374%3Bencoding%3Dhex"
        "&Subject=Meter%2012&X-Other=no"
    )
    if target == "1002":
        ringing = await expert.next_call()
        assert ringing.session is not None
        headers = ringing.session.request.headers
        assert headers.get("User-To-User") == "04636f6e7472616374;encoding=hex"
        assert headers.get("Subject") == "Meter 12"
        assert "X-Other" not in headers
    elif target == "4001":
        await until(lambda: service.flows == ["main", "b"])
        assert service.data[-1]["user_to_user"] == "contract"
    else:
        await exchange.trunks.carriers[0].next_call()
        assert exchange.trunks.passed is not None
        assert exchange.trunks.passed.text == "contract"
    caller.hang_up()
    await settled(exchange)


async def test_targets_that_do_not_exist(exchange: Exchange, carrier: Party) -> None:
    _, agent, caller, phone = await serve(exchange, carrier)
    asks = Transferor(agent, phone)
    for target in ("sip:nobody@cti95598", "sip:2001@cti95598", "sip:@evil.example"):
        asks.status = 0
        asks.refer(target)
        await until(lambda: asks.status)
        if target.startswith("sip:2001"):  # a phone of another tenant: a number for the trunks
            await asks.told(503)
        else:
            assert asks.status in {400, 404}
    assert exchange.are_talking(caller, phone)


async def test_callers_from_trunks_may_not_transfer(exchange: Exchange, carrier: Party) -> None:
    _, _, caller, phone = await serve(exchange, carrier)
    asks = Transferor(carrier, caller)
    asks.refer("sip:900190019001@cti95598")
    await until(lambda: asks.status)
    assert asks.status == 403
    assert exchange.are_talking(caller, phone)


async def test_blind_by_the_phone_that_called(exchange: Exchange) -> None:
    one, two, three = [await exchange.phone(f"100{each}") for each in (1, 2, 3)]
    call, other = await connected(exchange, one, two)
    asks = Transferor(one, call)
    asks.refer("sip:1003@cti95598")
    ringing = await three.next_call()
    assert exchange.hears(other) == ["hold.wav"]
    ringing.answer()
    await until(lambda: exchange.are_talking(other, ringing))
    await asks.told(200)
    await call.until_ended()
    asks_again = Transferor(three, ringing)  # who stands in the caller's place may do so too
    asks_again.refer("sip:1001@cti95598")
    back = await one.next_call()
    back.answer()
    await until(lambda: exchange.are_talking(other, back))
    await ringing.until_ended()
    back.hang_up()
    await other.until_ended()
    await settled(exchange)


@pytest.mark.parametrize("leaves", [False, True])
async def test_blind_by_the_phone_that_called_to_nobody(exchange: Exchange, leaves: bool) -> None:
    one, two, three = [await exchange.phone(f"100{each}") for each in (1, 2, 3)]
    call, other = await connected(exchange, one, two)
    Transferor(one, call).refer("sip:1003@cti95598")
    ringing = await three.next_call()
    if leaves:
        call.hang_up()
        await call.until_ended()
    ringing.hang_up(Code.BUSY)
    if leaves:
        await other.until_ended()
    else:
        await until(lambda: exchange.are_talking(call, other))
        other.hang_up()
        await call.until_ended()
    await settled(exchange)


async def test_attended_by_the_agent(exchange: Exchange, carrier: Party) -> None:
    service, agent, caller, phone = await serve(exchange, carrier)
    expert = await exchange.phone("1002")
    asking, asked = await connected(exchange, agent, expert)
    asks = Transferor(agent, phone)
    asks.refer("sip:1002@cti95598", attended=asking)
    await until(lambda: exchange.are_talking(caller, asked))
    await asks.told(200)
    await phone.until_ended()
    await asking.until_ended()
    assert len(service.transferred) == 1
    caller.hang_up()
    await asked.until_ended()
    await settled(exchange)
    assert exchange.sink.one("transfer_ended").kind == "attended"


async def test_attended_by_a_phone_that_called_both(exchange: Exchange) -> None:
    one, two, three = [await exchange.phone(f"100{each}") for each in (1, 2, 3)]
    first, second = await connected(exchange, one, two)
    asking, asked = await connected(exchange, one, three)
    Transferor(one, first).refer("sip:1003@cti95598", attended=asking)
    await until(lambda: exchange.are_talking(second, asked))
    await first.until_ended()
    await asking.until_ended()
    asked.hang_up()
    await second.until_ended()
    await settled(exchange)


async def test_attended_into_a_call_that_was_received(exchange: Exchange, carrier: Party) -> None:
    service, agent, caller, phone = await serve(exchange, carrier)
    expert = await exchange.phone("1002")
    asking, asked = await connected(exchange, agent, expert)
    Transferor(agent, asking).refer("sip:95598@cti95598", attended=phone)
    await until(lambda: exchange.are_talking(caller, asked))
    await phone.until_ended()
    await asking.until_ended()
    assert len(service.transferred) == 1
    asked.hang_up()
    await caller.until_ended()
    assert service.ends == [HangUpParty.FAR_END]
    await settled(exchange)


@pytest.mark.parametrize("first_leaves", [True, False])
async def test_attended_of_two_calls_that_came_in(
    exchange: Exchange, carrier: Party, first_leaves: bool
) -> None:
    service, agent, caller, phone = await serve(exchange, carrier)
    guest = await exchange.phone("1002")
    visiting, visited = await connected(exchange, guest, agent)
    Transferor(agent, phone).refer("sip:1002@cti95598", attended=visited)
    await until(lambda: exchange.are_talking(caller, visiting))
    await phone.until_ended()
    await visited.until_ended()
    leaver, other = (caller, visiting) if first_leaves else (visiting, caller)
    leaver.hang_up()
    await other.until_ended()
    await settled(exchange)
    assert exchange.sink.names.count("bridged") == exchange.sink.names.count("unbridged")
    assert service.ends == ([] if first_leaves else [HangUpParty.FAR_END])


async def test_attended_while_it_rings_yet(exchange: Exchange, carrier: Party) -> None:
    _, agent, caller, phone = await serve(exchange, carrier)
    expert = await exchange.phone("1002")
    asking = agent.dial("1002")
    first = await expert.next_call()
    await until(lambda: asking.session is not None and asking.session.remote_tag)
    asks = Transferor(agent, phone)
    asks.refer("sip:1002@cti95598", attended=asking)
    await first.until_ended()
    again = await expert.next_call()
    again.answer()
    await until(lambda: exchange.are_talking(caller, again))
    await asks.told(200)
    await phone.until_ended()
    caller.hang_up()
    await again.until_ended()
    await settled(exchange)


async def test_attended_before_the_own_ack_has_come(
    exchange: Exchange, carrier: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, agent, caller, phone = await serve(exchange, carrier)
    expert = await exchange.phone("1002")
    asking = agent.dial("1002")
    asked = await expert.next_call()
    with monkeypatch.context() as patch:
        patch.setattr(agent.endpoint, "send_ack", lambda *_: None)  # it is lost on its way
        asked.answer()
        await asking.until_answered()
        Transferor(agent, phone).refer("sip:1002@cti95598", attended=asking)
        await until(lambda: exchange.are_talking(caller, asked))
    await asking.until_ended()
    assert expert.incoming.empty()  # nobody rings the expert again
    caller.hang_up()
    await asked.until_ended()
    await settled(exchange)


async def test_attended_names_a_dialog_that_is_not_there(
    exchange: Exchange, carrier: Party
) -> None:
    _, agent, caller, phone = await serve(exchange, carrier)
    asks = Transferor(agent, phone)
    asks.refer("sip:1002@cti95598?Replaces=x%3Bto-tag%3Da%3Bfrom-tag%3Db")
    await until(lambda: asks.status)
    assert asks.status == 404
    asks.refer("sip:1002@cti95598", attended=phone)  # the call itself
    await until(lambda: asks.status == 403)
    assert exchange.are_talking(caller, phone)


async def test_a_colleague_picks_up_a_phone_that_rings(exchange: Exchange, carrier: Party) -> None:
    exchange.handler = answered(Service().run)
    agent, colleague = await exchange.phone("1001"), await exchange.phone("1002")
    caller = carrier.call("95598", exchange.hop)
    rings = await agent.next_call()
    # The colleague's phone knows the call by a dialog event: the phone's view of it.
    taken = colleague.dial("1001", headers=[replaces(rings)])
    await taken.until_answered()
    await until(lambda: exchange.are_talking(caller, taken))
    await rings.until_ended()
    taken.hang_up()
    await caller.until_ended()
    await settled(exchange)
    assert exchange.sink.one("transfer_ended").kind == "pickup"
    assert exchange.sink.names.count("call_arrived") == 1


async def test_a_phone_takes_a_conversation_over(exchange: Exchange, carrier: Party) -> None:
    service, _, caller, phone = await serve(exchange, carrier)
    colleague = await exchange.phone("1002")
    taken = colleague.dial("1001", headers=[replaces(phone)])
    await taken.until_answered()
    await until(lambda: exchange.are_talking(caller, taken))
    await phone.until_ended()
    assert len(service.transferred) == 1
    caller.hang_up()
    await taken.until_ended()
    await settled(exchange)


async def test_a_caller_moves_to_another_phone(exchange: Exchange) -> None:
    one, two, three = [await exchange.phone(f"100{each}") for each in (1, 2, 3)]
    call, other = await connected(exchange, one, two)
    moved = three.dial("1001", headers=[replaces(call)])
    await moved.until_answered()
    await until(lambda: exchange.are_talking(moved, other))
    await call.until_ended()
    other.hang_up()
    await moved.until_ended()
    await settled(exchange)


async def test_who_may_not_take_a_call_over(exchange: Exchange, carrier: Party) -> None:
    _, _, caller, phone = await serve(exchange, carrier)
    colleague, stranger = await exchange.phone("1002"), await exchange.phone("2001")
    unknown = ("Replaces", "nobody;to-tag=1;from-tag=2")
    assert (await colleague.dial("1001", headers=[unknown]).until_ended()).status == 481
    refused = await stranger.dial("1001", headers=[replaces(phone)]).until_ended()
    assert refused.status == 481
    colleague.password = "wrong"
    refused = await colleague.dial("1001", headers=[replaces(phone)]).until_ended()
    assert refused.status == 401
    assert exchange.are_talking(caller, phone)
