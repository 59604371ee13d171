"""The metrics that a long run watches: they are there, they move, and few are cheaper than all."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import aiohttp
import pytest
from prometheus_client import REGISTRY

from node.counts_on_demand import CountsOnDemand
from node.http import Health, HttpServer, gateway
from node.loop_delay import LoopDelay
from node.stores.redis_round_trips import count_round_trips
from tests.node.running import running_redis


def _value(name: str) -> float:
    value = REGISTRY.get_sample_value(name)
    assert value is not None
    return value


async def test_a_loop_that_is_held_up_shows_how_long() -> None:
    late = "event_loop_delay_seconds_sum"
    before = _value(late)
    with LoopDelay():
        time.sleep(0.35)  # noqa: ASYNC251 - it is what is measured
        while _value(late) == before:  # noqa: ASYNC110 - a timer that says nothing to anybody
            await asyncio.sleep(0)
    assert _value(late) - before >= 0.2


@pytest.mark.stores
async def test_each_time_redis_is_asked_is_counted_a_pipeline_once(tmp_path: Path) -> None:
    async with running_redis(tmp_path) as (_, server, client):
        counted = type(client).from_url(server.url)
        count_round_trips(counted)
        await counted.ping()
        before = _value("redis_round_trips_total")
        await counted.set("key", "value")
        async with counted.pipeline(transaction=False) as pipeline:
            pipeline.get("key")
            pipeline.get("key")
            await pipeline.execute()
        await counted.aclose()
        assert _value("redis_round_trips_total") - before == 2


async def test_named_metrics_are_told_alone() -> None:
    held = {"timers": 3, "sessions": 1}
    server = HttpServer(gateway(lambda: Health("n1", True, 0)), "127.0.0.1", 0)
    host, port = await server.start()
    url = f"http://{host}:{port}/metrics"
    try:
        with CountsOnDemand("example", "Example", lambda: held):
            assert await _samples(f"{url}?name[]=example_timers") == ["example_timers 3.0"]
            held["timers"] = 4
            everything = await _samples(url)
            assert "example_timers 4.0" in everything
            assert "example_sessions 1.0" in everything
    finally:
        await server.stop()


async def _samples(url: str) -> list[str]:
    async with aiohttp.ClientSession() as client, client.get(url) as answer:
        assert answer.status == 200
        return [line for line in (await answer.text()).splitlines() if not line.startswith("#")]
