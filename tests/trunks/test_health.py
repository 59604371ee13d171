"""The health of an address, on virtual time."""

from __future__ import annotations

import math

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cti.sip.transports.transport import Hop
from cti.trunks.health import (
    HealthState,
    HopHealth,
    ProbeOutcome,
    ProbeResult,
    probe_result,
)
from cti.trunks.health_book import HealthBook
from cti.trunks.settings import ProbeSettings

ALIVE = ProbeResult(ProbeOutcome.ALIVE)
DEAD = ProbeResult(ProbeOutcome.DEAD, detail="timeout")
PROBED = ProbeSettings(interval_s=30, timeout_s=4, up_after=2, down_after=2)
HOP = Hop("udp", "192.0.2.1", 5060)


@pytest.mark.parametrize(
    ("status", "retry_after_s", "outcome"),
    [
        (200, 0, ProbeOutcome.ALIVE),
        (404, 0, ProbeOutcome.ALIVE),
        (405, 0, ProbeOutcome.ALIVE),
        (401, 0, ProbeOutcome.ALIVE),
        (500, 0, ProbeOutcome.ALIVE),
        (408, 0, ProbeOutcome.DEAD),
        (503, 0, ProbeOutcome.DEAD),
        (503, 10, ProbeOutcome.BUSY),
    ],
)
def test_what_a_probe_says(status: int, retry_after_s: float, outcome: ProbeOutcome) -> None:
    assert probe_result(status, retry_after_s).outcome is outcome


def test_up_and_down_need_several_probes_in_a_row() -> None:
    health = HopHealth(PROBED, 0.0)
    assert health.state is HealthState.UNKNOWN
    assert health.is_fit(0.0)
    assert health.next_probe_s == 0.0
    health.probed(ALIVE, 1.0)
    assert (health.state, health.next_probe_s) == (HealthState.UNKNOWN, 31.0)
    health.probed(ALIVE, 31.0)
    assert (health.state, health.since_s) == (HealthState.UP, 31.0)
    health.probed(DEAD, 61.0)
    # One silence is no death, but it is looked into at once.
    assert (health.state, health.next_probe_s) == (HealthState.UP, 61.0)
    health.probed(DEAD, 65.0)
    assert (health.state, health.next_probe_s) == (HealthState.DOWN, 95.0)
    assert not health.is_fit(65.0)
    assert health.last_failure == "OPTIONS timeout"
    health.probed(ALIVE, 95.0)
    assert not health.is_fit(95.0)
    health.probed(ALIVE, 125.0)
    assert health.is_fit(125.0)


def test_a_silent_call_makes_suspect_until_a_probe_is_answered() -> None:
    health = HopHealth(PROBED, 0.0)
    health.probed(ALIVE, 0.0)
    health.probed(ALIVE, 30.0)
    assert health.call_failed(40.0, is_silent=True, detail="sip_timeout")
    assert not health.is_fit(40.0)
    assert health.next_probe_s == 40.0
    assert not health.call_failed(41.0, is_silent=True, detail="sip_timeout")
    health.probed(ALIVE, 41.0)
    assert health.is_fit(41.0)
    assert health.state is HealthState.UP


def test_refused_calls_make_suspect_only_in_a_row() -> None:
    health = HopHealth(PROBED, 0.0)
    for _ in range(2):
        assert not health.call_failed(1.0, is_silent=False, detail="500")
    health.call_taken()
    for _ in range(2):
        assert not health.call_failed(1.0, is_silent=False, detail="500")
    assert health.call_failed(1.0, is_silent=False, detail="500")


def test_retry_after_gives_rest_and_no_more_than_five_minutes() -> None:
    health = HopHealth(PROBED, 0.0)
    assert not health.call_failed(10.0, is_silent=False, detail="503", retry_after_s=20)
    assert not health.is_fit(29.0)
    assert health.is_fit(30.0)
    health.probed(ProbeResult(ProbeOutcome.BUSY, 1e9), 40.0)
    assert not health.is_fit(339.0)
    assert health.is_fit(340.0)


def test_without_probes_a_silent_address_rests() -> None:
    health = HopHealth(ProbeSettings(interval_s=0), 0.0)
    assert health.next_probe_s == math.inf
    assert not health.call_failed(1.0, is_silent=True, detail="sip_timeout")
    assert not health.is_fit(2.0)
    assert health.is_fit(31.0)


def test_a_server_is_as_well_as_its_best_address() -> None:
    now = 0.0
    book = HealthBook(lambda: now)
    told: list[str] = []
    book.on_change = told.append
    server = book.watch("sip:carrier", ProbeSettings(down_after=1))
    other = Hop("udp", "192.0.2.2", 5060)
    server.resolved([HOP, other], now)
    book.probed(server, HOP, DEAD)
    assert told == []
    book.probed(server, other, DEAD)
    assert told == ["sip:carrier"]
    assert not book.is_server_fit("sip:carrier", now)
    book.probed(server, other, ALIVE)
    assert told == ["sip:carrier"] * 2
    assert book.is_fit("sip:carrier", other, now)
    assert not book.is_fit("sip:carrier", HOP, now)
    server.resolved([other], now)
    assert book.hops_of("sip:carrier") == [other]
    assert book.is_server_fit("sip:unwatched", now)
    server.hops.clear()
    server.not_resolved("dns_failed")
    assert server.state is HealthState.DOWN


class Health(RuleBasedStateMachine):
    """Whatever happens: hysteresis holds, and a suspect is always looked into at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.health = HopHealth(PROBED, 0.0)
        self.alive = self.dead = 0

    @rule(seconds=st.floats(0, 100))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.now >= self.health.next_probe_s)
    @rule(outcome=st.sampled_from(ProbeOutcome), retry_after_s=st.floats(0.1, 1000))
    def probe(self, outcome: ProbeOutcome, retry_after_s: float) -> None:
        before = self.health.state
        rests = retry_after_s if outcome is ProbeOutcome.BUSY else 0.0
        self.health.probed(ProbeResult(outcome, rests), self.now)
        if outcome is ProbeOutcome.DEAD:
            self.alive, self.dead = 0, self.dead + 1
            assert self.health.state is not HealthState.UP or before is HealthState.UP
        else:
            self.alive, self.dead = self.alive + 1, 0
            assert self.health.state is not HealthState.DOWN or before is HealthState.DOWN
            assert not self.health.is_suspect
        if self.alive >= PROBED.up_after:
            assert self.health.state is HealthState.UP
        if self.dead >= PROBED.down_after:
            assert self.health.state is HealthState.DOWN

    @rule(is_silent=st.booleans(), retry_after_s=st.sampled_from([0.0, 0.0, 30.0]))
    def fail(self, is_silent: bool, retry_after_s: float) -> None:
        wanted = self.health.call_failed(
            self.now, is_silent=is_silent, detail="x", retry_after_s=retry_after_s
        )
        assert not wanted or self.health.next_probe_s <= self.now

    @rule()
    def take(self) -> None:
        self.health.call_taken()

    @invariant()
    def a_suspect_is_due(self) -> None:
        if self.health.is_suspect:
            assert self.health.next_probe_s <= self.now
            assert not self.health.is_fit(self.now)

    @invariant()
    def rest_is_bounded(self) -> None:
        assert self.health.busy_until_s <= self.now + 300.0


TestHealth = Health.TestCase
