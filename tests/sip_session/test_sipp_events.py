"""Phones made of sipp transfer and subscribe, over UDP and TCP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cti.sdp import parse_sdp
from cti.sip.events.refer import ReferService
from cti.sip.sessions.session import InviteSession, Referral, SessionObserverBase
from tests.fakes.descriptions import answer
from tests.sip_session.peer import FAST
from tests.sip_session.test_sipp import Sipp
from tests.sip_session.test_subscription import EventNode

pytestmark = pytest.mark.peer
CALLS = 20


class Transfers(SessionObserverBase):
    """Lets its call be transferred, and tells of the success once the phone has hung up."""

    def __init__(self) -> None:
        self._referral: Referral | None = None

    def on_refer(self, referral: Referral) -> None:
        self._referral = referral
        referral.accept()

    def on_ended(self, _end: object) -> None:
        assert self._referral is not None
        self._referral.finish(200)


class PhoneNode(EventNode):
    """A node that answers, lets phones transfer, and tells of lamps."""

    def __init__(self) -> None:
        super().__init__(FAST)
        ReferService(self.agent)

    def _on_invite(self, session: InviteSession) -> None:
        session.observer = Transfers()
        offer = parse_sdp(session.offer)
        session.accept(answer(offer, "127.0.0.1", 20000, session_id=1, version=1)[0])


@pytest.fixture
async def node() -> AsyncIterator[PhoneNode]:
    node = PhoneNode()
    yield node
    await node.agent.aclose()
    await node.endpoint.aclose()


@pytest.fixture
async def sipp(tmp_path: Path) -> AsyncIterator[Sipp]:
    sipp = Sipp(tmp_path)
    yield sipp
    await sipp.stop()


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize(("scenario", "service"), [("transferor", "95598"), ("subscriber", "1002")])
async def test_sipp(
    node: PhoneNode, sipp: Sipp, scenario: str, service: str, transport: str
) -> None:
    await node.listen(transport)
    server = "{}:{}".format(*node.address)
    options = ["-m", str(CALLS), "-l", "4", "-r", "40", "-s", service]
    await sipp.play(scenario, server, transport, *options)
    await sipp.succeeded()
    await asyncio.wait_for(node.forgotten(), 5)
    await node.idle()
