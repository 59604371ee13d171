"""The health of one address of a carrier, by probes and by what calls meet. No clock, no sockets.

Probes alone say UP and DOWN, and only after several in a row. A call that meets silence makes the
address suspect at once: it takes no new call until a probe, sent without delay, has an answer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from cti.trunks.settings import ProbeSettings

_CALLS_FAILED_TO_SUSPECT = 3
# Without probes nobody tells that an address is back: it rests for so long.
_REST_WITHOUT_PROBES_S = 30.0
# RFC 3261 20.33 sets no bound; a carrier's mistake must not take a trunk away for a day.
_MAX_RETRY_AFTER_S = 300.0


class HealthState(StrEnum):
    """What is known of an address or of a trunk."""

    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"


class ProbeOutcome(StrEnum):
    """What became of an OPTIONS request."""

    ALIVE = "alive"
    BUSY = "busy"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """An outcome, and how long a busy peer asks for rest."""

    outcome: ProbeOutcome
    retry_after_s: float = 0.0
    detail: str = ""
    """The status or the failure's code, for operators."""


def probe_result(status: int, retry_after_s: float) -> ProbeResult:
    """Judge a response: whoever answers lives, even with 404 or 405, but for 408 and 503."""
    detail = str(status)
    if status == 503 and retry_after_s > 0:
        return ProbeResult(ProbeOutcome.BUSY, retry_after_s, detail)
    outcome = ProbeOutcome.DEAD if status in {408, 503} else ProbeOutcome.ALIVE
    return ProbeResult(outcome, detail=detail)


class HopHealth:
    """The health of one address. Times are monotonic seconds."""

    def __init__(self, settings: ProbeSettings, now: float) -> None:
        self._settings = settings
        self.state = HealthState.UNKNOWN
        self.since_s = now
        self.is_suspect = False
        self.busy_until_s = -math.inf
        self.probed_s: float | None = None
        self.last_failure = ""
        self.last_failure_s: float | None = None
        self.next_probe_s = now if settings.interval_s else math.inf
        self._alive_in_a_row = 0
        self._dead_in_a_row = 0
        self._calls_failed_in_a_row = 0

    def is_fit(self, now: float) -> bool:
        """Tell whether new calls should go there."""
        return (
            self.state is not HealthState.DOWN and not self.is_suspect and now >= self.busy_until_s
        )

    # Probes

    def probed(self, result: ProbeResult, now: float) -> None:
        """Take the result of a probe."""
        self.probed_s = now
        self.next_probe_s = now + self._settings.interval_s
        if result.outcome is ProbeOutcome.DEAD:
            self._note_failure(f"OPTIONS {result.detail}", now)
            self._dead(now)
            return
        self.is_suspect = False
        self._dead_in_a_row = self._calls_failed_in_a_row = 0
        if result.outcome is ProbeOutcome.BUSY:
            self._rest(result.retry_after_s, now)
        self._alive_in_a_row += 1
        if self._alive_in_a_row >= self._settings.up_after:
            self._enter(HealthState.UP, now)

    def _dead(self, now: float) -> None:
        self._alive_in_a_row = 0
        self._dead_in_a_row += 1
        if self._dead_in_a_row >= self._settings.down_after:
            self.is_suspect = False
            self._enter(HealthState.DOWN, now)
        elif self.state is not HealthState.DOWN:
            self.next_probe_s = now  # make sure at once: calls go there still

    # Calls

    def call_taken(self) -> None:
        """A call was answered or refused by somebody behind the address: it works."""
        self._calls_failed_in_a_row = 0

    def call_failed(
        self, now: float, *, is_silent: bool, detail: str, retry_after_s: float = 0.0
    ) -> bool:
        """Take a failure that is the address's own; True when it should be probed at once."""
        self._note_failure(f"INVITE {detail}", now)
        if retry_after_s > 0:
            self._rest(retry_after_s, now)
            return False
        self._calls_failed_in_a_row += 1
        if not is_silent and self._calls_failed_in_a_row < _CALLS_FAILED_TO_SUSPECT:
            return False
        if not self._settings.interval_s:
            self._rest(_REST_WITHOUT_PROBES_S, now)
            return False
        if self.is_suspect or self.state is HealthState.DOWN:
            return False
        self.is_suspect = True
        self.next_probe_s = now
        return True

    def _rest(self, seconds: float, now: float) -> None:
        self.busy_until_s = max(self.busy_until_s, now + min(seconds, _MAX_RETRY_AFTER_S))

    def _note_failure(self, detail: str, now: float) -> None:
        self.last_failure, self.last_failure_s = detail, now

    def _enter(self, state: HealthState, now: float) -> None:
        if state is not self.state:
            self.state, self.since_s = state, now
