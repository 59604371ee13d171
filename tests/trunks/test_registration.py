"""When to register again, on virtual time."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cti.trunks.registration import Registration, RegistrationState
from domain.failures import Code


@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_a_refresh_comes_well_before_the_end(chance: float) -> None:
    registration = Registration(600, 0.0, lambda: chance)
    assert registration.next_attempt_s == 0.0
    registration.granted(300, 1.0)
    assert registration.state(1.0) is RegistrationState.REGISTERED
    assert 151.0 <= registration.next_attempt_s <= 226.0
    assert registration.granted_s == 300


def test_waits_double_and_differ() -> None:
    registration = Registration(600, 0.0, lambda: 1.0)
    waits = []
    for _ in range(10):
        registration.failed(Code.SIP_TIMEOUT, "", 0.0)
        waits.append(registration.next_attempt_s)
    assert waits[:4] == [10.0, 20.0, 40.0, 80.0]
    assert waits[-1] == 1800.0
    lucky = Registration(600, 0.0, lambda: 0.0)
    lucky.failed(Code.SIP_TIMEOUT, "", 0.0)
    assert lucky.next_attempt_s == 5.0
    registration.granted(60, 0.0)
    registration.failed(Code.SIP_TIMEOUT, "", 0.0)
    assert registration.next_attempt_s == 10.0


def test_a_wrong_password_waits_longer() -> None:
    registration = Registration(600, 0.0, lambda: 1.0)
    registration.failed(Code.AUTHENTICATION_FAILED, "status 403", 0.0)
    assert registration.next_attempt_s == 120.0
    assert registration.last_failure == "authentication_failed status 403"


def test_a_binding_outlives_a_failed_refresh_until_it_expires() -> None:
    registration = Registration(600, 0.0, lambda: 0.0)
    registration.granted(100, 0.0)
    registration.failed(Code.SIP_TIMEOUT, "", 50.0)
    assert registration.state(99.0) is RegistrationState.REGISTERED
    assert registration.state(100.0) is RegistrationState.FAILED


def test_a_registrar_may_ask_for_a_longer_wait_but_not_for_ever() -> None:
    registration = Registration(600, 0.0, lambda: 1.0)
    registration.failed(Code.FAR_END_REFUSED, "status 503", 0.0, retry_after_s=90)
    assert registration.next_attempt_s == 90.0
    registration.failed(Code.FAR_END_REFUSED, "status 503", 0.0, retry_after_s=1)
    assert registration.next_attempt_s == 20.0
    registration.failed(Code.FAR_END_REFUSED, "status 503", 0.0, retry_after_s=1e9)
    assert registration.next_attempt_s == 1800.0


def test_a_service_route_ends_with_its_binding() -> None:
    registration = Registration(600, 0.0, lambda: 0.0)
    registration.granted(100, 0.0, service_route=("<sip:a;lr>",))
    registration.failed(Code.SIP_TIMEOUT, "", 50.0)
    assert registration.service_route == ("<sip:a;lr>",)
    registration.failed(Code.SIP_TIMEOUT, "", 101.0)
    assert not registration.service_route


def test_a_binding_for_no_time_is_none() -> None:
    registration = Registration(600, 0.0, lambda: 0.0)
    registration.granted(0, 0.0)
    assert registration.state(0.0) is RegistrationState.FAILED


class Registering(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.chance = 0.5
        self.registration = Registration(600, 0.0, lambda: self.chance)
        self.bound_until = 0.0

    @rule(seconds=st.floats(0, 4000), chance=st.floats(0, 1))
    def wait(self, seconds: float, chance: float) -> None:
        self.now += seconds
        self.chance = chance

    @rule(granted_s=st.integers(1, 7200))
    def grant(self, granted_s: int) -> None:
        self.registration.granted(granted_s, self.now)
        self.bound_until = self.now + granted_s

    @rule(code=st.sampled_from([Code.SIP_TIMEOUT, Code.AUTHENTICATION_FAILED]))
    def fail(self, code: Code) -> None:
        self.registration.failed(code, "", self.now)

    @invariant()
    def registered_is_what_the_registrar_granted(self) -> None:
        is_registered = self.registration.state(self.now) is RegistrationState.REGISTERED
        assert is_registered == (self.now < self.bound_until)

    @invariant()
    def the_next_attempt_is_near(self) -> None:
        assert self.registration.next_attempt_s <= self.now + max(1800.0, 0.75 * 7200 + 1)


TestRegistering = Registering.TestCase
