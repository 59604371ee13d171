"""The line to Redis: trips are shared, each gets its own replies, and failures are told."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from domain.redis_line import RedisLine, accepted
from tests.fakes.turn import turn
from tests.routing.redis_process import RedisProcess, until

pytestmark = pytest.mark.stores


@pytest.fixture
def process(tmp_path: Path) -> Iterator[RedisProcess]:
    process = RedisProcess(tmp_path)
    process.start()
    yield process
    process.kill()


class Trips:
    def __init__(self) -> None:
        self.count = 0

    def add(self) -> None:
        self.count += 1


async def test_what_is_asked_meanwhile_goes_together(process: RedisProcess) -> None:
    client, trips = process.client(), Trips()
    line = RedisLine(client, on_round_trip=trips.add)
    first = asyncio.create_task(line.ask(("RPUSH", "list", "a")))
    await until(lambda: trips.count)
    more = [asyncio.create_task(line.ask(("RPUSH", "list", n), ("LLEN", "list"))) for n in "bcd"]
    assert await first == [1]
    assert await asyncio.gather(*more) == [[2, 2], [3, 3], [4, 4]]
    assert trips.count == 2
    await line.aclose()
    await client.aclose()


async def test_what_can_wait_goes_with_others(
    process: RedisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("domain.redis_line._COMPANY_WITHIN_S", 3600)
    client, trips = process.client(), Trips()
    line = RedisLine(client, on_round_trip=trips.add)
    waits = asyncio.create_task(line.ask(("RPUSH", "list", "a"), at_once=False))
    await client.ping()
    assert not waits.done()
    assert await line.ask(("RPUSH", "list", "b")) == [2]
    assert await waits == [1]
    assert trips.count == 1
    waits = asyncio.create_task(line.ask(("PING",), at_once=False))
    await turn()
    await line.aclose()
    with pytest.raises(asyncio.CancelledError):
        await waits
    monkeypatch.setattr("domain.redis_line._COMPANY_WITHIN_S", 0.001)
    assert await line.ask(("LLEN", "list"), at_once=False) == [2]  # nobody else comes
    await line.aclose()
    await client.aclose()


async def test_a_refusal_is_told_to_whom_it_belongs(process: RedisProcess) -> None:
    client = process.client()
    line = RedisLine(client)
    await line.ask(("SET", "text", "a"))
    wrong = asyncio.create_task(line.ask(("GET", "text"), ("INCR", "text"), ("GET", "text")))
    right = asyncio.create_task(line.ask(("ECHO", b"\xff\x00" * 100_000)))
    [before, refused, after] = await wrong
    assert (before, after) == (b"a", b"a")
    assert isinstance(refused, ResponseError)
    assert await right == [b"\xff\x00" * 100_000]
    with pytest.raises(ResponseError):
        accepted([before, refused])
    await line.aclose()
    await client.aclose()


async def test_a_script_comes_with_its_text_once(process: RedisProcess) -> None:
    client, trips = process.client(), Trips()
    line = RedisLine(client, on_round_trip=trips.add)
    script = "return {KEYS[1], ARGV[1], tonumber(ARGV[2])}"
    sha1 = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
    for _ in range(2):
        assert await line.run(script, sha1, ["key"], ("中文", 7)) == [b"key", "中文".encode(), 7]
    assert trips.count == 3
    with pytest.raises(ResponseError):
        await line.run("return redis.error_reply('no')", "0" * 40, [], ())
    await line.aclose()
    await client.aclose()


async def test_it_connects_again_and_nothing_is_lost_to_a_restart(process: RedisProcess) -> None:
    client = process.client()
    line = RedisLine(client)
    await line.ask(("PING",))
    process.kill()
    with pytest.raises((RedisConnectionError, OSError)):
        await line.ask(("PING",))
    process.start()
    assert await line.ask(("PING",)) == [b"PONG"]
    process.kill()
    process.start()
    link = line._link
    assert link is not None
    await until(lambda: link.is_gone)
    assert await line.ask(("PING",)) == [b"PONG"]  # the dead connection was not tried
    await line.aclose()
    await client.aclose()


async def test_a_redis_that_hangs_fails_the_trip_and_not_the_next(process: RedisProcess) -> None:
    client, trips = process.client(), Trips()
    line = RedisLine(client, on_round_trip=trips.add, within_s=0.05)
    await line.ask(("SET", "n", 0))
    process.hang()
    asking = asyncio.create_task(line.ask(("INCR", "n")))
    await until(lambda: trips.count == 2)
    given_up = asyncio.create_task(line.ask(("INCRBY", "n", 100)))
    await turn()
    given_up.cancel()
    with pytest.raises(RedisConnectionError):
        await asking
    process.go_on()
    # The first was sent and is carried out, though nobody heard of it; the second was not.
    replies = await line.ask(("INCR", "n"))
    assert replies[0] in {1, 2}
    assert given_up.cancelled()
    await line.aclose()
    await client.aclose()


async def test_closing_gives_up_what_waits(process: RedisProcess) -> None:
    client, trips = process.client(), Trips()
    line = RedisLine(client, on_round_trip=trips.add)
    await line.ask(("PING",))
    process.hang()
    sent = asyncio.create_task(line.ask(("PING",)))
    await until(lambda: trips.count == 2)
    waits = asyncio.create_task(line.ask(("PING",)))
    await turn()
    await line.aclose()
    for each in (sent, waits):
        with pytest.raises(asyncio.CancelledError):
            await each
    process.go_on()
    await client.aclose()
