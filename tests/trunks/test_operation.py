"""Trunks over real sockets: probes, failover in mid-load, registrations, reloads."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from cti.admission import Admitted
from cti.calls.fork import Fork, TrunkWay, Way
from cti.settings import TrunkSettings
from cti.sip.sessions.session import Referral, SessionEnd, SessionObserverBase
from cti.sip.transports.transport import Hop
from cti.trunks.outbound import TrunkAttempt
from cti.trunks.registration import RegistrationState
from demo.ports import free_port
from domain.failures import Code
from tests.peers.process import PeerProcess
from tests.trunks.conftest import (
    TENANT,
    Carrier,
    CarrierRegistrar,
    Platform,
    failovers,
    trunk,
)

SCENARIOS = Path(__file__).parent / "sipp"
NUMBER = "13700000000"


async def test_a_carrier_that_dies_and_comes_back(
    platform: Platform, carriers: list[Carrier]
) -> None:
    one, _ = carriers
    await platform.start(trunk("one", one.server))
    await platform.until(lambda: platform.state("one") == "up", "the carrier answers")
    await one.stop()
    await platform.until(lambda: platform.state("one") == "down", "the silence is noticed")
    await one.start(one.address[1])
    await platform.until(lambda: platform.state("one") == "up", "the carrier is back")
    assert platform.sink.states == [("one", "up"), ("one", "down"), ("one", "up")]
    (status,) = platform.trunks.statuses()
    assert status.hops[0].last_failure.startswith("OPTIONS ")


async def test_a_draining_carrier_is_not_down(platform: Platform, carriers: list[Carrier]) -> None:
    one, two = carriers
    await platform.start(trunk("one", one.server), trunk("two", two.server, priority=2))
    await platform.until(lambda: platform.state("one") == "up", "the carrier answers")
    one.agent.is_available = lambda: False

    async def spares_it() -> bool:
        return await platform.first_choice() == "two"

    await platform.until(spares_it, "the wish for rest is granted")
    (status, _) = platform.trunks.statuses()
    assert status.state == "up"
    assert status.hops[0].rests_for_s > 0
    one.agent.is_available = lambda: True
    assert platform.sink.states.count(("one", "down")) == 0


async def test_a_server_that_dns_does_not_know(platform: Platform) -> None:
    await platform.start(trunk("lost", "sip:nowhere.invalid"))
    await platform.until(lambda: platform.state("lost") == "down", "no address is found")
    (status,) = platform.trunks.statuses()
    assert status.hops[0].last_failure == "dns_failed"


@pytest.mark.peer
async def test_sipp_as_carrier_is_probed_killed_and_found_dead(
    platform: Platform, tmp_path: Path
) -> None:
    port = free_port()
    carrier = PeerProcess(tmp_path)
    await carrier.start([
        "/usr/bin/sipp", "-sf", str(SCENARIOS / "carrier_options.xml"), "-i", "127.0.0.1",
        "-p", str(port), "-nostdin", "-timeout", "30s",
    ])  # fmt: skip
    await platform.start(trunk("sipp", f"127.0.0.1:{port}"))
    await platform.until(lambda: platform.state("sipp") == "up", "sipp answers", 15)
    await carrier.stop()
    began = asyncio.get_running_loop().time()
    await platform.until(lambda: platform.state("sipp") == "down", "sipp is dead")
    assert asyncio.get_running_loop().time() - began < 2.0


# Calls out


class Caller:
    """Places a call as legs do, over one trunk after the other, and ends it when it is answered."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.outcome: asyncio.Future[Code] = asyncio.get_running_loop().create_future()
        self.tried: list[str] = []
        self.begun_s = asyncio.get_running_loop().time()

    async def run(self) -> None:
        attempts = await self.platform.trunks.outbound.attempts(TENANT, NUMBER)
        Fork(self, self._ways(attempts)).ring()

    def _ways(self, attempts: list[TrunkAttempt]) -> Iterator[TrunkWay]:
        clock = asyncio.get_running_loop().time
        for attempt in attempts:
            self.tried.append(attempt.trunk)
            agent, trunks = self.platform.agent, self.platform.trunks.outbound
            yield TrunkWay(agent, trunks, attempt, clock, max_forwards=70)

    def fork_offer(self, fork: Fork, way: Way) -> bytes:
        return b"v=0\r\n"

    def fork_progressed(self, fork: Fork, sdp: bytes) -> None:
        """See ForkOwner."""

    def fork_answered(self, fork: Fork, sdp: bytes) -> None:
        fork.end(Code.FLOW_ENDED)

    def fork_acknowledged(self, sdp: bytes) -> None:
        """See ForkOwner."""

    def fork_changes(self, sdp: bytes) -> None:
        """See ForkOwner."""

    def fork_change_refused(self, code: Code) -> None:
        """See ForkOwner."""

    def fork_reoffered(self, fork: Fork, sdp: bytes) -> bytes | Code:
        return Code.NO_COMMON_CODEC

    def fork_referred(self, referral: Referral) -> None:
        """See ForkOwner."""

    def fork_info(self, fork: Fork, content_type: str, body: bytes) -> None:
        """See ForkOwner."""

    def fork_ended(self, fork: Fork, end: SessionEnd) -> None:
        self.outcome.set_result(end.code)


async def call(platform: Platform) -> tuple[Code, list[str]]:
    caller = Caller(platform)
    await caller.run()
    return await asyncio.wait_for(caller.outcome, 10), caller.tried


@pytest.mark.parametrize("status", [503, 500, 502, 408])
async def test_a_trunk_that_refuses_is_followed_by_the_next(
    platform: Platform, carriers: list[Carrier], status: int
) -> None:
    one, two = carriers
    one.status = status
    await platform.start(trunk("one", one.server), trunk("two", two.server, priority=2))
    assert await call(platform) == (Code.FLOW_ENDED, ["one", "two"])
    assert all(status.calls == 0 for status in platform.trunks.statuses())


@pytest.mark.parametrize(
    ("status", "code"), [(486, Code.BUSY), (603, Code.DECLINED), (480, Code.NO_ANSWER)]
)
async def test_what_the_callee_says_is_final(
    platform: Platform, carriers: list[Carrier], status: int, code: Code
) -> None:
    one, two = carriers
    one.status = status
    await platform.start(trunk("one", one.server), trunk("two", two.server, priority=2))
    assert await call(platform) == (code, ["one"])
    assert not two.sessions


async def test_who_rang_is_not_rung_over_another_trunk(
    platform: Platform, carriers: list[Carrier]
) -> None:
    one, two = carriers
    one.rings, one.status = True, 503
    await platform.start(trunk("one", one.server), trunk("two", two.server, priority=2))
    await platform.until(lambda: platform.state("one") == "up", "the carrier answers")
    before = failovers()
    for _ in range(4):
        assert (await call(platform))[1] == ["one"]
    assert failovers() == before
    assert await platform.first_choice() == "one"
    assert not two.sessions


async def test_retry_after_is_respected(platform: Platform, carriers: list[Carrier]) -> None:
    one, two = carriers
    one.status, one.headers = 503, [("Retry-After", "30")]
    probe = {"interval_s": 0}
    await platform.start(
        trunk("one", one.server, probe=probe), trunk("two", two.server, priority=2, probe=probe)
    )
    await platform.until(
        lambda: bool(platform.trunks.outbound._health.hops_of(one.server)), "found"
    )
    assert await call(platform) == (Code.FLOW_ENDED, ["one", "two"])
    assert await call(platform) == (Code.FLOW_ENDED, ["two"])


async def test_a_trunk_killed_in_mid_load_fails_no_call(
    platform: Platform, carriers: list[Carrier]
) -> None:
    """The budget of failover: the wait for an answer, and the first such silence warns all."""
    one, two = carriers
    answer_within_s = 0.4
    # Probes come too seldom to notice: the calls do.
    await platform.start(
        trunk(
            "one",
            one.server,
            answer_within_s=answer_within_s,
            probe={"interval_s": 60, "timeout_s": 0.2},
        ),
        trunk("two", two.server, priority=2),
    )
    await platform.until(lambda: platform.state("one") == "up", "the carrier answers")
    loop = asyncio.get_running_loop()
    calls: list[asyncio.Task[None]] = []
    callers: list[Caller] = []
    killed_s = 0.0

    def begin() -> None:
        caller = Caller(platform)
        callers.append(caller)
        calls.append(loop.create_task(caller.run()))

    for at in range(150):
        loop.call_later(at * 0.01, begin)
    await platform.until(lambda: len(callers) >= 50, "the load has begun")
    killed_s = loop.time()
    await one.stop()
    silent = socket.socket(type=socket.SOCK_DGRAM)
    silent.bind(one.address)  # no ICMP: the machine is gone, not only its program
    await platform.until(lambda: len(callers) == 150, "the load is placed")
    outcomes = await asyncio.wait_for(asyncio.gather(*(one.outcome for one in callers)), 10)
    assert set(outcomes) == {Code.FLOW_ENDED}
    late = [one for one in callers if one.begun_s > killed_s + answer_within_s + 0.2]
    assert late
    assert {tuple(caller.tried) for caller in late} == {("two",)}
    assert {tuple(caller.tried) for caller in callers} >= {("one",), ("one", "two"), ("two",)}
    assert platform.trunks.outbound.calls == 0
    await platform.until(lambda: ("one", "down") in platform.sink.states, "probes tell it too")
    silent.close()


async def test_a_reload_keeps_calls_and_probes_what_changed(
    platform: Platform, carriers: list[Carrier]
) -> None:
    one, two = carriers
    await platform.start(trunk("one", one.server))
    await platform.until(lambda: platform.state("one") == "up", "the carrier answers")
    (attempt,) = await platform.trunks.outbound.attempts(TENANT, NUMBER)
    assert platform.trunks.outbound.take(attempt, 1.0)
    platform.reload(trunk("one", one.server, max_calls=1), trunk("two", two.server, priority=2))
    assert platform.state("one") == "up"
    assert await platform.first_choice() == "two"
    platform.trunks.outbound.release(attempt)
    assert await platform.first_choice() == "one"
    await platform.until(lambda: platform.state("two") == "up", "the new one is probed")
    platform.reload(trunk("two", two.server))
    assert [status.trunk for status in platform.trunks.statuses()] == ["two"]


# Registration


async def sipp_registrar(directory: Path) -> tuple[PeerProcess, int]:
    port = free_port()
    carrier = PeerProcess(directory)
    await carrier.start([
        "/usr/bin/sipp", "-sf", str(SCENARIOS / "carrier_registrar.xml"), "-i", "127.0.0.1",
        "-p", str(port), "-nostdin", "-timeout", "30s", "-m", "1", "-trace_err",
        "-error_file", str(directory / "errors"), "-trace_msg",
        "-message_file", str(directory / "messages"),
    ])  # fmt: skip
    return carrier, port


def account(port: int) -> TrunkSettings:
    return trunk(
        "account",
        f"127.0.0.1:{port}",
        probe={"interval_s": 0},
        register={"user": "02195598", "domain": "carrier.example", "expires_s": 30},
        auth_user="account1",
    )


@pytest.mark.peer
async def test_a_wrong_password_is_told(platform: Platform, tmp_path: Path) -> None:
    platform.password = "wrong"
    carrier, port = await sipp_registrar(tmp_path)
    await platform.start(account(port), first_wait_s=0.3)

    def is_refused() -> bool:
        (status,) = platform.trunks.statuses()
        return status.registrations[0].last_failure.startswith("authentication_failed")

    await platform.until(is_refused, "sipp refuses the password", 15)
    await carrier.stop()


@pytest.mark.peer
async def test_registration_with_a_carrier_and_a_call_from_it(
    platform: Platform, tmp_path: Path
) -> None:
    carrier, port = await sipp_registrar(tmp_path)
    await platform.start(account(port), first_wait_s=0.3)

    def is_registered() -> bool:
        (status,) = platform.trunks.statuses()
        return [one.state for one in status.registrations] == [RegistrationState.REGISTERED]

    await platform.until(is_registered, "sipp takes the registration", 15)
    await carrier.exited(10)
    (status,) = platform.trunks.statuses()
    assert status.registrations[0].granted_s == 60
    messages = (tmp_path / "messages").read_text()
    assert "REGISTER sip:127.0.0.1" in messages
    assert "To: <sip:02195598@carrier.example>" in messages
    (registered,) = platform.admission.directory.trunks.values()
    assert f"Contact: <sip:{registered.contact_user}@127.0.0.1:{platform.address[1]}>" in messages
    # The carrier calls the Contact that it was given; the number stands in To.
    caller = Carrier()
    await caller.start()
    caller.agent.invite(
        f"sip:{registered.contact_user}@127.0.0.1:{platform.address[1]}",
        from_="sip:13812345678@carrier.example",
        to="sip:02195598@carrier.example",
        hop=Hop("udp", *platform.address),
        sdp=b"v=0\r\n",
        observer=SessionObserverBase(),
    )
    session = await asyncio.wait_for(platform.incoming.get(), 5)
    decision = platform.admission.admit_invite(session.request, session.source, 1.0)
    assert isinstance(decision, Admitted)
    assert (decision.trunk.name, decision.access_code.code) == ("account", "95598")
    session.reject(Code.FLOW_ENDED)
    await caller.stop()


async def test_registrations_are_refreshed_retried_and_taken_away(platform: Platform) -> None:
    carrier = CarrierRegistrar()
    await carrier.start()
    own = trunk(
        "account", carrier.server, probe={"interval_s": 0}, register={"user": "1", "expires_s": 10}
    )
    carrier.register_status = 500
    await platform.start(own, first_wait_s=0.1)
    await platform.until(lambda: len(carrier.asked) >= 2, "it is tried again")
    carrier.register_status = 200

    def state() -> RegistrationState:
        (status,) = platform.trunks.statuses()
        return status.registrations[0].state

    await platform.until(lambda: state() is RegistrationState.REGISTERED, "it is registered")
    before = len(carrier.asked)
    await platform.until(lambda: len(carrier.asked) > before, "it is refreshed")
    assert len({call_id for _, call_id in carrier.asked}) == 1
    await platform.trunks.aclose()
    assert carrier.asked[-1][0] == "0"
    await carrier.stop()
