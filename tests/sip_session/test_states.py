"""Which request in which state of a call gets which status; and that nothing is left of any."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from cti.sip.messages.message import Response
from cti.sip.metrics import INTERNAL_ERRORS
from domain.failures import Code
from tests.sip_session.peer import ANSWER, OFFER
from tests.sip_session.virtual import World, passed, play

State = Callable[[World], Awaitable[None]]
REQUIRED = [("Require", "100rel")]


async def unknown(world: World) -> None:
    world.peer.remote_to = "<sip:95598@127.0.0.1>;tag=nobody"


async def ringing(world: World) -> None:
    _, session, _ = await world.incoming()
    session.ring()
    world.peer.remote_to = str((await world.peer.expect_status(180)).to)


async def described(world: World) -> None:
    """Our answer is in a reliable 183 without its PRACK."""
    _, session, _ = await world.incoming(headers=REQUIRED)
    session.ring(ANSWER)
    world.peer.remote_to = str((await world.peer.expect_status(183)).to)


async def accepted(world: World) -> None:
    """Our 200 has no ACK."""
    _, session, _ = await world.incoming()
    session.accept(ANSWER)
    world.peer.remote_to = str((await world.peer.expect_status(200)).to)


async def offered(world: World) -> None:
    """Our 200 carries an offer and has no ACK."""
    _, session, _ = await world.incoming(body=b"")
    session.accept(OFFER)
    world.peer.remote_to = str((await world.peer.expect_status(200)).to)


async def confirmed(world: World) -> None:
    await world.answered()


async def changing(world: World) -> None:
    """Our re-INVITE has no response."""
    session, _ = await world.answered()
    session.reinvite(OFFER)
    await world.peer.expect("INVITE")


async def updating(world: World) -> None:
    """Our UPDATE without an offer has no response."""
    session, _ = await world.answered()
    session.send("UPDATE")
    await world.peer.expect("UPDATE")


async def ended(world: World) -> None:
    """Our BYE has no response."""
    session, _ = await world.answered()
    session.end(Code.FLOW_ENDED)
    await world.peer.expect("BYE")


async def calling_early(world: World) -> None:
    invite, _, _ = await world.outgoing()
    world.peer.reply(invite, 180)
    await passed(0.1)


async def called(world: World) -> None:
    invite, _, _ = await world.outgoing()
    world.peer.reply(invite, 200, body=ANSWER)
    await world.peer.expect("ACK")


REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "INVITE": ("INVITE", {"body": OFFER}),
    "INVITE without offer": ("INVITE", {}),
    "UPDATE": ("UPDATE", {"body": OFFER}),
    "UPDATE without offer": ("UPDATE", {}),
    "PRACK": ("PRACK", {"headers": [("RAck", "1 1 INVITE")]}),
    "INFO of a key": ("INFO", {"body": b"5", "content_type": "application/dtmf"}),
    "INFO, empty": ("INFO", {}),
    "INFO of XML": ("INFO", {"body": b"<x/>", "content_type": "application/xml"}),
    "INFO of a package": ("INFO", {"headers": [("Info-Package", "foo")]}),
    "NOTIFY talk": ("NOTIFY", {"headers": [("Event", "talk")]}),
    "NOTIFY refer": ("NOTIFY", {"headers": [("Event", "refer")]}),
    "OPTIONS": ("OPTIONS", {}),
    "REFER": ("REFER", {}),
    "FROBNICATE": ("FROBNICATE", {}),
    "with a requirement": ("INFO", {"headers": [("Require", "frob")]}),
    "BYE": ("BYE", {}),
}

_ANY_DIALOG = {
    "PRACK": 481, "INFO of a key": 200, "INFO, empty": 200, "INFO of XML": 415,
    "INFO of a package": 469, "NOTIFY talk": 200, "NOTIFY refer": 489, "OPTIONS": 200,
    "REFER": 405, "FROBNICATE": 501, "with a requirement": 420, "BYE": 200,
}  # fmt: skip
_NO_DIALOG = {
    **dict.fromkeys(_ANY_DIALOG, 481), "INVITE": 481, "INVITE without offer": 481, "UPDATE": 481,
    "UPDATE without offer": 481, "REFER": 405, "FROBNICATE": 501, "with a requirement": 420,
}  # fmt: skip


def changes(*statuses: int) -> dict[str, int]:
    names = ("INVITE", "INVITE without offer", "UPDATE", "UPDATE without offer")
    return {**_ANY_DIALOG, **dict(zip(names, statuses, strict=True))}


TABLE: dict[State, dict[str, int]] = {
    unknown: _NO_DIALOG,
    ringing: changes(500, 500, 500, 200),
    described: changes(500, 500, 200, 200),
    accepted: changes(200, 200, 200, 200),
    offered: changes(491, 491, 491, 200),
    confirmed: changes(200, 200, 200, 200),
    changing: changes(491, 491, 491, 200),
    updating: changes(200, 200, 200, 200),
    ended: {**_NO_DIALOG, "BYE": 200},
    calling_early: changes(491, 491, 491, 200),
    called: changes(200, 200, 200, 200),
}


@pytest.mark.parametrize("state", TABLE, ids=lambda state: state.__name__)
@pytest.mark.parametrize("name", REQUESTS)
def test_the_status(state: State, name: str) -> None:
    async def scenario() -> None:
        world = World()
        await state(world)
        method, options = REQUESTS[name]
        request = world.peer.ask(method, **options)
        while True:
            answer = await world.peer.next()
            if isinstance(answer, Response) and answer.cseq == request.cseq:
                break
        assert answer.status == TABLE[state][name]
        if answer.status in {415, 469, 489, 405, 420, 500}:
            explains = {
                415: "Accept", 469: "Recv-Info", 489: "Allow-Events", 405: "Allow",
                420: "Unsupported", 500: "Retry-After",
            }  # fmt: skip
            assert explains[answer.status] in answer.headers
        for session in list(world.node.agent._sessions.values()):
            session.end(Code.FLOW_ENDED)
        await world.over()

    before = INTERNAL_ERRORS._value.get()
    play(scenario)
    assert INTERNAL_ERRORS._value.get() == before
