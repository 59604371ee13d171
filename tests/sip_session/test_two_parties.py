"""Two user agents over a network that loses messages: whatever both do, nothing is left over."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cti.sip.session import InviteSession
from cti.sip.transport import Hop
from domain.failures import Code
from tests.sip_session.conftest import Node
from tests.sip_session.observer import Recorder
from tests.sip_session.peer import ANSWER, OFFER

_ACTS: dict[str, Callable[[InviteSession], None]] = {
    "ring": lambda session: session.ring() if session.direction == "in" else None,
    "accept": lambda session: session.accept(ANSWER) if session.direction == "in" else None,
    "reject": lambda session: session.reject(Code.BUSY) if session.direction == "in" else None,
    "reinvite": lambda session: session.reinvite(OFFER),
    "talk": lambda session: session.notify_talk(lambda _taken: None),
    "end": lambda session: session.end(Code.FLOW_ENDED),
}
_STEPS = st.lists(
    st.tuples(st.sampled_from(["caller", "callee"]), st.sampled_from(sorted(_ACTS))), max_size=8
)


class LossyNode(Node):
    """A node that forgets to send some of its messages."""

    def __init__(self, chance: random.Random, loss: float) -> None:
        super().__init__()
        transports = self.endpoint._transports
        send = transports.send

        def maybe_send(data: bytes, hop: Hop, on_error: Callable[[], None]) -> int:
            return 1 if chance.random() < loss else send(data, hop, on_error)

        transports.send = maybe_send  # type: ignore[method-assign]


async def run(steps: list[tuple[str, str]], seed: int, loss: float) -> None:
    chance = random.Random(seed)
    caller, callee = LossyNode(chance, loss), LossyNode(chance, loss)
    await caller.listen()
    await callee.listen()
    told = Recorder()
    session = caller.agent.invite(
        f"sip:95598@127.0.0.1:{callee.address[1]}",
        from_="sip:1@127.0.0.1",
        hop=Hop("udp", *callee.address),
        sdp=OFFER,
        observer=told,
    )
    try:
        sides = {"caller": session, "callee": (await callee.session())[0]}
    except TimeoutError:
        sides = {"caller": session}
    for who, what in steps:
        if who in sides:
            _ACTS[what](sides[who])
        turn = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.001 * chance.randrange(20), turn.set_result, None)
        await turn
    for side in sides.values():
        side.end(Code.FLOW_ENDED)
    await caller.forgotten()
    await callee.forgotten()
    assert len(told.ends) == 1
    if "callee" in sides:
        observer = sides["callee"].observer
        assert isinstance(observer, Recorder)
        assert len(observer.ends) == 1
    for side in sides.values():
        assert side.incoming is side.outgoing is side._changes is side._timer is None
    for node in (caller, callee):
        await node.agent.aclose()
        await node.endpoint.aclose()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_STEPS, st.integers(0, 1000))
def test_on_a_good_network(steps: list[tuple[str, str]], seed: int) -> None:
    asyncio.run(run(steps, seed, loss=0.0))


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_STEPS, st.integers(0, 1000))
def test_on_a_bad_network(steps: list[tuple[str, str]], seed: int) -> None:
    asyncio.run(run(steps, seed, loss=0.3))
