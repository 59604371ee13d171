"""Each machine and each timer of RFC 3261 17 and RFC 6026, on a virtual clock."""

import heapq
from collections.abc import Callable

import pytest

from cti.sip.messages.message import Request, Response, parse_message
from cti.sip.transactions.client_transaction import (
    ClientMachine,
    InviteClient,
    NonInviteClient,
    cancel,
)
from cti.sip.transactions.server_transaction import InviteServer, NonInviteServer, ServerMachine
from cti.sip.transactions.timers import Timer, TimerHeap, Timers
from cti.sip.transactions.transaction import Deliver, Failed, Outputs, Send, SetTimer, Signal, State
from domain.failures import Code
from tests.sip_core.messages import ack, answer, request

T1_S, T2_S, T4_S = 0.5, 4.0, 5.0
TIMERS = Timers(T1_S, T2_S, T4_S)
TIMEOUT_S = 64 * T1_S


class Bench:
    """Carries out the outputs of one machine and keeps what they were."""

    def __init__(self, machine: ClientMachine | ServerMachine) -> None:
        self.machine = machine
        self.now_s = 0.0
        self.sent: list[tuple[float, bytes]] = []
        self.delivered: list[Request | Response] = []
        self.failures: list[Code] = []
        self.cancels = 0
        self.terminated_s: float | None = None
        self._due: list[tuple[float, int, Timer]] = []
        self._sequence = 0

    def take(self, outputs: Outputs) -> None:
        for output in outputs:
            if isinstance(output, Send):
                self.sent.append((self.now_s, output.data))
            elif isinstance(output, Deliver):
                self.delivered.append(output.message)
            elif isinstance(output, SetTimer):
                self._sequence += 1
                heapq.heappush(self._due, (output.at_s, self._sequence, output.timer))
            elif isinstance(output, Failed):
                self.failures.append(output.code)
            elif output is Signal.SEND_CANCEL:
                self.cancels += 1
            else:
                assert self.terminated_s is None
                self.terminated_s = self.now_s

    def advance_to(self, to_s: float) -> None:
        while self._due and self._due[0][0] <= to_s:
            self.now_s, _, timer = heapq.heappop(self._due)
            self.take(self.machine.fire(timer, self.now_s))
        self.now_s = to_s

    def receive(self, message: Request | Response) -> None:
        machine = self.machine
        if isinstance(machine, InviteClient | NonInviteClient):
            assert isinstance(message, Response)
            self.take(machine.receive(message, self.now_s))
        else:
            assert isinstance(message, Request)
            self.take(machine.receive(message, self.now_s))

    def respond(self, response: Response) -> None:
        assert isinstance(self.machine, InviteServer | NonInviteServer)
        self.take(self.machine.respond(response, self.now_s))

    def times(self) -> list[float]:
        return [at_s for at_s, _ in self.sent]

    def statuses(self) -> list[int]:
        return [m.status for m in self.delivered if isinstance(m, Response)]


INVITE = request("INVITE")
OPTIONS = request("OPTIONS")


def invite_client(*, reliable: bool = False) -> Bench:
    machine = InviteClient(INVITE, reliable=reliable, timers=TIMERS)
    bench = Bench(machine)
    bench.take(machine.start(0.0))
    return bench


def options_client(*, reliable: bool = False) -> Bench:
    machine = NonInviteClient(OPTIONS, reliable=reliable, timers=TIMERS)
    bench = Bench(machine)
    bench.take(machine.start(0.0))
    return bench


def invite_server(*, reliable: bool = False) -> Bench:
    machine = InviteServer(INVITE, reliable=reliable, timers=TIMERS)
    bench = Bench(machine)
    bench.take(machine.start(INVITE, 0.0))
    return bench


def options_server(*, reliable: bool = False) -> Bench:
    machine = NonInviteServer(OPTIONS, reliable=reliable, timers=TIMERS)
    bench = Bench(machine)
    bench.take(machine.start(OPTIONS, 0.0))
    return bench


# INVITE client


def test_timer_a_doubles_and_timer_b_ends() -> None:
    bench = invite_client()
    bench.advance_to(100.0)
    assert bench.times() == [0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    assert len({data for _, data in bench.sent}) == 1
    assert bench.failures == [Code.SIP_TIMEOUT]
    assert bench.terminated_s == TIMEOUT_S


def test_timer_a_is_not_used_over_tcp() -> None:
    bench = invite_client(reliable=True)
    bench.advance_to(100.0)
    assert bench.times() == [0.0]
    assert bench.terminated_s == TIMEOUT_S


def test_a_provisional_response_stops_timers_a_and_b() -> None:
    bench = invite_client()
    bench.advance_to(0.6)
    bench.receive(answer(INVITE, 100))
    bench.receive(answer(INVITE, 180))
    bench.advance_to(1000.0)
    assert bench.times() == [0.0, 0.5]
    assert bench.statuses() == [100, 180]
    assert (bench.machine.state, bench.failures) == (State.PROCEEDING, [])


@pytest.mark.parametrize("early", [False, True])
def test_a_refusal_is_acknowledged_and_timer_d_absorbs_repetitions(early: bool) -> None:
    bench = invite_client()
    if early:
        bench.receive(answer(INVITE, 180))
    bench.advance_to(0.1)
    refusal = answer(INVITE, 486)
    bench.receive(refusal)
    acknowledgement = parse_message(bench.sent[-1][1])
    assert isinstance(acknowledgement, Request)
    assert acknowledgement.method == "ACK"
    assert acknowledgement.cseq == (1, "ACK")
    assert acknowledgement.headers.get_all("Via") == INVITE.headers.get_all("Via")
    assert acknowledgement.to.tag == "callee"
    assert bench.machine.state is State.COMPLETED
    bench.advance_to(4.0)
    bench.receive(refusal)
    bench.receive(answer(INVITE, 200))
    assert bench.sent[-1] == (4.0, bench.sent[-2][1])
    assert bench.statuses()[-1] == 486
    bench.advance_to(100.0)
    assert bench.terminated_s == pytest.approx(0.1 + TIMEOUT_S)
    assert not bench.failures


def test_timer_d_is_zero_over_tcp() -> None:
    bench = invite_client(reliable=True)
    bench.receive(answer(INVITE, 603))
    assert bench.terminated_s == 0.0
    assert len(bench.sent) == 2


def test_route_is_copied_to_ack_and_cancel() -> None:
    routed = request("INVITE")
    routed.headers.add("Route", "<sip:edge.example;lr>")
    machine = InviteClient(routed, reliable=False, timers=TIMERS)
    outputs = machine.receive(answer(routed, 404), 0.0)
    assert isinstance(outputs[0], Send)
    assert parse_message(outputs[0].data).headers.get("Route") == "<sip:edge.example;lr>"
    assert cancel(routed).headers.get("Route") == "<sip:edge.example;lr>"


def test_accepted_passes_every_2xx_until_timer_m() -> None:
    bench = invite_client()
    for _ in range(3):
        bench.receive(answer(INVITE, 200))
    bench.receive(answer(INVITE, 180))
    bench.receive(answer(INVITE, 500))
    assert bench.statuses() == [200, 200, 200]
    assert bench.machine.state is State.ACCEPTED
    bench.take(bench.machine.transport_error())
    bench.advance_to(100.0)
    assert bench.terminated_s == TIMEOUT_S
    assert len(bench.sent) == 1


def test_cancel_waits_for_a_provisional_response() -> None:
    bench = invite_client()
    assert isinstance(bench.machine, InviteClient)
    bench.take(bench.machine.cancel(0.0))
    assert bench.cancels == 0
    bench.advance_to(1.0)
    bench.receive(answer(INVITE, 100))
    bench.receive(answer(INVITE, 180))
    assert bench.cancels == 1
    bench.receive(answer(INVITE, 487))
    assert bench.statuses() == [100, 180, 487]


def test_cancelled_invite_without_final_response_ends() -> None:
    bench = invite_client()
    bench.receive(answer(INVITE, 180))
    assert isinstance(bench.machine, InviteClient)
    bench.advance_to(10.0)
    bench.take(bench.machine.cancel(10.0))
    bench.advance_to(100.0)
    assert bench.failures == [Code.SIP_TIMEOUT]
    assert bench.terminated_s == 10.0 + TIMEOUT_S


def test_cancel_after_the_final_response_does_nothing() -> None:
    bench = invite_client()
    bench.receive(answer(INVITE, 200))
    assert isinstance(bench.machine, InviteClient)
    bench.take(bench.machine.cancel(0.0))
    assert bench.cancels == 0


def test_cancel_has_the_branch_and_number_of_the_invite() -> None:
    cancelling = cancel(INVITE, [("Reason", "Q.850;cause=16")])
    assert cancelling.top_via == INVITE.top_via
    assert cancelling.cseq == (1, "CANCEL")
    assert cancelling.headers.get("To") == INVITE.headers.get("To")
    assert cancelling.headers.get("Reason") == "Q.850;cause=16"


# Non-INVITE client


def test_timer_e_doubles_up_to_t2_and_timer_f_ends() -> None:
    bench = options_client()
    bench.advance_to(100.0)
    assert bench.times()[:7] == [0.0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5]
    assert len(bench.sent) == 11
    assert bench.failures == [Code.SIP_TIMEOUT]
    assert bench.terminated_s == TIMEOUT_S


def test_timer_e_is_t2_in_proceeding() -> None:
    bench = options_client()
    bench.receive(answer(OPTIONS, 100))
    bench.advance_to(10.0)
    assert bench.times() == [0.0, 0.5, 4.5, 8.5]
    bench.advance_to(100.0)
    assert bench.failures == [Code.SIP_TIMEOUT]


@pytest.mark.parametrize("status", [200, 404, 500])
def test_timer_k_absorbs_repeated_responses(status: int) -> None:
    bench = options_client()
    bench.advance_to(0.7)
    bench.receive(answer(OPTIONS, status))
    bench.receive(answer(OPTIONS, status))
    bench.advance_to(100.0)
    assert bench.statuses() == [status]
    assert bench.times() == [0.0, 0.5]
    assert bench.terminated_s == pytest.approx(0.7 + T4_S)
    assert not bench.failures


def test_timers_e_and_k_are_not_used_over_tcp() -> None:
    bench = options_client(reliable=True)
    bench.advance_to(20.0)
    assert bench.times() == [0.0]
    bench.receive(answer(OPTIONS, 200))
    assert bench.terminated_s == 20.0


# INVITE server


def test_a_silent_user_has_100_sent_after_200_ms() -> None:
    bench = invite_server()
    bench.advance_to(5.0)
    assert bench.times() == [0.2]
    assert parse_message(bench.sent[0][1]).to.tag is None
    assert b"SIP/2.0 100 Trying" in bench.sent[0][1]


def test_a_quick_user_has_no_100_sent() -> None:
    bench = invite_server()
    bench.advance_to(0.1)
    bench.respond(answer(INVITE, 180))
    bench.advance_to(5.0)
    assert bench.times() == [0.1]


def test_a_repeated_invite_gets_the_last_provisional_response() -> None:
    bench = invite_server()
    bench.receive(INVITE)
    assert b"SIP/2.0 100 " in bench.sent[-1][1]
    bench.respond(answer(INVITE, 180))
    bench.respond(answer(INVITE, 183))
    bench.receive(INVITE)
    assert b"SIP/2.0 183 " in bench.sent[-1][1]
    assert len(bench.delivered) == 1


def test_timer_g_repeats_a_refusal_and_timer_h_ends() -> None:
    bench = invite_server()
    bench.respond(answer(INVITE, 486))
    bench.advance_to(100.0)
    assert bench.times()[:6] == [0.0, 0.5, 1.5, 3.5, 7.5, 11.5]
    assert bench.failures == [Code.ACK_MISSING]
    assert bench.terminated_s == TIMEOUT_S


def test_timer_g_is_not_used_over_tcp_but_timer_h_is() -> None:
    bench = invite_server(reliable=True)
    bench.respond(answer(INVITE, 486))
    bench.advance_to(100.0)
    assert bench.times() == [0.0]
    assert bench.failures == [Code.ACK_MISSING]


def test_the_ack_of_a_refusal_starts_timer_i() -> None:
    bench = invite_server()
    refusal = answer(INVITE, 486)
    bench.respond(refusal)
    bench.receive(INVITE)
    assert len(bench.sent) == 2
    bench.receive(ack(INVITE, refusal))
    bench.receive(ack(INVITE, refusal))
    bench.receive(INVITE)
    assert bench.machine.state is State.CONFIRMED
    bench.advance_to(100.0)
    assert len(bench.sent) == 2
    assert len(bench.delivered) == 1
    assert bench.terminated_s == T4_S
    assert not bench.failures


def test_timer_i_is_zero_over_tcp() -> None:
    bench = invite_server(reliable=True)
    bench.respond(answer(INVITE, 486))
    bench.receive(ack(INVITE))
    assert bench.terminated_s == 0.0


@pytest.mark.parametrize("reliable", [False, True])
def test_accepted_absorbs_invites_and_passes_acks_until_timer_l(reliable: bool) -> None:
    bench = invite_server(reliable=reliable)
    ok = answer(INVITE, 200)
    bench.respond(ok)
    bench.receive(INVITE)
    assert len(bench.sent) == 1
    bench.respond(ok)
    bench.respond(answer(INVITE, 486))
    assert len(bench.sent) == 2
    bench.receive(ack(INVITE, ok))
    assert [m.cseq[1] for m in bench.delivered] == ["INVITE", "ACK"]
    bench.advance_to(100.0)
    assert bench.terminated_s == TIMEOUT_S
    assert len(bench.sent) == 2
    assert not bench.failures


def test_an_ack_before_the_final_response_is_ignored() -> None:
    bench = invite_server()
    bench.receive(ack(INVITE))
    assert (len(bench.delivered), bench.machine.state) == (1, State.PROCEEDING)


# Non-INVITE server


def test_timer_j_absorbs_repeated_requests() -> None:
    bench = options_server()
    bench.receive(OPTIONS)
    assert not bench.sent
    bench.respond(answer(OPTIONS, 100))
    bench.receive(OPTIONS)
    bench.advance_to(1.0)
    bench.respond(answer(OPTIONS, 200))
    bench.respond(answer(OPTIONS, 500))
    bench.receive(OPTIONS)
    assert [data[8:11] for _, data in bench.sent] == [b"100", b"100", b"200", b"200"]
    bench.advance_to(100.0)
    assert len(bench.delivered) == 1
    assert bench.terminated_s == 1.0 + TIMEOUT_S
    assert not bench.failures


def test_timer_j_is_zero_over_tcp() -> None:
    bench = options_server(reliable=True)
    bench.respond(answer(OPTIONS, 200))
    assert bench.terminated_s == 0.0


def test_a_user_that_never_answers_leaves_nothing_behind() -> None:
    bench = options_server()
    bench.advance_to(100.0)
    assert not bench.sent
    assert bench.failures == [Code.SIP_TIMEOUT]
    assert bench.terminated_s == TIMEOUT_S


# Transport errors


@pytest.mark.parametrize("make", [invite_client, options_client])
def test_a_client_fails_when_its_request_cannot_be_sent(make: Callable[[], Bench]) -> None:
    bench = make()
    bench.take(bench.machine.transport_error())
    bench.take(bench.machine.transport_error())
    bench.advance_to(100.0)
    assert bench.failures == [Code.SIP_TRANSPORT]
    assert bench.terminated_s == 0.0
    assert len(bench.sent) == 1


def test_servers_report_a_response_that_cannot_be_sent() -> None:
    bench = invite_server()
    bench.respond(answer(INVITE, 180))
    bench.take(bench.machine.transport_error())
    assert (bench.failures, bench.terminated_s) == ([Code.SIP_TRANSPORT], 0.0)
    bench = options_server()
    bench.respond(answer(OPTIONS, 200))
    bench.take(bench.machine.transport_error())
    assert (bench.failures, bench.terminated_s) == ([Code.SIP_TRANSPORT], 0.0)


@pytest.mark.parametrize(("status", "ends"), [(200, TIMEOUT_S), (486, TIMEOUT_S)])
def test_an_invite_server_stays_to_absorb_repetitions(status: int, ends: float) -> None:
    bench = invite_server()
    bench.respond(answer(INVITE, status))
    bench.take(bench.machine.transport_error())
    assert bench.failures == [Code.SIP_TRANSPORT]
    bench.advance_to(100.0)
    assert bench.terminated_s == ends


def test_timers_scale_with_t1() -> None:
    quick = Timers(t1_s=0.01)
    assert quick.timeout_s == pytest.approx(0.64)


def test_the_heap_gives_timers_in_order() -> None:
    heap: TimerHeap[str] = TimerHeap()
    for at_s, owner in ((3.0, "c"), (1.0, "a"), (2.0, "b"), (1.0, "a2")):
        heap.push(at_s, owner, Timer.A)
    assert heap.next_s == 1.0
    assert [heap.pop_due(2.0) for _ in range(4)] == [
        ("a", Timer.A), ("a2", Timer.A), ("b", Timer.A), None,
    ]  # fmt: skip
    assert len(heap) == 1
