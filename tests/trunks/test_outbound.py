"""Calls out: order, limits, failover, and counts that are right whatever happens."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cti.admission import Admission, Admitted
from cti.identity import UserToUser
from cti.settings import AccessCodeSettings, TrunkSettings
from cti.sip.location.resolver import Resolver
from cti.sip.transports.transport import Hop
from cti.trunks.health import ProbeOutcome, ProbeResult
from cti.trunks.health_book import HealthBook
from cti.trunks.number_lists import prefix_table
from cti.trunks.outbound import OutboundTrunks, TrunkAttempt
from cti.trunks.settings import OutboundSettings
from cti.trunks.tenant_access import TenantAccess
from domain.failures import Code, PlatformError
from domain.ids import TenantId
from tests.trunks.conftest import failovers

DEMO = TenantId("demo")
CODES = [AccessCodeSettings(code="95598", flow="main")]


def trunk(name: str, *servers: str, **fields: Any) -> TrunkSettings:
    return TrunkSettings.model_validate({"name": name, "server": list(servers), **fields})


class Bench:
    """Trunks out on a clock that the test moves."""

    def __init__(self, *trunks: TrunkSettings, **outbound: Any) -> None:
        self.now = 100.0
        access = TenantAccess(
            DEMO,
            trunks,
            CODES,
            outbound=OutboundSettings.model_validate(outbound),
            home_mobiles=prefix_table(["1380000"]),
        )
        self.admission = Admission([access])
        self.book = HealthBook(lambda: self.now)
        self.passwords: dict[tuple[str, str], str] = {}
        self.out = OutboundTrunks(
            lambda: self.admission.directory,
            self.book,
            Resolver().locate,
            lambda tenant, name: self.passwords.get((tenant, name)),
            random_number=lambda: 0.5,
        )
        for one in trunks:
            for server in one.server:
                self.book.watch(server, one.probe)

    async def to(self, number: str = "13700000000", **options: Any) -> list[TrunkAttempt]:
        return await self.out.attempts(DEMO, number, **options)

    async def names(self) -> list[str]:
        return [attempt.trunk for attempt in await self.to()]

    def probe(self, server: str, hop: Hop, outcome: ProbeOutcome, times: int = 2) -> None:
        watched = self.book.servers[server]
        watched.resolved([hop], self.now)
        for _ in range(times):
            self.book.probed(watched, hop, ProbeResult(outcome))


async def test_an_attempt_holds_all_that_an_invite_needs() -> None:
    bench = Bench(
        trunk(
            "telecom",
            "sip:192.0.2.1:5070;transport=tcp",
            outbound_proxy="sip:192.0.2.9",
            auth_user="4008",
            caller_id="p_asserted_identity",
            answer_within_s=1.5,
            number_rules={"called_out": [{"match": "0", "prefix": "9"}]},
        ),
        caller_numbers=["95598", "02195598"],
        default_caller="02195598",
    )
    bench.passwords["demo", "telecom"] = "secret"
    (attempt,) = await bench.to(caller="95598")
    assert attempt.uri == "sip:9013700000000@192.0.2.1:5070;transport=tcp"
    assert str(attempt.to) == "<sip:9013700000000@192.0.2.1>"
    assert str(attempt.from_) == '"95598" <sip:95598@192.0.2.1>'
    assert attempt.hop == Hop("udp", "192.0.2.9", 5060)
    assert attempt.route == ("<sip:192.0.2.9;lr>",)
    assert dict(attempt.headers)["P-Asserted-Identity"].endswith("<sip:95598@192.0.2.1>")
    assert attempt.credentials is not None
    assert (attempt.credentials.user, attempt.credentials.password) == ("4008", "secret")
    assert attempt.answer_within_s == 1.5
    (attempt,) = await bench.to("13800001234", caller="13912345678", privacy=True)
    # A caller's number that is not the tenant's own is never shown.
    assert "13912345678" not in str(attempt)
    assert attempt.uri.startswith("sip:13800001234@")
    assert str(attempt.from_) == '"Anonymous" <sip:anonymous@anonymous.invalid>'
    assert dict(attempt.headers)["Privacy"] == "id"


async def test_data_of_users_goes_along_when_asked() -> None:
    data = UserToUser("04323334", "hex", "")
    (attempt,) = await Bench(trunk("a", "192.0.2.1")).to(user_to_user=data)
    assert attempt.headers == (("User-To-User", "04323334;encoding=hex"),)


async def test_without_caller_numbers_the_access_code_calls() -> None:
    (attempt,) = await Bench(trunk("a", "192.0.2.1")).to(caller="110")
    assert str(attempt.from_) == '"95598" <sip:95598@192.0.2.1>'


async def test_the_order_is_that_of_priority_and_configuration() -> None:
    bench = Bench(
        trunk("backup", "192.0.2.3", priority=2),
        trunk("main", "192.0.2.1", "192.0.2.2", priority=1),
        TrunkSettings.model_validate({"name": "inbound", "addresses": ["192.0.2.0/24"]}),
    )
    assert await bench.names() == ["main", "main", "backup"]
    assert await Bench(trunk("a", "192.0.2.1"), trunk("b", "192.0.2.2"), trunks=["b"]).names() == [
        "b"
    ]


async def test_a_trunk_that_is_down_comes_last() -> None:
    bench = Bench(trunk("a", "192.0.2.1"), trunk("b", "192.0.2.2", priority=2))
    one, other = Hop("udp", "192.0.2.1", 5060), Hop("udp", "192.0.2.2", 5060)
    bench.probe("sip:192.0.2.1", one, ProbeOutcome.DEAD)
    assert await bench.names() == ["b", "a"]
    bench.probe("sip:192.0.2.2", other, ProbeOutcome.DEAD)
    assert await bench.names() == ["a", "b"]


async def test_a_full_trunk_is_left_out_and_all_full_is_busy() -> None:
    bench = Bench(
        trunk("a", "192.0.2.1", max_calls=1), trunk("b", "192.0.2.2", priority=2, max_calls=1)
    )
    first, second = await bench.to()
    assert bench.out.take(first, bench.now)
    assert await bench.names() == ["b"]
    assert not bench.out.take(first, bench.now)
    assert bench.out.take(second, bench.now)
    with pytest.raises(PlatformError) as caught:
        await bench.to()
    assert caught.value.code is Code.TRUNK_BUSY
    bench.out.release(first)
    assert await bench.names() == ["a"]


async def test_no_trunk_no_tenant_no_number() -> None:
    for bench, number, code in (
        (Bench(), "10086", Code.NO_TRUNK),
        (Bench(trunk("a", "sip:nowhere.invalid")), "10086", Code.NO_TRUNK),
        (
            Bench(trunk("a", "192.0.2.1"), forbidden_prefixes=["100"]),
            "10086",
            Code.NUMBER_FORBIDDEN,
        ),
    ):
        with pytest.raises(PlatformError) as caught:
            await bench.to(number)
        assert caught.value.code is code
    with pytest.raises(PlatformError):
        await Bench().out.attempts(TenantId("other"), "10086")


@pytest.mark.parametrize(
    ("status", "code", "again"),
    [
        (503, Code.FAR_END_REFUSED, True),
        (408, Code.SIP_TIMEOUT, True),
        (408, Code.SIP_TRANSPORT, True),
        (500, Code.FAR_END_REFUSED, True),
        (502, Code.FAR_END_REFUSED, True),
        (407, Code.AUTHENTICATION_FAILED, True),
        (486, Code.BUSY, False),
        (603, Code.DECLINED, False),
        (404, Code.FAR_END_REFUSED, False),
        (480, Code.NO_ANSWER, False),
        (403, Code.FAR_END_REFUSED, False),
        (488, Code.NO_COMMON_CODEC, False),
        (200, Code.FLOW_ENDED, False),
    ],
)
async def test_failover_is_for_failures_of_the_trunk(status: int, code: Code, again: bool) -> None:
    bench = Bench(trunk("a", "192.0.2.1"))
    (attempt,) = await bench.to()
    assert bench.out.report(attempt, status, code) is again


@pytest.mark.parametrize(
    ("status", "code"),
    [(503, Code.FAR_END_REFUSED), (408, Code.SIP_TIMEOUT), (408, Code.SIP_TRANSPORT)],
)
async def test_a_failure_after_ringing_is_not_the_trunks(status: int, code: Code) -> None:
    bench = Bench(trunk("a", "192.0.2.1"))
    (attempt,) = await bench.to()
    bench.probe("sip:192.0.2.1", attempt.hop, ProbeOutcome.ALIVE)
    before = failovers()
    for _ in range(5):
        assert not bench.out.report(attempt, status, code, retry_after_s=30, was_heard=True)
    assert bench.book.is_fit("sip:192.0.2.1", attempt.hop, bench.now)
    assert bench.book.servers["sip:192.0.2.1"].hops[attempt.hop].last_failure == ""
    assert failovers() == before
    assert bench.out.report(attempt, status, code)
    assert failovers() == before + 1


async def test_silence_takes_a_trunk_out_at_once_and_retry_after_for_so_long() -> None:
    bench = Bench(trunk("a", "192.0.2.1"), trunk("b", "192.0.2.2", priority=2))
    bench.probe("sip:192.0.2.1", Hop("udp", "192.0.2.1", 5060), ProbeOutcome.ALIVE)
    first, _ = await bench.to()
    assert bench.out.report(first, 408, Code.SIP_TIMEOUT)
    assert bench.book.servers["sip:192.0.2.1"].wake.is_set()
    assert await bench.names() == ["b", "a"]
    bench.probe("sip:192.0.2.1", first.hop, ProbeOutcome.ALIVE, times=1)
    assert bench.out.report(first, 503, Code.FAR_END_REFUSED, retry_after_s=30)
    assert bench.book.is_fit("sip:192.0.2.1", first.hop, bench.now + 31)
    assert not bench.book.is_fit("sip:192.0.2.1", first.hop, bench.now + 29)


class Limits(RuleBasedStateMachine):
    """Calls in and out, taken, released (even twice) and reloaded at random."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.loop.run_until_complete(self._make())
        self.taken: list[TrunkAttempt] = []
        self.admitted: list[Admitted] = []

    async def _make(self) -> None:
        self.bench = Bench(self._trunk(5))
        self.attempt = (await self.bench.to())[0]

    def _trunk(self, max_calls: int) -> TrunkSettings:
        return trunk(
            "a", "192.0.2.1", addresses=["192.0.2.1"], max_calls=max_calls, outbound_reserve=2,
            max_calls_per_second=1000,
        )  # fmt: skip

    def teardown(self) -> None:
        self.loop.close()

    @property
    def limit(self) -> Any:
        return self.bench.admission.directory.trunks[DEMO, "a"].limit

    @rule()
    def dial(self) -> None:
        if self.limit.calls >= self.limit.max_calls:
            with pytest.raises(PlatformError) as caught:
                self.loop.run_until_complete(self.bench.to())
            assert caught.value.code is Code.TRUNK_BUSY
            return
        for attempt in self.loop.run_until_complete(self.bench.to()):
            assert self.bench.out.take(attempt, self.bench.now)
            self.taken.append(attempt)

    @rule(at=st.integers(0, 20), times=st.integers(1, 3))
    def end(self, at: int, times: int) -> None:
        if self.taken:
            attempt = self.taken.pop(at % len(self.taken))
            for _ in range(times):
                self.bench.out.release(attempt)

    @rule()
    def end_what_never_began(self) -> None:
        self.bench.out.release(self.attempt)

    @rule()
    def come_in(self) -> None:
        decision = self.bench.admission.admit("192.0.2.1", "95598", self.bench.now)
        if isinstance(decision, Admitted):
            self.admitted.append(decision)
        else:
            assert decision.code is Code.TRUNK_BUSY
            assert self.limit.calls + max(0, 2 - len(self.taken)) >= self.limit.max_calls

    @rule(at=st.integers(0, 20))
    def leave(self, at: int) -> None:
        if self.admitted:
            self.bench.admission.release(self.admitted.pop(at % len(self.admitted)))

    @rule(seconds=st.floats(0, 3))
    def wait(self, seconds: float) -> None:
        self.bench.now += seconds

    @rule(max_calls=st.integers(3, 8))
    def reload(self, max_calls: int) -> None:
        self.bench.admission.load([TenantAccess(DEMO, [self._trunk(max_calls)], CODES)])

    @invariant()
    def every_call_is_counted_once(self) -> None:
        assert self.limit.calls == len(self.taken) + len(self.admitted)
        assert self.limit.outbound_calls == len(self.taken) == self.bench.out.calls


TestLimits = Limits.TestCase
