"""How many new calls a node lets in while it has more work than it can do.

In the words of RFC 6357 this is local overload control by rate: nobody tells those before us how
much to send, a node refuses by itself what it has no time for. Waiting is what it goes by, not
counts: how long work waits tells that there is too much of it, whatever a call costs and whoever
else uses the machine. The rate falls by a factor while work waits too long, and rises by steps
while it does not (AIMD with a faster way up from an idle state).

Sans-IO: time comes in as monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

INTERVAL_S = 0.25
"""After so long the rate is set anew."""

_BEGINS_AFTER = 2  # intervals in a row: a hiccup of a few hundred milliseconds is no overload
_FIRST_CUT = 0.8  # of what was let in while work piled up
_LARGEST_CUT, _SMALLEST_CUT = 0.6, 0.95
_CALM = 0.5  # the pressure below which the rate rises
_FAST_RISE, _RISE, _SLOW_RISE = 1.10, 1.05, 1.03
_USUAL_S = 8.0  # the longest calls begin and end within some such time
_FAR_BELOW = 0.8  # of what is usual: from there on the rate rises slowly
_LEAST_OF_USUAL = 0.5
_CALM_FOR_S = 3.0
_BUCKET_S = 0.05  # what was not used of the rate may be used so much later


class Signal(StrEnum):
    """What shows that there is too much work; its values are labels of metrics."""

    LOOP = "loop"
    """How long a turn of the event loop takes, in seconds."""
    DATAGRAMS = "datagrams"
    """How long datagrams have waited in the kernel, in seconds."""
    MEDIA = "media"
    """Share of the time for which the media engine sent nothing because it was too late."""


@dataclass(frozen=True, slots=True)
class LoadLimits:
    """From when on work waits too long."""

    wait_s: float = 0.025
    media_share: float = 0.05
    """One twentieth of all sound missing is heard by everybody."""
    least_per_s: float = 10.0
    """So many new calls a second are always let in: refusing them would free next to nothing."""


@dataclass(frozen=True, slots=True)
class Begun:
    """New calls are refused from now on."""

    signal: Signal
    """What shows it most."""
    value: float
    rate_per_s: float
    """Calls that are let in."""


@dataclass(frozen=True, slots=True)
class Ended:
    """All new calls are let in again."""

    lasted_s: float
    refused: int


@dataclass(slots=True)
class _Episode:
    """One overload."""

    began_s: float
    rate_per_s: float
    usual_per_s: float
    """What was let in, averaged over some seconds: in an overload that is what can be done."""
    tokens: float = 1.0
    refilled_s: float = 0.0
    refused: int = 0
    refused_at_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.refilled_s = self.refused_at_s = self.began_s

    def has_token(self, now_s: float) -> bool:
        """Use a token of the rate, or tell that there is none."""
        most = max(1.0, self.rate_per_s * _BUCKET_S)
        self.tokens = min(most, self.tokens + (now_s - self.refilled_s) * self.rate_per_s)
        self.refilled_s = now_s
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True


class LoadControl:
    """Decides for one node. `tick` is called at least every `INTERVAL_S`, as far as that goes."""

    def __init__(
        self, limits: LoadLimits | None = None, *, spread: Callable[[int, int], int]
    ) -> None:
        """`spread` draws a whole number between two, both included (`random.randint`)."""
        self.limits = limits or LoadLimits()
        self._spread = spread
        self._least: dict[Signal, float] = {}
        self._episode: _Episode | None = None
        self._let_in = 0
        self._strained = 0
        self._since_s: float | None = None
        self.values = dict.fromkeys(Signal, 0.0)
        """The least that each signal was over the last interval.

        As CoDel does (RFC 8289): a queue that is empty now and then is no overload, however long it
        was between. So a thread that waits for a processor which others use is told from one that
        has too much to do: it catches up as soon as it runs, and refusing calls would not help it.
        """

    @property
    def is_shedding(self) -> bool:
        """Whether `admits` has to be asked; else it lets in everything."""
        return self._episode is not None

    @property
    def rate_per_s(self) -> float | None:
        """New calls that are let in; None: all."""
        return None if self._episode is None else self._episode.rate_per_s

    def observe(self, signal: Signal, value: float) -> None:
        """Take a measurement; see `Signal` for its unit."""
        self._least[signal] = min(value, self._least.get(signal, value))

    def admits(self, now_s: float, *, has_priority: bool = False) -> bool:
        """Decide on a new call; one with priority is let in always, and counted."""
        episode = self._episode
        if episode is not None and not episode.has_token(now_s) and not has_priority:
            episode.refused += 1
            episode.refused_at_s = now_s
            return False
        self._let_in += 1
        return True

    def retry_after_s(self) -> int:
        """When a refused caller may come back: not all at once, and soon."""
        return self._spread(3, 12)

    def tick(self, now_s: float) -> Begun | Ended | None:
        """Judge the interval that is over, if one is; return what has changed."""
        if self._since_s is None:
            self._since_s = now_s
        elapsed_s = now_s - self._since_s
        if elapsed_s < INTERVAL_S:
            return None
        rate_per_s = self._let_in / elapsed_s
        self._since_s, self._let_in = now_s, 0
        self.values = {signal: self._least.get(signal, 0.0) for signal in Signal}
        self._least.clear()
        signal, pressure = self._worst()
        if self._episode is None:
            return self._judge_calm(now_s, signal, pressure, rate_per_s)
        return self._judge_episode(self._episode, now_s, pressure, rate_per_s)

    def _worst(self) -> tuple[Signal, float]:
        limits, values = self.limits, self.values
        return max(
            (
                (Signal.LOOP, values[Signal.LOOP] / limits.wait_s),
                (Signal.DATAGRAMS, values[Signal.DATAGRAMS] / limits.wait_s),
                (Signal.MEDIA, values[Signal.MEDIA] / limits.media_share),
            ),
            key=lambda each: each[1],
        )

    def _judge_calm(
        self, now_s: float, signal: Signal, pressure: float, rate_per_s: float
    ) -> Begun | None:
        self._strained = self._strained + 1 if pressure > 1 else 0
        if self._strained < _BEGINS_AFTER or rate_per_s <= self.limits.least_per_s:
            return None
        self._strained = 0
        rate_per_s = max(self.limits.least_per_s, _FIRST_CUT * rate_per_s)
        self._episode = _Episode(now_s, rate_per_s, rate_per_s)
        return Begun(signal, self.values[signal], rate_per_s)

    def _judge_episode(
        self, episode: _Episode, now_s: float, pressure: float, rate_per_s: float
    ) -> Ended | None:
        usual = episode.usual_per_s = _towards(rate_per_s, episode.usual_per_s)
        if pressure > 1:
            # What was let in seconds ago still makes work, and cutting more does not end it sooner:
            # so there is a floor. And never cut from a rate that nobody has used.
            cut = max(_LARGEST_CUT, min(_SMALLEST_CUT, pressure**-0.5))
            rate = max(min(episode.rate_per_s, rate_per_s) * cut, usual * _LEAST_OF_USUAL)
            episode.rate_per_s = max(self.limits.least_per_s, min(rate, episode.rate_per_s))
        elif now_s - episode.refused_at_s >= _CALM_FOR_S:
            self._episode = None
            return Ended(now_s - episode.began_s, episode.refused)
        elif pressure < _CALM:
            # Calls make work for seconds: rising by more overshoots before their work is felt.
            if episode.rate_per_s < usual * _FAR_BELOW:
                episode.rate_per_s *= _FAST_RISE
            else:
                episode.rate_per_s *= _RISE if pressure < _CALM / 5 else _SLOW_RISE
        return None


def _towards(value: float, mean: float) -> float:
    """Take one interval's value into a running mean."""
    return mean + (value - mean) * INTERVAL_S / _USUAL_S
