"""Whatever happens in whatever order: no port, session, recording or count is left behind."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from cti.admission import Admission, TenantAccess
from cti.call import Call, DialTarget
from cti.calls.inbound_call import InboundCall
from cti.calls.number_plan import NumberPlan
from cti.media import PortId
from cti.sdp import Direction
from cti.settings import AccessCodeSettings, TrunkSettings
from domain.failures import Code, PlatformError
from domain.ids import TenantId
from tests.call_control.conftest import TENANT, Bench
from tests.fakes.descriptions import build_offer
from tests.fakes.session import FakeReferral, FakeSession
from tests.fakes.turn import turn

CLIP = Path("clip.wav")
PHONES = {"1": ["sip:1@192.0.2.1"], "2": ["sip:2@192.0.2.1", "sip:2@192.0.2.2"], "3": []}
INDEX = st.integers(0, 3)
TURNS = st.integers(0, 6)

T = TypeVar("T")


def flow_of(_tenant: TenantId, number: str) -> AccessCodeSettings | None:
    return AccessCodeSettings(code="95598", flow="main") if number == "f" else None


def pick(things: Sequence[T], index: int) -> Sequence[T]:
    """Return one of the latest few, or nothing."""
    return things[-1 - index : len(things) - index]


async def service(call: Call) -> None:
    """Do all that a flow with a queue does, as long as the caller lets it."""
    await call.answer()
    await call.play([CLIP])
    key = await call.collect([CLIP], first_digit_timeout_ms=60_000)
    if key.digits == "9":
        await call.hang_up(Code.QUEUE_TIMEOUT)
        return
    if key.digits == "8":
        raise ZeroDivisionError
    call.start_music([CLIP])
    release = asyncio.create_task(call.next_digit())
    user = key.digits if key.digits in PHONES else "1"
    dial = asyncio.create_task(call.dial(DialTarget(user, "13812345678"), timeout_ms=60_000))
    try:
        await asyncio.wait([release, dial], return_when=asyncio.FIRST_COMPLETED)
        if dial.done():
            await call.bridge(dial.result(), record_party=user)
    except PlatformError:
        call.stop_music()
    finally:
        release.cancel()
        dial.cancel()
        await asyncio.gather(release, dial, return_exceptions=True)
    await call.collect([CLIP], first_digit_timeout_ms=60_000)


class Calls(RuleBasedStateMachine):
    """Callers, phones, the media engine and the operator act at random."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        # The handlers' bugs are logged; what asyncio itself reports is a bug of ours.
        self.reported: list[str] = []
        self.loop.set_exception_handler(lambda _, context: self.reported.append(str(context)))
        self.callers: list[FakeSession] = []
        self.answered: list[FakeSession] = []
        self.referrals: list[FakeReferral] = []
        self.loop.run_until_complete(self._set_up())

    async def _set_up(self) -> None:
        trunk = TrunkSettings.model_validate(
            {"name": "t", "addresses": ["127.0.0.0/8"], "allow_refer": True}
        )
        codes = [AccessCodeSettings(code="95598", flow="main")]
        admission = Admission([TenantAccess(TENANT, [trunk], codes)])
        self.bench = Bench(Path(tempfile.gettempdir()), admission)
        self.bench.handler = service
        self.bench.media.prompts_end_by_themselves = False
        self.bench.contacts.by_user = PHONES
        plan = NumberPlan(is_phone=lambda _, user: user in PHONES, access_code=flow_of)
        object.__setattr__(self.bench.control._context, "number_plan", plan)

    def do(self, action: Callable[[], object] = lambda: None, turns: int = 3) -> None:
        async def run() -> None:
            action()
            for _ in range(turns):
                await turn()

        self.loop.run_until_complete(run())

    @rule(turns=st.integers(0, 6), acknowledges=st.booleans(), has_offer=st.booleans())
    def invite(self, turns: int, acknowledges: bool, has_offer: bool) -> None:
        session = FakeSession() if has_offer else FakeSession(offer=b"")
        session.acknowledges_at_once = acknowledges and has_offer
        self.callers.append(session)
        self.do(lambda: self.bench.invite(session), turns)

    @rule(steps=st.integers(1, 5), user=st.sampled_from("112"), turns=TURNS)
    def get_far(self, steps: int, user: str, turns: int) -> None:
        """Lead a new caller into the flow, the queue, a conversation or the rating."""
        media, phones = self.bench.media, self.bench.user_agent.sessions
        self.invite(6, acknowledges=True, has_offer=True)
        assert isinstance(self.bench.call, InboundCall)
        port, rang = self.bench.call.caller_port.port_id, len(phones)
        self.do(lambda: media.end_play(port))
        if steps > 1:
            self.do(lambda: media.key(port, user), 6 if steps > 2 else turns)
        if steps > 2:
            self.answered.append(phones[rang])
            self.do(phones[rang].answer, 6 if steps > 3 else turns)
        if steps > 3:
            self.do(phones[rang].hang_up, 6 if steps > 4 else turns)

    @rule(index=INDEX, with_sdp=st.booleans())
    def acknowledge(self, index: int, with_sdp: bool) -> None:
        for session in pick(self.callers, index):
            if session.accepted_sdp is not None:
                self.do(partial(session.acknowledge, session.offer if with_sdp else b""))

    @rule(index=INDEX, turns=TURNS)
    def caller_hangs_up(self, index: int, turns: int) -> None:
        for session in pick(self.callers, index):
            self.do(session.hang_up, turns)

    @rule(index=INDEX, code=st.sampled_from([Code.ACK_MISSING, Code.SIP_TRANSPORT]), turns=TURNS)
    def session_fails(self, index: int, code: Code, turns: int) -> None:
        for session in pick(self.callers, index):
            self.do(partial(session.fail, code), turns)

    @rule(index=INDEX, turns=TURNS)
    def phone_answers(self, index: int, turns: int) -> None:
        for session in pick(self.bench.user_agent.sessions, index):
            if session not in self.answered:
                self.answered.append(session)
                self.do(session.answer, turns)

    @rule(index=INDEX, code=st.sampled_from([Code.BUSY, Code.DECLINED, Code.SIP_TIMEOUT]))
    def phone_ends(self, index: int, code: Code) -> None:
        for session in pick(self.bench.user_agent.sessions, index):
            if session in self.answered:
                self.do(session.hang_up)
            else:
                self.do(partial(session.fail, code, by_peer=True))

    @rule(index=INDEX, by_phone=st.booleans(), whom=st.sampled_from("1123xf"), turns=TURNS)
    def transfer(self, index: int, by_phone: bool, whom: str, turns: int) -> None:
        """A phone or a caller sends the other party elsewhere; 3 is not there, f is a flow."""
        for session in pick(self.answered if by_phone else self.callers, index):
            self.refer(session, FakeReferral(f"sip:{whom}@cti95598"), turns)

    @rule(index=INDEX, other=INDEX, by_phone=st.booleans(), with_phone=st.booleans(), turns=TURNS)
    def transfer_attended(
        self, index: int, other: int, by_phone: bool, with_phone: bool, turns: int
    ) -> None:
        for session in pick(self.answered if by_phone else self.callers, index):
            for named in pick(self.answered if with_phone else self.callers, other):
                self.bench.user_agent.named[str(id(named))] = named
                self.refer(session, FakeReferral("sip:2@cti95598", named), turns)

    @rule(
        by_phone=st.booleans(),
        with_phone=st.none() | st.booleans(),
        whom=st.sampled_from("112f"),
        turns=TURNS,
    )
    def talk_and_transfer(
        self, by_phone: bool, with_phone: bool | None, whom: str, turns: int
    ) -> None:
        """Lead callers into conversations, and let one party ask there."""
        for _ in range(1 if with_phone is None else 2):
            self.get_far(steps=3, user="1", turns=6)
        session = (self.answered if by_phone else self.callers)[-1]
        named = None
        if with_phone is not None:
            named = (self.answered if with_phone else self.callers)[-2]
            self.bench.user_agent.named[str(id(named))] = named
        self.refer(session, FakeReferral(f"sip:{whom}@cti95598", named), turns)

    def refer(self, session: FakeSession, referral: FakeReferral, turns: int) -> None:
        if not session.over and (session.uri or session.accepted_sdp is not None):
            self.referrals.append(referral)
            self.do(partial(session.observer.on_refer, referral), turns)

    @rule(index=INDEX, by_phone=st.booleans(), direction=st.sampled_from(Direction))
    def hold(self, index: int, by_phone: bool, direction: Direction) -> None:
        offer = build_offer("127.0.0.1", 40000, session_id=1, version=2, direction=direction)
        for session in pick(self.answered if by_phone else self.callers, index):
            if not session.over:
                self.do(partial(session.observer.on_reoffer, offer))

    @rule(index=INDEX, key=st.sampled_from("123890*#"), turns=TURNS)
    def key(self, index: int, key: str, turns: int) -> None:
        for port in pick(list(self.bench.media.ports), index):
            self.do(partial(self.bench.media.key, port, key), turns)

    @rule(index=INDEX, error=st.sampled_from(["", "", "unreadable"]), turns=TURNS)
    def prompt_ends(self, index: int, error: str, turns: int) -> None:
        playing = [port for port, state in self.bench.media.ports.items() if state.play]
        for port in pick(playing, index):
            self.do(partial(self.end_play, port, error), turns)

    def end_play(self, port: PortId, error: str) -> None:
        state = self.bench.media.ports.get(port)
        if state is not None and state.play is not None:  # what was due may have replaced it
            self.bench.media.end_play(port, error=error)

    @rule(index=INDEX, turns=TURNS)
    def silence(self, index: int, turns: int) -> None:
        for port in pick(list(self.bench.media.ports), index):
            self.do(partial(self.bench.media.time_out, port), turns)

    @rule(turns=TURNS)
    def time_passes(self, turns: int) -> None:
        self.do(turns=turns)

    def teardown(self) -> None:
        bench = self.bench
        self.loop.run_until_complete(bench.control.aclose(1.0))
        self.do(turns=10)
        for referral in self.referrals:  # each is refused, or told how it went
            assert referral.refused is not None or referral.statuses[-1] > 1000
        assert not self.reported
        assert not asyncio.all_tasks(self.loop)
        self.loop.close()
        assert bench.control.calls == 0
        assert bench.control._admission.calls == 0
        assert not bench.media.ports
        assert not bench.media.recordings
        assert not bench.control._router.ports
        assert not bench.control._router.recordings
        assert all(session.over for session in self.callers + bench.user_agent.sessions)
        self._check_events()

    def _check_events(self) -> None:
        by_call: dict[str, list[str]] = {}
        for event in self.bench.sink.events:
            by_call.setdefault(event.call_id, []).append(event.WhichOneof("body") or "")
        assert len(by_call) == len(self.callers)
        # A transfer may take a leg from one call to another.
        told = Counter(self.bench.sink.names)
        assert told["leg_started"] == told["leg_ended"]
        for names in by_call.values():
            count = Counter(names)
            assert names[0] == "call_arrived"
            assert names[-1] == "call_ended"
            assert count["call_ended"] == 1
            assert count["bridged"] == count["unbridged"]
            assert count["recording_started"] == count["recording_finished"]
            assert count["transfer_requested"] == count["transfer_ended"]


TestCalls = Calls.TestCase
TestCalls.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
