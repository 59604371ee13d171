"""What the generator tells of each call while a run goes on.

The generator calls these methods from its event loop and nothing else; each is cheap. `Series` and
`Report` are made from what is kept here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from loadtest.figures.durations import Durations


@dataclass(frozen=True, slots=True)
class LegFigures:
    """RTP of one leg of the generator, counted by its engine."""

    sent: int
    received: int
    lost: int
    jitter_ms: float
    mos: float | None = None


@dataclass(slots=True)
class Span:
    """From when to when things of one kind were done."""

    first_s: float | None = None
    last_s: float | None = None

    def take(self, begun_s: float, ended_s: float) -> None:
        """Stretch to take this in."""
        self.first_s = begun_s if self.first_s is None else min(self.first_s, begun_s)
        self.last_s = ended_s if self.last_s is None else max(self.last_s, ended_s)

    @property
    def s(self) -> float:
        """Its length, 0 of nothing."""
        return 0.0 if self.first_s is None or self.last_s is None else self.last_s - self.first_s


@dataclass(slots=True)
class Tally:
    """Counts and durations since the end of the warm-up; all times are of `clock_s`."""

    clock_s: Callable[[], float]
    on_phase: Callable[[], None] | None = None
    """Told when calls begin, when counting starts and when it stops, to look just there."""
    calling_from_s: float | None = None
    """When the first call, of the warm-up too, was about to begin."""
    counting_from_s: float | None = None
    """The end of the warm-up."""
    offered_until_s: float | None = None
    """When the last call had been begun."""
    ended_s: float | None = None
    """When the last call had ended."""
    settled_s: float | None = None
    """When the time after it was over in which the platform was still watched."""
    offered: int = 0
    """Calls begun."""
    answered: int = 0
    completed: int = 0
    """Calls that went as their scenario says, to the end."""
    failed: Counter[str] = field(default_factory=Counter)
    """Calls that did not, by cause: `503`, `no_answer`, `prompt_missing`, ..."""
    held_back: int = 0
    """Calls that came late because `max_at_once` were up."""
    late_starts: int = 0
    """Calls begun more than 20 ms after their time: the generator could not keep up."""
    retransmissions: int = 0
    """SIP messages the generator sent again."""
    retransmissions_received: int = 0
    live: int = 0
    peak: int = 0
    setup_s: Durations = field(default_factory=Durations)
    """INVITE to 200."""
    post_dial_delay_s: Durations = field(default_factory=Durations)
    """INVITE to the first 18x, or to the 200 without one."""
    agent_offer_s: Durations = field(default_factory=Durations)
    """The caller's answer to the INVITE at an agent's phone."""
    time_to_agent_s: Durations = field(default_factory=Durations)
    """The caller's answer to the agent's voice, or to the agent's answer."""
    refusal_s: Durations = field(default_factory=Durations)
    """INVITE to a final status of 4xx to 6xx: a platform under overload must say no at once."""
    timers_s: dict[str, Durations] = field(default_factory=dict)
    """What `start_rtd` and `rtd` of sipp's scenarios have measured, by their names."""
    prompts_expected: int = 0
    prompts_recognised: int = 0
    registered: int = 0
    registering: Span = field(default_factory=Span)
    registrations_failed: Counter[str] = field(default_factory=Counter)
    registration_s: Durations = field(default_factory=Durations)
    signed_in: int = 0
    signing_in: Span = field(default_factory=Span)
    sign_ins_failed: Counter[str] = field(default_factory=Counter)
    sign_in_s: Durations = field(default_factory=Durations)
    rtp_sent: int = 0
    rtp_received: int = 0
    rtp_lost: int = 0
    worst_jitter_ms: float = 0.0

    def start_calling(self) -> None:
        """Agents and phones are there: the first call is about to begin."""
        self.calling_from_s = self.clock_s()
        self._tell_phase()

    def start_counting(self) -> None:
        """The warm-up is over: what is begun from now on counts."""
        self.counting_from_s = self.clock_s()
        self._tell_phase()

    def stop_offering(self) -> None:
        """No further call will be begun."""
        self.offered_until_s = self.clock_s()

    def stop_counting(self) -> None:
        """All that was begun has ended, or was given up; agents and phones may leave now."""
        self.ended_s = self.clock_s()
        self._tell_phase()

    def settle(self) -> None:
        """What calls had left behind for a while is gone, or stays."""
        self.settled_s = self.clock_s()

    def _tell_phase(self) -> None:
        if self.on_phase is not None:
            self.on_phase()

    def begin_call(self) -> None:
        """Count a call that is dialled now."""
        self.offered += 1
        self.live += 1
        self.peak = max(self.peak, self.live)

    def end_call(self, cause: str = "") -> None:
        """Count the end of a call; a cause says why it did not go as its scenario says."""
        self.live -= 1
        if cause:
            self.failed[cause] += 1
        else:
            self.completed += 1

    def end_leg(self, leg: LegFigures) -> None:
        """Add what was counted on one leg's RTP."""
        self.rtp_sent += leg.sent
        self.rtp_received += leg.received
        self.rtp_lost += leg.lost
        self.worst_jitter_ms = max(self.worst_jitter_ms, leg.jitter_ms)

    def end_timer(self, name: str, seconds: float) -> None:
        """Take what a timer of a sipp scenario has measured."""
        self.timers_s.setdefault(name, Durations()).add(seconds)

    def end_registration(self, begun_s: float, cause: str = "") -> None:
        """Count a registration, which a cause says failed."""
        if cause:
            self.registrations_failed[cause] += 1
            return
        now_s = self.clock_s()
        self.registered += 1
        self.registering.take(begun_s, now_s)
        self.registration_s.add(now_s - begun_s)

    def end_sign_in(self, begun_s: float, cause: str = "") -> None:
        """Count a sign-in of an agent, which a cause says failed."""
        if cause:
            self.sign_ins_failed[cause] += 1
            return
        now_s = self.clock_s()
        self.signed_in += 1
        self.signing_in.take(begun_s, now_s)
        self.sign_in_s.add(now_s - begun_s)
