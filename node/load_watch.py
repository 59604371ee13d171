"""Watches how long the work of a node waits, and has new calls refused while that is too long."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping

import structlog
from prometheus_client import Counter, Gauge

from cti.load_control import Begun, Ended, LoadControl, LoadLimits, Signal
from cti95598.events.v1.events_pb2 import Alarm
from domain.events import EventStamp
from domain.failures import CATALOGUE, Code
from domain.ids import TenantId

log = structlog.get_logger(__name__)

_REFUSED = Counter("overload_refused", "New calls refused because there was no time for them")
_SHEDDING = Gauge("overload_active", "1 while new calls are refused for want of time")
_RATE = Gauge("overload_admitted_rate", "New calls a second that are let in; 0: all")
_WAITING = Gauge("overload_waiting", "Seconds that work waits; of media the share missing", ["of"])
_WAITING_OF = {signal: _WAITING.labels(signal.value) for signal in Signal}

_BEAT_S = 0.05
_ROUND_S = 0.02
"""Of the media engine: what `skipped_rounds` counts."""
_MEDIA_STRETCH_S = 1.25  # the engine tells its figures once a second


class _MissingSound:
    """The share of all sound that the engine leaves out, in the better one of the last two seconds.

    A single pause, such as a machine that was suspended makes, is over when it is known; refusing
    calls for it would help nobody.
    """

    def __init__(self, skipped: int) -> None:
        self.share = 0.0
        self._before = 0.0
        self._skipped = skipped
        self._elapsed_s = self._missing_s = 0.0

    def take(self, elapsed_s: float, skipped: int) -> float:
        """Return the share, now that the engine has skipped so many rounds in all."""
        # A media process that was restarted counts from zero.
        self._missing_s += max(0, skipped - self._skipped) * _ROUND_S
        self._skipped = skipped
        self._elapsed_s += elapsed_s
        if self._elapsed_s >= _MEDIA_STRETCH_S:
            share = self._missing_s / self._elapsed_s
            self.share, self._before = min(share, self._before), share
            self._elapsed_s = self._missing_s = 0.0
        return self.share


class LoadWatch:
    """Implements `cti.sip.defence.guard.Shedder` on the loop's clock, from `start` to `stop`."""

    def __init__(
        self,
        limits: LoadLimits,
        *,
        is_trusted: Callable[[str], bool],
        is_phone: Callable[[str], bool],
        media: Callable[[], Mapping[str, int]],
        events: EventStamp,
        tenant: TenantId,
    ) -> None:
        """`media` gives the engine's figures; `tenant` is whose stream alarms go to."""
        # What a caller is told to wait need not be hard to guess.
        self._control = LoadControl(limits, spread=random.randint)
        self._media = media
        self._events = events
        self._tenant = tenant
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._beaten_s = 0.0
        self._missing = _MissingSound(0)
        self._signal = Signal.LOOP
        self.is_trusted = is_trusted
        self.is_phone = is_phone

    def start(self) -> None:
        """Measure from now on."""
        self._missing = _MissingSound(self._skipped_rounds())
        self._beaten_s = time.monotonic()
        self._beat_next()

    def stop(self) -> None:
        """Measure no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def load(self, limits: LoadLimits) -> None:
        """Take over other limits."""
        self._control.limits = limits

    def impaired(self) -> list[str]:
        """Tell an operator that calls are refused, and why."""
        rate = self._control.rate_per_s
        if rate is None:
            return []
        value = self._control.values[self._signal]
        return [
            f"overloaded: {rate:.0f} new calls a second are let in; {_why(self._signal, value)}"
        ]

    # cti.sip.defence.guard.Shedder

    @property
    def is_shedding(self) -> bool:
        """See Shedder."""
        return self._control.is_shedding

    def admits(self, now_s: float, *, has_priority: bool = False) -> bool:
        """See Shedder."""
        is_let_in = self._control.admits(now_s, has_priority=has_priority)
        if not is_let_in:
            _REFUSED.inc()
        return is_let_in

    def retry_after_s(self) -> int:
        """See Shedder."""
        return self._control.retry_after_s()

    def on_wait(self, wait_s: float) -> None:
        """See Shedder."""
        self._control.observe(Signal.DATAGRAMS, wait_s)

    # The clock

    def _beat_next(self) -> None:
        self._timer = self._loop.call_later(_BEAT_S, self._beat)

    def _beat(self) -> None:
        # What is called soon from there has a whole turn of the loop before it, sockets included.
        self._loop.call_soon(self._turn_begins)

    def _turn_begins(self) -> None:
        self._loop.call_soon(self._turn_ends, time.monotonic())

    def _turn_ends(self, began_s: float) -> None:
        now_s = time.monotonic()
        self._control.observe(Signal.LOOP, now_s - began_s)
        share = self._missing.take(now_s - self._beaten_s, self._skipped_rounds())
        self._control.observe(Signal.MEDIA, share)
        self._beaten_s = now_s
        change = self._control.tick(self._loop.time())
        for signal, gauge in _WAITING_OF.items():
            gauge.set(self._control.values[signal])
        _RATE.set(self._control.rate_per_s or 0)
        if change is not None:
            self._tell(change)
        if self._timer is not None:
            self._beat_next()

    def _skipped_rounds(self) -> int:
        return self._media().get("skipped_rounds", 0)

    def _tell(self, change: Begun | Ended) -> None:
        words = CATALOGUE[Code.LOAD_SHED]
        if isinstance(change, Begun):
            self._signal = change.signal
            _SHEDDING.set(1)
            why = _why(change.signal, change.value)
            log.warning("overload_begun", why=why, calls_per_second=round(change.rate_per_s))
            text = f"{words.zh} {words.en}: {why}"
        else:
            _SHEDDING.set(0)
            lasted_s = round(change.lasted_s, 1)
            log.warning("overload_ended", lasted_s=lasted_s, refused=change.refused)
            text = (
                f"过载结束,{lasted_s} 秒内暂拒 {change.refused} 个来电 the overload has ended: "
                f"{change.refused} calls were refused in {lasted_s} s"
            )
        cause = Code.LOAD_SHED if isinstance(change, Begun) else None
        self._events.publish(self._tenant, Alarm(component="load", text=text), cause=cause)


def _why(signal: Signal, value: float) -> str:
    if signal is Signal.MEDIA:
        return f"the media engine leaves out {value:.0%} of all sound"
    what = "each turn of the event loop takes" if signal is Signal.LOOP else "datagrams wait for"
    return f"{what} {value * 1000:.0f} ms"
