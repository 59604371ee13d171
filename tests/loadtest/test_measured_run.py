"""A run that breaks off leaves nothing behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from loadtest import measured_run
from loadtest.generator.platform import UnderTest, running_one
from loadtest.scenario.model import Scenario


async def test_a_generator_that_fails_ends_the_watch_and_tells_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(_scenario: Scenario, _under_test: UnderTest, _tally: object) -> None:
        raise ValueError("no such sound")

    monkeypatch.setattr(measured_run, "play", fail)
    scenario = Scenario.model_validate({
        "name": "broken", "duration_s": 1, "registrations": {"phones": 1, "per_s": 1},
    })  # fmt: skip
    with pytest.raises(ValueError, match="no such sound"):
        await measured_run.measured_run(scenario, running_one(("127.0.0.1", 9)))
    assert "watch" not in {thread.name for thread in threading.enumerate()}
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert all(task.cancelling() for task in others)


async def test_a_run_that_is_stopped_while_its_platform_starts_ends_at_once() -> None:
    stop, steps = asyncio.Event(), list[str]()

    @asynccontextmanager
    async def never_ready() -> AsyncIterator[UnderTest]:
        try:
            steps.append("starts")
            stop.set()
            await asyncio.Event().wait()
            yield UnderTest(("127.0.0.1", 9), "127.0.0.1")
        finally:
            await asyncio.sleep(0)
            steps.append("ends")

    scenario = Scenario.model_validate({
        "name": "early", "duration_s": 1, "registrations": {"phones": 1, "per_s": 1},
    })  # fmt: skip
    with pytest.raises(measured_run.StoppedBeforeError):
        await measured_run.measured_run(scenario, never_ready(), stop=stop)
    assert steps == ["starts", "ends"]
