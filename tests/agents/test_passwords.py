import asyncio
from collections.abc import Iterator

import pytest

from agents.passwords import PasswordCheck
from domain.failures import Code, PlatformError
from domain.ids import AgentId, TenantId
from tests.agents.conftest import refusal

DEMO, ANN = TenantId("demo"), AgentId("1001")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def asked() -> list[str]:
    return []


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def check(asked: list[str], clock: Clock) -> Iterator[PasswordCheck]:
    def verify(tenant: TenantId, agent: AgentId, password: str) -> bool:
        asked.append(password)
        return password == "right"

    check = PasswordCheck(verify, clock, remember_s=60.0)
    yield check
    check.close()


async def wrong(check: PasswordCheck, times: int) -> None:
    for _ in range(times):
        with refusal(Code.PASSWORD_WRONG):
            await check.check(DEMO, ANN, "wrong")


async def test_a_second_sign_in_does_not_hash_again(
    check: PasswordCheck, asked: list[str], clock: Clock
) -> None:
    for _ in range(3):
        await check.check(DEMO, ANN, "right")
    assert asked == ["right"]
    clock.now = 61.0
    await check.check(DEMO, ANN, "right")
    assert asked == ["right", "right"]


async def test_a_forgotten_password_is_verified_again(
    check: PasswordCheck, asked: list[str]
) -> None:
    await check.check(DEMO, ANN, "right")
    check.forget(DEMO, ANN)
    await check.check(DEMO, ANN, "right")
    assert len(asked) == 2


async def test_five_failures_lock_for_a_time_even_the_right_password(
    check: PasswordCheck, clock: Clock
) -> None:
    await check.check(DEMO, ANN, "right")
    await wrong(check, 5)
    with refusal(Code.AGENT_LOCKED):
        await check.check(DEMO, ANN, "right")
    await check.check(DEMO, AgentId("1002"), "right")
    clock.now = 301.0
    await check.check(DEMO, ANN, "right")
    await wrong(check, 4)


async def test_success_and_time_clear_the_count(check: PasswordCheck, clock: Clock) -> None:
    await wrong(check, 4)
    await check.check(DEMO, ANN, "right")
    await wrong(check, 4)
    clock.now = 301.0
    await wrong(check, 4)


async def test_parallel_guesses_are_limited_as_well(check: PasswordCheck, asked: list[str]) -> None:
    guesses = [check.check(DEMO, ANN, f"guess {n}") for n in range(50)]
    results = await asyncio.gather(*guesses, return_exceptions=True)
    assert len(asked) == 5
    assert [error.code for error in results if isinstance(error, PlatformError)].count(
        Code.AGENT_LOCKED
    ) == 45
