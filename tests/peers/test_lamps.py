"""A phone watches the lamp of an agent's phone while a call comes to it."""

from __future__ import annotations

import re

import pytest

from cti.sip.messages.message import Request
from tests.peers.bench import Bench
from tests.sip_session.phones import PhonePeer

pytestmark = [pytest.mark.peer, pytest.mark.asyncio(loop_scope="session")]


async def lamp(watcher: PhonePeer) -> list[str]:
    """The states in the next NOTIFY."""
    notify = await watcher.expect("NOTIFY")
    watcher.reply(notify, 200)
    return re.findall("<state>(.*?)</state>", notify.body.decode())


async def until(watcher: PhonePeer, *wanted: str) -> None:
    while (seen := await lamp(watcher)) != list(wanted):
        assert seen in ([], ["early"], ["confirmed"], ["terminated"])


async def watch(bench: Bench, watcher: PhonePeer, expires: str) -> None:
    response = await watcher.asked(
        "SUBSCRIBE",
        uri=f"sip:1001@{bench.realm}",
        headers=[("Event", "dialog"), ("Expires", expires)],
    )
    assert response.status == 200, (response.status, response.reason)
    watcher.remote_to = str(response.to)


async def test_lamp_of_an_agent(bench: Bench) -> None:
    host, port = bench.server.split(":")
    watcher = await PhonePeer.create((host, int(port)))
    assert isinstance(watcher, PhonePeer)
    watcher.user, watcher.domain = "1002", bench.realm
    watcher.password = bench.phone_password("1002")
    async with (
        bench.phone("1001", register=True) as phone,
        bench.toolbar("1001"),
        bench.phone(bench.caller_number()) as caller,
    ):
        await watch(bench, watcher, "600")
        await lamp(watcher)
        heard = bench.directory("caller") / "heard.wav"
        call = caller.dial(bench.platform.access_url("96000"), bench.platform.sip, record=heard)
        await call.wait_answered(5)
        await call.wait_pause(10)
        await call.press("1")
        answered = await phone.next_call(10)
        await until(watcher, "early")
        answered.answer()
        await until(watcher, "confirmed")
        call.hang_up()
        await until(watcher, "terminated")
        await watch(bench, watcher, "0")
        notify = await watcher.expect("NOTIFY")
        assert isinstance(notify, Request)
        assert notify.headers.get("Subscription-State") == "terminated;reason=timeout"
        watcher.reply(notify, 200)
    watcher.close()
