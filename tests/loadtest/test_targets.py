"""The targets in small: each starts a platform, loads it, and counts; bounds are for benches."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from loadtest.figures.names import NAMES
from loadtest.figures.tally import Tally
from loadtest.generator.platform import own_platform
from loadtest.generator.run import play
from loadtest.scenario.loader import load_scenario

_LOADTEST = Path(__file__).parents[2] / "loadtest"
_FILES = sorted((*_LOADTEST.glob("targets/*.yaml"), *_LOADTEST.glob("soaks/*.yaml")))

pytestmark = pytest.mark.peer


async def _played(target: str, data: Path) -> Tally:
    (file,) = (each for each in _FILES if each.stem == target)
    scenario = load_scenario(file, smoke=True)
    tally = Tally(asyncio.get_running_loop().time)
    async with own_platform(scenario, data) as under_test:
        await play(scenario, under_test, tally)
    return tally


@pytest.mark.parametrize("target", _FILES, ids=lambda file: file.stem)
def test_a_target_bounds_figures_that_there_are(target: Path) -> None:
    for smoke in (False, True):
        assert load_scenario(target, smoke=smoke, figures=NAMES).thresholds


async def test_every_caller_of_the_ivr_hears_presses_and_is_hung_up_on(tmp_path: Path) -> None:
    tally = await _played("ivr-caps", tmp_path)
    assert tally.offered == tally.completed > 0
    assert (dict(tally.failed), tally.live) == ({}, 0)
    assert tally.prompts_recognised == tally.prompts_expected == tally.offered
    assert tally.setup_s.count == tally.post_dial_delay_s.count == tally.offered
    assert tally.rtp_sent > 0
    assert tally.rtp_received > 0


async def test_every_caller_of_the_queue_talks_to_an_agent(tmp_path: Path) -> None:
    tally = await _played("queue-caps", tmp_path)
    assert tally.signed_in == 12
    assert tally.offered == tally.completed > 0
    assert tally.time_to_agent_s.count == tally.offered
    assert len(list((tmp_path / "recordings").rglob("*.wav"))) >= tally.offered


async def test_callers_of_ivr_and_agents_come_mixed(tmp_path: Path) -> None:
    tally = await _played("half-load", tmp_path)
    assert tally.offered == tally.completed > 0
    assert 0 < tally.time_to_agent_s.count < tally.offered


async def test_calls_at_once_hear_every_packet(tmp_path: Path) -> None:
    tally = await _played("concurrent-rtp", tmp_path)
    assert tally.offered == tally.completed > 0
    assert tally.rtp_lost == 0


async def test_conversations_at_once_are_recorded_and_hear_every_packet(tmp_path: Path) -> None:
    tally = await _played("concurrent-recorded", tmp_path)
    assert tally.offered == tally.completed == tally.time_to_agent_s.count > 0
    assert tally.rtp_lost == 0
    assert len(list((tmp_path / "recordings").rglob("*.wav"))) == tally.offered


async def test_all_phones_register_and_refresh(tmp_path: Path) -> None:
    tally = await _played("register", tmp_path)
    assert not tally.registrations_failed
    assert tally.registered == 50 + 50


async def test_all_agents_sign_in(tmp_path: Path) -> None:
    tally = await _played("sign-in", tmp_path)
    assert not tally.sign_ins_failed
    assert tally.signed_in == 20
