"""Agents' phones stay registered for as long as a run lasts."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import pairwise
from typing import cast

import pytest

from domain.tasks import end_tasks
from loadtest.figures.tally import Tally
from loadtest.generator.registrations import RegisteredPhones
from loadtest.generator.sip_line import SipLine
from loadtest.virtual_loop import run_virtually

PHONES = ("1001", "1002", "1003")


class Registrar(asyncio.DatagramProtocol):
    """Says `status` to every REGISTER, and counts those of each phone."""

    def __init__(self) -> None:
        self.status = "200 OK"
        self.seen: Counter[str] = Counter()
        self.came_s: list[float] = []
        self.transport: asyncio.DatagramTransport
        self.enough = asyncio.Event()
        self.wanted = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        lines = data.decode().split("\r\n")
        copied = [
            each for each in lines if each.startswith(("Via:", "From:", "To:", "Call-ID:", "CSeq:"))
        ]
        user = next(each for each in copied if each.startswith("To:")).partition("sip:")[2]
        self.seen[user.partition("@")[0]] += 1
        self.came_s.append(asyncio.get_running_loop().time())
        answer = [f"SIP/2.0 {self.status}", *copied, "Content-Length: 0", "", ""]
        self.transport.sendto("\r\n".join(answer).encode(), addr)
        if len(self.seen) == len(PHONES) and min(self.seen.values()) >= self.wanted:
            self.enough.set()

    async def until_each_came(self, times: int) -> None:
        self.wanted = times
        self.enough.clear()
        await asyncio.wait_for(self.enough.wait(), 10)


@pytest.fixture
async def registrar() -> Registrar:
    loop = asyncio.get_running_loop()
    _, found = await loop.create_datagram_endpoint(Registrar, local_addr=("127.0.0.1", 0))
    return found


async def test_agents_phones_register_again_before_they_are_forgotten(registrar: Registrar) -> None:
    line = SipLine("127.0.0.1")
    at = registrar.transport.get_extra_info("sockname")[:2]
    phones = RegisteredPhones(line, [at], "realm", dict.fromkeys(PHONES, "secret"))
    tally = Tally(asyncio.get_running_loop().time)
    keeping = asyncio.create_task(phones.keep(tally, every_s=0.03))
    try:
        await registrar.until_each_came(3)
        assert not tally.registrations_failed
        registrar.status = "403 Forbidden"
        await registrar.until_each_came(registrar.seen.most_common(1)[0][1] + 2)
        assert tally.registrations_failed["403"]
    finally:
        await end_tasks([keeping])
        line.close()
        registrar.transport.close()


def test_agents_phones_register_again_one_by_one_all_the_time() -> None:
    came_s = run_virtually(_times_of_registrations(4))
    assert max(came_s[: len(PHONES)]) <= 1800
    gaps = [after - before for before, after in pairwise(came_s)]
    assert min(gaps) > 399
    assert max(gaps) < 401


async def _times_of_registrations(times: int) -> list[float]:
    """Return seconds since the phones began to be kept."""
    loop = asyncio.get_running_loop()
    transport, registrar = await loop.create_datagram_endpoint(
        Registrar, local_addr=("127.0.0.1", 0)
    )
    line = SipLine("127.0.0.1")
    at = transport.get_extra_info("sockname")[:2]
    phones = RegisteredPhones(line, [at], "realm", dict.fromkeys(PHONES, "secret"))
    began_s = loop.time()
    keeping = asyncio.create_task(phones.keep(Tally(loop.time)))
    try:
        registrar.wanted = times
        await registrar.enough.wait()
    finally:
        await end_tasks([keeping])
        line.close()
        transport.close()
    return [each - began_s for each in registrar.came_s]
