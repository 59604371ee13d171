"""A worker's heartbeat, and what its supervisor makes of it."""

from __future__ import annotations

import os

import pytest
from prometheus_client import REGISTRY

from node import heartbeat
from node.heartbeat import Heartbeat, Pulse
from tests.node.running import until


async def test_a_loop_that_runs_beats_and_one_that_has_ended_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.01)
    pulse = Pulse()
    pulse.look()
    assert (pulse.has_beaten, pulse.silent_looks) == (False, 1)
    with Heartbeat(pulse.environment()):
        for _ in range(2):
            pulse.begin_again("died")

            def beats() -> bool:
                pulse.look()
                return pulse.has_beaten

            await until(beats)
            assert pulse.silent_looks == 0
        assert not os.get_inheritable(pulse.writing)
    pulse.look()
    for count in range(1, 4):
        pulse.look()
        assert pulse.silent_looks >= count
    assert pulse.has_beaten
    pulse.close()


def test_a_new_process_is_not_taken_for_alive_by_the_beats_of_the_last_one() -> None:
    pulse = Pulse()
    os.write(pulse.writing, b"...")
    pulse.begin_again("hung")
    pulse.look()
    assert not pulse.has_beaten
    pulse.close()


async def test_nobody_who_looks_keeps_a_worker_from_nothing() -> None:
    pulse = Pulse()
    while True:
        try:
            os.write(pulse.writing, b"." * 4096)
        except BlockingIOError:
            break
    with Heartbeat(pulse.environment()):
        pass
    os.close(pulse._reading)
    with Heartbeat(pulse.environment()):  # the supervisor is gone
        pass
    os.close(pulse.writing)


async def test_without_a_supervisor_there_is_no_beat() -> None:
    with Heartbeat({}) as alone:
        assert alone._timer is None


def test_a_worker_tells_how_often_it_was_begun_again() -> None:
    def counted(cause: str) -> float:
        return REGISTRY.get_sample_value("worker_restarts_total", {"cause": cause}) or 0.0

    before = {cause: counted(cause) for cause in ("died", "hung")}
    pulse = Pulse()
    for cause in ("died", "hung", "died"):
        pulse.begin_again(cause)
    Heartbeat(pulse.environment())
    assert counted("died") - before["died"] == 2
    assert counted("hung") - before["hung"] == 1
    pulse.close()
