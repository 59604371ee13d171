"""No leg shows anything of another (RFC 3323): what is sent to one party is its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from cti.sdp import Direction
from cti.sip.messages.message import Request, Response
from cti.sip.transports.transport import Hop
from tests.call_control.exchange import Exchange, Transferor, exchange_on, held
from tests.call_control.party import Party
from tests.call_control.platform import until
from tests.call_control.talking import connected, serve
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


class Tapped:
    """A party and all that it is sent."""

    def __init__(self, party: Party) -> None:
        self.party = party
        self.received: list[bytes] = []
        self._deliver: Callable[..., None] = party.endpoint.on_message
        party.endpoint.on_message = self._take  # type: ignore[method-assign]

    def _take(self, message: Request | Response, source: Hop) -> None:
        self.received.append(message.to_bytes())
        self._deliver(message, source)

    def call_ids(self) -> list[str]:
        """Of its own calls."""
        return [call.session.call_id for call in self.party.calls if call.session is not None]

    def secrets(self) -> set[str]:
        """What nobody else may be sent."""
        found = {f":{self.party.hop.port}"} | self._branches()
        for call in self.party.calls:
            assert call.session is not None
            session = call.session
            found |= {session.call_id, session.local_tag, session.remote_tag}
            found.add("m=audio " + call.sdp.split(b"m=audio ")[1].split()[0].decode() + " ")
        return found

    def _branches(self) -> set[str]:
        return {
            line.split("branch=")[1].split(";")[0]
            for message in self.received
            for line in message.decode().split("\r\n")
            if line.lower().startswith("via:")
        }


def assert_apart(*tapped: Tapped, words: tuple[str, ...] = ()) -> None:
    """Read all that anybody was sent; `words` were told to the platform only."""
    for one in tapped:
        assert one.received
        wire = b"\n".join(one.received)
        assert all(each.encode() in wire for each in one.call_ids())
        others = set(words).union(*(other.secrets() for other in tapped if other is not one))
        assert [each for each in others if each.encode() in wire] == []


async def settled(exchange: Exchange) -> None:
    await until(lambda: exchange.control.calls == 0)


async def test_a_call_over_a_trunk(exchange: Exchange, carrier: Party) -> None:
    one = await exchange.phone("1001")
    exchange.trunks.carriers = [carrier]
    tapped = Tapped(one), Tapped(carrier)
    call = one.dial("13900001111", headers=[("X-Inner", "inner-9f3c"), ("User-Agent", "desk-77")])
    rung = await carrier.next_call()
    rung.answer()
    await until(lambda: exchange.are_talking(call, rung))
    assert call.session is not None
    call.session.reinvite(held(call, Direction.SENDONLY))
    await until(lambda: exchange.media_timeout_ms(call) == 0)
    rung.hang_up()
    await call.until_ended()
    await settled(exchange)
    assert_apart(*tapped, words=("inner-9f3c", "desk-77"))


REFERRED_BY = ("Referred-By", "<sip:1001@desk-9f3c.example>")


@pytest.mark.parametrize("target", ["1002", "13900001111"])
async def test_a_blind_transfer(exchange: Exchange, carrier: Party, target: str) -> None:
    agent = await exchange.phone("1001")
    expert = await exchange.phone("1002") if target == "1002" else await exchange.carrier()
    exchange.trunks.carriers = [expert]
    tapped = Tapped(carrier), Tapped(agent), Tapped(expert)
    _, _, caller, phone = await serve(exchange, carrier)
    asks = Transferor(agent, phone)
    asks.refer(f"sip:{target}@desk-9f3c.example", headers=[REFERRED_BY])
    ringing = await expert.next_call()
    await asks.told(180)
    ringing.answer()
    await until(lambda: exchange.are_talking(caller, ringing))
    await asks.told(200)
    await phone.until_ended()
    ringing.hang_up()
    await caller.until_ended()
    await settled(exchange)
    assert_apart(*tapped, words=("desk-9f3c", "Referred-By", "Replaces:", "Refer-To"))


async def test_an_attended_transfer(exchange: Exchange, carrier: Party) -> None:
    agent, expert = await exchange.phone("1001"), await exchange.phone("1002")
    tapped = Tapped(carrier), Tapped(agent), Tapped(expert)
    _, _, caller, phone = await serve(exchange, carrier)
    asking, asked = await connected(exchange, agent, expert)
    asks = Transferor(agent, phone)
    asks.refer("sip:1002@desk-9f3c.example", attended=asking, headers=[REFERRED_BY])
    await until(lambda: exchange.are_talking(caller, asked))
    await asks.told(200)
    await phone.until_ended()
    await asking.until_ended()
    asked.hang_up()
    await caller.until_ended()
    await settled(exchange)
    assert_apart(*tapped, words=("desk-9f3c", "Referred-By", "Replaces:", "Refer-To"))
