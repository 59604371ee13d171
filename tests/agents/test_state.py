import hypothesis.strategies as st
import pytest
from hypothesis import given

from agents.state import NEXT, AgentMachine, AgentState, Trigger
from domain.failures import Code, PlatformError


def machine_in(*triggers: Trigger) -> AgentMachine:
    machine = AgentMachine(0.0)
    for number, trigger in enumerate(triggers):
        machine.step(trigger, float(number))
    return machine


CALL = (Trigger.SIGN_IN, Trigger.READY, Trigger.OFFERED, Trigger.ANSWERED)


def test_a_call_from_sign_in_to_sign_out() -> None:
    machine = machine_in(*CALL, Trigger.CALL_ENDED)
    change = machine.step(Trigger.WORK_DONE, 14.5)
    assert (change.before, change.after) == (AgentState.AFTER_CALL_WORK, AgentState.READY)
    assert change.previous_ms == 10_500
    assert machine.step(Trigger.SIGN_OUT, 15.0).after is AgentState.SIGNED_OUT


CONVERSING = (Trigger.TALKS, Trigger.HOLDS, Trigger.CONSULTS, Trigger.CONFERS)


@pytest.mark.parametrize("during", [CALL[:3], CALL, *((*CALL, each) for each in CONVERSING)])
def test_sign_out_is_refused_during_a_call(during: tuple[Trigger, ...]) -> None:
    machine = machine_in(*during)
    with pytest.raises(PlatformError) as refused:
        machine.step(Trigger.SIGN_OUT, 9.0)
    assert refused.value.code is Code.STATE_FORBIDS


def test_not_ready_during_a_call_takes_effect_after_it() -> None:
    machine = machine_in(*CALL)
    assert machine.step(Trigger.NOT_READY, 5.0, "小休").after is AgentState.TALKING
    machine.step(Trigger.CALL_ENDED, 6.0)
    change = machine.step(Trigger.WORK_DONE, 7.0)
    assert (change.after, change.reason) == (AgentState.NOT_READY, "小休")
    assert machine.not_ready_wish is None


@pytest.mark.parametrize("first", CONVERSING)
@pytest.mark.parametrize("then", CONVERSING)
def test_a_conversation_goes_from_each_state_to_each_and_ends(
    first: Trigger, then: Trigger
) -> None:
    machine = machine_in(*CALL, first)
    change = machine.step(then, 5.5)
    assert change.previous_ms == (1500 if first is not Trigger.TALKS else 2500)
    assert machine.in_call
    assert machine.step(Trigger.CALL_ENDED, 7.0).after is AgentState.AFTER_CALL_WORK


def test_who_intercepts_is_not_ready_again_after_it() -> None:
    machine = machine_in(Trigger.SIGN_IN)
    machine.step(Trigger.NOT_READY, 1.0, "巡视")
    assert machine.step(Trigger.INTERCEPTED, 2.0).after is AgentState.TALKING
    machine.step(Trigger.CALL_ENDED, 3.0)
    change = machine.step(Trigger.WORK_DONE, 4.0)
    assert (change.after, change.reason) == (AgentState.NOT_READY, "巡视")


def test_ready_takes_the_wish_back() -> None:
    machine = machine_in(*CALL, Trigger.NOT_READY, Trigger.CALL_ENDED)
    assert machine.step(Trigger.READY, 9.0).after is AgentState.READY


def test_a_withdrawn_offer_honours_the_wish() -> None:
    machine = machine_in(*CALL[:3], Trigger.NOT_READY)
    assert machine.step(Trigger.OFFER_WITHDRAWN, 9.0).after is AgentState.NOT_READY


@given(st.lists(st.sampled_from(Trigger), max_size=40))
def test_every_step_is_in_the_table_or_refused(triggers: list[Trigger]) -> None:
    machine = AgentMachine(0.0)
    for number, trigger in enumerate(triggers):
        before, wished = machine.state, machine.not_ready_wish
        if (before, trigger) not in NEXT:
            with pytest.raises(PlatformError) as refused:
                machine.step(trigger, float(number))
            assert refused.value.code is Code.STATE_FORBIDS
            assert (machine.state, machine.not_ready_wish) == (before, wished)
            continue
        change = machine.step(trigger, float(number))
        expected = NEXT[before, trigger]
        if change.after is not expected:
            assert (change.after, expected) == (AgentState.NOT_READY, AgentState.READY)
            assert wished is not None
        if machine.state in {AgentState.READY, AgentState.NOT_READY, AgentState.SIGNED_OUT}:
            assert machine.not_ready_wish is None
        assert change.previous_ms >= 0
