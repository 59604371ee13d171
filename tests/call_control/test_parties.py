"""Who hears whom, whatever happens in a conversation."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from cti.calls.parties import AudioChanges, Part, Parties
from cti.media import PortId

CUSTOMER, AGENT, EXPERT, BOSS = (PortId(number) for number in range(1, 5))
_ports = st.sampled_from([CUSTOMER, AGENT, EXPERT, BOSS, PortId(5), PortId(6)])


@st.composite
def _steps(draw: st.DrawFn) -> list[Parties]:
    """A conversation and all it has been."""
    states = [Parties()]
    for _ in range(draw(st.integers(1, 12))):
        last, port = states[-1], draw(_ports)
        match draw(st.sampled_from(["put", "put", "remove", "hold", "away"])):
            case "put":
                states.append(last.put(port, draw(st.sampled_from(Part))))
            case "remove":
                states.append(last.remove(port))
            case "hold":
                states.append(last.hold(port, waits=draw(st.booleans())))
            case _:
                states.append(last.away(port, is_away=draw(st.booleans())))
    return states


def _talking() -> Parties:
    return Parties().put(CUSTOMER, Part.CUSTOMER).put(AGENT, Part.AGENT)


@given(_steps())
def test_nobody_hears_himself_nor_who_may_not_be_heard(states: list[Parties]) -> None:
    for parties in states:
        routes = parties.routes
        part = {member.port: member.part for member in parties.members}
        for listener, heard in routes.items():
            assert listener not in heard
            assert len(set(heard)) == len(heard)
            assert all(part[each] is not Part.LISTENER for each in heard)
            if any(part[each] is Part.WHISPERER for each in heard):
                assert part[listener] is Part.AGENT
        for member in parties.members:
            if not member.is_here:
                assert not routes[member.port]
                assert all(member.port not in heard for heard in routes.values())


@given(_steps())
def test_music_is_heard_by_who_hears_nobody_and_is_no_ones_voice(states: list[Parties]) -> None:
    for parties in states:
        left, right = parties.sides
        assert not set(left) & set(right)
        heard = {port for each in left for port in parties.heard_by(each)}
        assert set(right) <= heard
        for port in parties.hear_music():
            assert parties.heard_by(port) == ()
            member = parties.party(port)
            assert member is not None
            assert not member.is_away


@given(_steps())
def test_the_changes_lead_from_each_state_to_the_next(states: list[Parties]) -> None:
    routes: dict[PortId, tuple[PortId, ...]] = {}
    music: set[PortId] = set()
    sides: object = ((), ())
    for former, parties in pairwise(states):
        changes = parties.changes(former)
        routes |= changes.routes
        assert not set(changes.music_starts) & music
        assert set(changes.music_ends) <= music
        music = music - set(changes.music_ends) | set(changes.music_starts)
        sides = changes.sides or sides
        assert {sink: heard for sink, heard in routes.items() if heard} == {
            sink: heard for sink, heard in parties.routes.items() if heard
        }
        assert music == set(parties.hear_music())
        assert sides == parties.sides
        nothing = AudioChanges({}, (), (), None)
        assert parties.changes(parties) == nothing


def test_both_talk() -> None:
    parties = _talking()
    assert parties.routes == {CUSTOMER: (AGENT,), AGENT: (CUSTOMER,)}
    assert parties.sides == ((CUSTOMER,), (AGENT,))


def test_supervisors_neither_send_nor_get_keys() -> None:
    talking = _talking()
    assert talking.keys == {CUSTOMER: (AGENT,), AGENT: (CUSTOMER,)}
    for part in (Part.LISTENER, Part.WHISPERER, Part.SPEAKER):
        assert talking.put(BOSS, part).keys == talking.keys
    together = talking.put(EXPERT, Part.CONSULTANT)
    assert together.keys[CUSTOMER] == (AGENT, EXPERT)
    assert together.hold(CUSTOMER, waits=True).keys[AGENT] == (EXPERT,)


def test_a_customer_on_hold_hears_only_music() -> None:
    parties = _talking().hold(CUSTOMER, waits=True)
    assert parties.routes == {CUSTOMER: (), AGENT: ()}
    assert parties.hear_music() == (CUSTOMER,)
    assert parties.sides == ((CUSTOMER,), ())
    changes = parties.hold(CUSTOMER, waits=False).changes(parties)
    assert changes == AudioChanges(
        {CUSTOMER: (AGENT,), AGENT: (CUSTOMER,)}, (), (CUSTOMER,), ((CUSTOMER,), (AGENT,))
    )


def test_consult_then_three_party() -> None:
    consulting = _talking().hold(CUSTOMER, waits=True).put(EXPERT, Part.CONSULTANT)
    assert consulting.routes == {CUSTOMER: (), AGENT: (EXPERT,), EXPERT: (AGENT,)}
    assert consulting.sides == ((CUSTOMER,), ())
    together = consulting.hold(CUSTOMER, waits=False)
    assert together.routes == {
        CUSTOMER: (AGENT, EXPERT),
        AGENT: (CUSTOMER, EXPERT),
        EXPERT: (CUSTOMER, AGENT),
    }
    assert together.sides == ((CUSTOMER,), (AGENT, EXPERT))


def test_listen_whisper_barge_and_intercept() -> None:
    talking = _talking()
    listening = talking.put(BOSS, Part.LISTENER)
    assert listening.changes(talking) == AudioChanges({BOSS: (CUSTOMER, AGENT)}, (), (), None)
    whispering = listening.put(BOSS, Part.WHISPERER)
    changes = whispering.changes(listening)
    assert changes == AudioChanges({AGENT: (CUSTOMER, BOSS)}, (), (), None)
    barging = whispering.put(BOSS, Part.SPEAKER)
    changes = barging.changes(whispering)
    assert changes == AudioChanges({CUSTOMER: (AGENT, BOSS)}, (), (), ((CUSTOMER,), (AGENT, BOSS)))
    intercepted = barging.remove(AGENT).put(BOSS, Part.AGENT)
    changes = intercepted.changes(barging)
    assert changes.routes == {CUSTOMER: (BOSS,), BOSS: (CUSTOMER,), AGENT: ()}
    assert changes.sides == ((CUSTOMER,), (BOSS,))


def test_a_phone_that_holds_leaves_music_to_who_is_alone_with_it() -> None:
    parties = _talking().away(AGENT, is_away=True)
    assert parties.hear_music() == (CUSTOMER,)
    assert parties.away(CUSTOMER, is_away=True).hear_music() == ()
    three = parties.put(EXPERT, Part.CONSULTANT)
    assert three.hear_music() == ()
    assert three.routes == {CUSTOMER: (EXPERT,), AGENT: (), EXPERT: (CUSTOMER,)}
    listened = parties.put(BOSS, Part.LISTENER)
    assert listened.heard_by(BOSS) == (CUSTOMER,)
    assert listened.hear_music() == (CUSTOMER,)
