"""Two user agents over a network that loses, repeats and reorders messages.

Whatever both do: they agree in the end whether there is a call and what was negotiated, and nothing
is left over.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cti.sip.metrics import INTERNAL_ERRORS
from cti.sip.sessions.offer_answer import Exchange
from cti.sip.sessions.session import InviteSession, SessionState
from cti.sip.sessions.session_policy import Reliability, SessionPolicy
from cti.sip.transports.transport import Hop
from domain.failures import Code
from tests.sip_session.observer import Recorder
from tests.sip_session.virtual import VirtualNode, Wire, passed, play

_numbers = itertools.count(1)


def description() -> bytes:
    """Return a description unlike any other."""
    return f"v=0\r\no=- {next(_numbers)}\r\n".encode()


class Party(Recorder):
    """Answers every offer, now and then by a refusal."""

    def defer_answer(self, sdp: bytes) -> None:
        """Answer at once."""

    def on_reoffer(self, sdp: bytes) -> bytes | Code:
        super().on_reoffer(sdp)
        return Code.NO_COMMON_CODEC if next(_numbers) % 7 == 0 else description()


def _ring(session: InviteSession) -> None:
    session.ring()


def _early_media(session: InviteSession) -> None:
    session.ring(description())


_ACTS: dict[str, Callable[[InviteSession], None]] = {
    "ring": _ring,
    "early media": _early_media,
    "accept": lambda session: session.accept(description()),
    "reject": lambda session: session.reject(Code.BUSY),
    "reinvite": lambda session: session.reinvite(description()),
    "ask for an offer": lambda session: session.reinvite(b""),
    "refresh": lambda session: None if session.is_over else session.changes.refresh(),
    "talk": lambda session: session.notify_talk(lambda _taken: None),
    "end": lambda session: session.end(Code.FLOW_ENDED),
}
# Mostly what keeps a call going, so that many steps are taken in one.
_CALLEE = ["ring", "early media", "accept", "accept", *sorted(_ACTS)]
_CALLER = ["reinvite", "reinvite", "ask for an offer", "refresh", "talk", "end"]
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("caller"), st.sampled_from(_CALLER)),
        st.tuples(st.just("callee"), st.sampled_from(_CALLEE)),
    ),
    max_size=10,
)
_PAUSES_S = st.lists(st.sampled_from([0.0, 0.001, 0.01, 0.3, 3.0]), min_size=10, max_size=10)


async def run(
    steps: list[tuple[str, str]],
    pauses_s: list[float],
    policy: SessionPolicy,
    wire: Wire,
    offer: bytes,
) -> None:
    caller, callee = VirtualNode(wire, policy), VirtualNode(wire, policy)
    sides: dict[str, InviteSession] = {}
    told = Party()
    parties: list[Recorder] = [told]

    def on_invite(session: InviteSession) -> None:
        session.observer = party = Party()
        parties.append(party)
        sides["callee"] = session

    callee.agent._on_invite = on_invite
    sides["caller"] = caller.agent.invite(
        f"sip:95598@127.0.0.1:{callee.address[1]}",
        from_="sip:1@127.0.0.1",
        hop=Hop("udp", *callee.address),
        sdp=offer,
        observer=told,
    )
    for (who, what), pause_s in zip(steps, pauses_s, strict=False):
        await passed(pause_s)
        if who in sides:
            _ACTS[what](sides[who])
    await passed(1.0)
    wire.loss = wire.jitter_s = 0.0
    await passed(400.0)  # longer than a session that nobody refreshes
    check_agreement(sides)
    for side in sides.values():
        side.end(Code.FLOW_ENDED)
    await caller.idle()
    await callee.idle()
    for party in parties:
        assert len(party.ends) == 1
    for side in sides.values():
        assert not any([side.incoming, side.outgoing, side._changes, side._timer])


def check_agreement(sides: dict[str, InviteSession]) -> None:
    caller, callee = sides["caller"], sides.get("callee")
    if callee is None:
        assert caller.state is SessionState.TERMINATED
        return
    confirmed = [side.state is SessionState.CONFIRMED for side in (caller, callee)]
    assert confirmed[0] == confirmed[1], (caller.state, callee.state)
    if all(confirmed):
        ours, theirs = caller.usage.exchange, callee.usage.exchange
        assert ours.state is theirs.state is Exchange.STABLE
        assert (ours.local, ours.remote) == (theirs.remote, theirs.local)


_POLICIES = st.builds(
    SessionPolicy,
    reliability=st.sampled_from(Reliability),
    session_expires_s=st.sampled_from([90, 180]),
)
_SETTINGS = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@settings(_SETTINGS, max_examples=200)
@given(_STEPS, _PAUSES_S, _POLICIES, st.booleans())
def test_on_a_good_network(
    steps: list[tuple[str, str]], pauses_s: list[float], policy: SessionPolicy, offers: bool
) -> None:
    before = INTERNAL_ERRORS._value.get()
    play(lambda: run(steps, pauses_s, policy, Wire(), description() if offers else b""))
    assert INTERNAL_ERRORS._value.get() == before


@settings(_SETTINGS, max_examples=300)
@given(_STEPS, _PAUSES_S, _POLICIES, st.booleans(), st.integers(0, 10_000))
def test_on_a_bad_network(
    steps: list[tuple[str, str]],
    pauses_s: list[float],
    policy: SessionPolicy,
    offers: bool,
    seed: int,
) -> None:
    before = INTERNAL_ERRORS._value.get()
    wire = Wire(seed, loss=0.25, jitter_s=0.3)
    play(lambda: run(steps, pauses_s, policy, wire, description() if offers else b""))
    assert INTERNAL_ERRORS._value.get() == before
