"""A registration with a carrier as a state machine: when to send what (RFC 3261 10.2, 5626 4.5).

No clock and no sockets: monotonic seconds come in, and `next_attempt_s` tells when to act.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from domain.failures import Code

# Refreshes come at a random time within this part of the granted one, so that trunks spread.
_REFRESH_FROM, _REFRESH_TO = 0.5, 0.75
_SHORTEST_REFRESH_S = 1.0
# RFC 5626 4.5: the wait doubles with each failure, and is drawn from its upper half.
_FIRST_WAIT_S = 10.0
_LONGEST_WAIT_S = 1800.0
# A wrong password is not mended by trying often, and may lock the account.
_WAIT_AFTER_REFUSAL_S = 120.0
_MOST_DOUBLINGS = 16


class RegistrationState(StrEnum):
    """What the registrar and we think of the binding."""

    TRYING = "trying"
    REGISTERED = "registered"
    FAILED = "failed"


class Registration:
    """One binding at one registrar."""

    def __init__(
        self,
        expires_s: int,
        now: float,
        random: Callable[[], float],
        *,
        first_wait_s: float = _FIRST_WAIT_S,
    ) -> None:
        """`random` gives numbers from 0 to 1."""
        self.asked_s = expires_s
        self.since_s = now
        self.next_attempt_s = now
        self.granted_s = 0
        self.failures = 0
        """In a row."""
        self.last_failure = ""
        self.service_route: tuple[str, ...] = ()
        """What calls over the binding have to pass (RFC 3608); nothing without one."""
        self._state = RegistrationState.TRYING
        self._valid_until_s = now
        self._random = random
        self._first_wait_s = first_wait_s

    def state(self, now: float) -> RegistrationState:
        """Return the state; a binding outlives failed refreshes until it expires."""
        if self._state is RegistrationState.REGISTERED and now >= self._valid_until_s:
            self._enter(RegistrationState.FAILED, now)
        return self._state

    def granted(self, expires_s: int, now: float, *, service_route: tuple[str, ...] = ()) -> None:
        """The registrar took the binding for so long; 0 means that it took it away."""
        if expires_s <= 0:
            self.failed(Code.FAR_END_REFUSED, "granted for 0 s", now)
            return
        self.failures = 0
        self.last_failure = ""
        self.granted_s = expires_s
        self.service_route = service_route
        self._valid_until_s = now + expires_s
        part = _REFRESH_FROM + (_REFRESH_TO - _REFRESH_FROM) * self._random()
        self.next_attempt_s = now + max(_SHORTEST_REFRESH_S, expires_s * part)
        self._enter(RegistrationState.REGISTERED, now)

    def failed(self, code: Code, detail: str, now: float, *, retry_after_s: float = 0.0) -> None:
        """No registrar took the binding; one may have told when to come again (RFC 3261 20.33)."""
        self.last_failure = f"{code} {detail}".strip()
        asked_s = min(retry_after_s, _LONGEST_WAIT_S)
        self.next_attempt_s = now + max(self._wait_s(code), asked_s)
        self.failures += 1
        if self.state(now) is not RegistrationState.REGISTERED:
            self.service_route = ()
            self._enter(RegistrationState.FAILED, now)

    def _wait_s(self, code: Code) -> float:
        first_s = self._first_wait_s
        if code is Code.AUTHENTICATION_FAILED:
            first_s = max(first_s, _WAIT_AFTER_REFUSAL_S)
        doubled_s: float = first_s * 2 ** min(self.failures, _MOST_DOUBLINGS)
        upper_s = min(_LONGEST_WAIT_S, doubled_s)
        return upper_s * (0.5 + 0.5 * self._random())

    def _enter(self, state: RegistrationState, now: float) -> None:
        if state is not self._state:
            self._state, self.since_s = state, now
