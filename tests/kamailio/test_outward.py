"""What a node sends to a carrier through Kamailio: it arrives, and shows nothing of the node."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kamailio.proxy import INNER
from tests.kamailio.site import Site
from tests.kamailio.wire import Wire

pytestmark = [pytest.mark.peer, pytest.mark.asyncio(loop_scope="session")]

NODE, CARRIER = "127.0.0.13", "127.0.0.21"


@pytest.fixture
def node() -> Iterator[Wire]:
    """What we need of a node here: something that sends from the inner network."""
    wire = Wire(NODE)
    yield wire
    wire.close()


@pytest.fixture
def carrier() -> Iterator[Wire]:
    wire = Wire(CARRIER)
    yield wire
    wire.close()


def is_hidden(message: str) -> bool:
    return NODE not in message and INNER not in message


async def test_a_call_out_hides_the_node_and_comes_back_to_it(
    site: Site, node: Wire, carrier: Wire
) -> None:
    route = f"Route: <sip:{site.proxy.inner};lr>"
    node.send(site.proxy.inner, "INVITE", f"sip:13800000009@{carrier.address}", route)
    invite = await carrier.receive("INVITE")
    assert is_hidden(invite)
    assert "X-Source-Address" not in invite
    carrier.answer(invite, "200 OK", f"Contact: <sip:carrier@{carrier.address}>")
    answer = await node.receive("SIP/2.0 200")
    assert f"Via: SIP/2.0/UDP {node.address}" in answer
    assert answer.count("Record-Route:") == 2


async def test_a_registration_asks_the_carrier_to_call_kamailio(
    site: Site, node: Wire, carrier: Wire
) -> None:
    route = f"Route: <sip:{site.proxy.inner};lr>"
    node.send(site.proxy.inner, "REGISTER", f"sip:{carrier.address}", route)
    register = await carrier.receive("REGISTER")
    assert is_hidden(register)
    assert f"Contact: <sip:line7@{site.proxy.server}>" in register
    carrier.answer(register, "200 OK")
    answer = await node.receive("SIP/2.0 200")
    assert answer.count("Via:") == 1
    assert f"Via: SIP/2.0/UDP {node.address}" in answer


async def test_a_phone_whose_connection_is_gone_is_said_to_be_unreachable_at_once(
    site: Site, node: Wire
) -> None:
    received = "sip:127.0.0.1:9%3Btransport%3Dws"
    route = f"Route: <sip:edge@{site.proxy.inner};lr;received={received};ob>"
    node.send(site.proxy.inner, "INVITE", "sip:1001@x.invalid;transport=ws", route)
    assert await node.receive("SIP/2.0 430", timeout_s=1)
