"""Calls under way: a caller of a flow with an agent, and phones with each other."""

from __future__ import annotations

from cti.call import Call, DialTarget, HangUpParty, JsonValue, Leg
from tests.call_control.conftest import answered
from tests.call_control.exchange import Exchange, Phone
from tests.call_control.party import Party, PartyCall
from tests.call_control.platform import until


class Service:
    """A flow that connects its callers to phone 1001, recorded, and says goodbye after."""

    def __init__(self) -> None:
        self.transferred: list[Leg] = []
        self.ends: list[HangUpParty] = []
        self.flows: list[str] = []
        self.data: list[dict[str, JsonValue]] = []

    async def run(self, call: Call) -> None:
        self.flows.append(call.info.flow)
        self.data.append(dict(call.data))
        if call.info.flow == "b":
            await call.collect(first_digit_timeout_ms=60_000)
            return
        leg = await call.dial(DialTarget("1001", call.info.caller), timeout_ms=5000)
        end = await call.bridge(leg, record_party="1001", on_transferred=self.transferred.append)
        self.ends.append(end.by)


async def serve(exchange: Exchange, carrier: Party) -> tuple[Service, Phone, PartyCall, PartyCall]:
    """Let a caller talk to the agent at phone 1001; return both sides of that call."""
    service = Service()
    exchange.handler = answered(service.run)
    agent = exchange.phones.get("1001") or await exchange.phone("1001")
    caller = carrier.call("95598", exchange.hop)
    phone = await agent.next_call()
    phone.answer()
    await until(lambda: exchange.are_talking(caller, phone))
    return service, agent, caller, phone


async def connected(exchange: Exchange, one: Phone, two: Phone) -> tuple[PartyCall, PartyCall]:
    call = one.dial(two.user)
    other = await two.next_call()
    other.answer()
    await call.until_answered()
    await until(lambda: exchange.are_talking(call, other))
    return call, other
