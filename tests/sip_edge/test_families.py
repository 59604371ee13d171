"""A call between a phone on IPv6 over UDP and one on IPv4 over TCP, both ways."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from cti.media_engine import RtpEngine
from domain.failures import Code
from domain.ids import TenantId
from tests.call_control.conftest import engine
from tests.call_control.party import PartyCall
from tests.call_control.platform import until
from tests.fakes.descriptions import build_offer
from tests.sip_edge.exchange import DeskPhone, Exchange
from tests.sip_edge.platform import TENANT

__all__ = ["engine"]

pytestmark = pytest.mark.stores

SDP = build_offer("127.0.0.1", 46002, session_id=1, version=1)


class Site:
    """A node that listens on both families, a phone 1001 on IPv6, and 1002 on IPv4 over TCP."""

    def __init__(self, node: Exchange, six: DeskPhone, four: DeskPhone) -> None:
        self.node = node
        self.six = six
        self.four = four


@pytest.fixture
async def site(redis: Redis, engine: RtpEngine, tmp_path: Path) -> AsyncIterator[Site]:
    node = Exchange("main", redis, engine, tmp_path)
    await node.start()
    at_six = await node.endpoint.listen("udp", "::1", 0)
    six, four = DeskPhone(), DeskPhone()
    six.user = "1001"
    await six.endpoint.listen("udp", "::1", 0)
    await four.listen("tcp")
    await four.register(node, "tcp")
    node.addresses["udp"] = at_six
    await six.register(node)
    yield Site(node, six, four)
    await until(lambda: node.agent.session_count == 0 and node.control.calls == 0)
    for each in (six, four, node):
        await each.aclose()


def _user(phone: DeskPhone) -> tuple[TenantId, str]:
    return TENANT, phone.user


def via_and_contact(call: PartyCall) -> tuple[str, str]:
    """Via and Contact of the node in the INVITE that a phone was rung by."""
    assert call.session is not None
    request = call.session.request
    return str(request.top_via), request.headers.get("Contact") or ""


@pytest.mark.parametrize("caller_hangs_up", [True, False])
@pytest.mark.parametrize("from_six", [True, False])
async def test_phones_of_both_families_talk(
    site: Site, from_six: bool, caller_hangs_up: bool
) -> None:
    caller, callee = (site.six, site.four) if from_six else (site.four, site.six)
    call = caller.dial(site.node, callee.user, SDP, "udp" if from_six else "tcp")
    rung = await callee.next_call()
    via, contact = via_and_contact(rung)
    if from_six:
        assert "SIP/2.0/TCP 127.0.0.1:" in via
        assert contact.startswith("<sip:127.0.0.1:")
        assert contact.endswith(";transport=tcp>")
    else:
        assert via.startswith("SIP/2.0/UDP [::1]:")
        assert contact.startswith("<sip:[::1]:")
    rung.sdp = SDP
    rung.answer()
    answer = await call.until_answered()
    assert b"c=IN IP4 127.0.0.1" in answer
    await rung.until_answered()
    ending, other = (call, rung) if caller_hangs_up else (rung, call)
    ending.hang_up()
    assert (await other.until_ended()).by_peer


async def test_bindings_of_both_families(site: Site) -> None:
    (six,) = await site.node.contacts.lookup(*_user(site.six))
    (four,) = await site.node.contacts.lookup(*_user(site.four))
    assert (six.hop.transport, six.hop.host) == ("udp", "::1")
    assert six.contact_uri.startswith("sip:1001@[::1]:")
    assert (four.hop.transport, four.hop.host) == ("tcp", "127.0.0.1")


async def test_media_of_the_other_family_is_refused(site: Site) -> None:
    """Media of a node are of one family, that of `media.local_ip`."""
    offer = build_offer("::1", 46002, session_id=1, version=1)
    call = site.six.dial(site.node, site.four.user, offer)
    end = await call.until_ended()
    assert end.status == 488
    assert end.code is Code.NO_COMMON_CODEC
