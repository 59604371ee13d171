"""Two transaction layers over a network that loses, delays and repeats, on a virtual clock."""

import heapq
from collections import Counter
from collections.abc import Callable
from functools import partial
from random import Random

import pytest

from cti.sip.messages.message import Request, Response, parse_message
from cti.sip.transactions.client_transaction import ClientMachine, client_machine
from cti.sip.transactions.server_transaction import ServerMachine, server_machine
from cti.sip.transactions.timers import Timer, Timers
from cti.sip.transactions.transaction import (
    Deliver,
    Failed,
    Key,
    Outputs,
    Send,
    SetTimer,
    client_key,
    server_key,
)
from domain.failures import Code
from tests.sip_core.messages import ack, answer, request

T1_S = 0.5


class World:
    """Time, and a network with seeded faults."""

    def __init__(self, seed: int, loss: float) -> None:
        self.random = Random(seed)
        self.loss = loss
        self.now_s = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = 0

    def at(self, at_s: float, action: Callable[[], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._events, (at_s, self._sequence, action))

    def carry(self, data: bytes, to: "Layer") -> None:
        copies = 2 if self.random.random() < 0.1 else 1
        for _ in range(copies):
            if self.random.random() >= self.loss:
                arrival_s = self.now_s + self.random.uniform(0.005, 0.3)
                self.at(arrival_s, lambda: to.receive(parse_message(data)))

    def run(self) -> None:
        while self._events:
            self.now_s, _, action = heapq.heappop(self._events)
            action()


class Layer:
    """The transaction layer of one side, and what its user saw."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.peer = self
        self.clients: dict[Key, ClientMachine] = {}
        self.servers: dict[Key, ServerMachine] = {}
        self.requests: Counter[Key] = Counter()
        self.responses: dict[str, list[int]] = {}
        self.failures: list[Code] = []
        self.acks: Counter[str] = Counter()
        self.statuses: list[int] = [200]

    def send(self, message: Request) -> None:
        machine = client_machine(message, reliable=False, timers=Timers(t1_s=T1_S))
        self.clients[machine.key] = machine
        self.run(machine, machine.start(self.world.now_s))

    def receive(self, message: Request | Response) -> None:
        now_s = self.world.now_s
        if isinstance(message, Response):
            client = self.clients.get(client_key(message.top_via, message.cseq[1]))
            if client is not None:
                self.run(client, client.receive(message, now_s))
            return
        key = server_key(message, "INVITE" if message.method == "ACK" else None)
        server = self.servers.get(key)
        if server is not None:
            self.run(server, server.receive(message, now_s))
        elif message.method == "ACK":
            self.acks[message.call_id] += 1
        else:
            server = server_machine(message, reliable=False, timers=Timers(t1_s=T1_S))
            self.servers[key] = server
            self.run(server, server.start(message, now_s))

    def run(self, machine: ClientMachine | ServerMachine, outputs: Outputs) -> None:
        for output in outputs:
            if isinstance(output, Send):
                self.world.carry(output.data, self.peer)
            elif isinstance(output, SetTimer):
                self.world.at(output.at_s, partial(self.fire, machine, output.timer))
            elif isinstance(output, Deliver):
                self.deliver(machine, output.message)
            elif isinstance(output, Failed):
                self.failures.append(output.code)
            else:
                table = self.clients if isinstance(machine, ClientMachine) else self.servers
                del table[machine.key]

    def fire(self, machine: ClientMachine | ServerMachine, timer: Timer) -> None:
        self.run(machine, machine.fire(timer, self.world.now_s))

    def deliver(self, machine: ClientMachine | ServerMachine, message: Request | Response) -> None:
        if isinstance(message, Response):
            self.responses.setdefault(message.call_id, []).append(message.status)
            if message.status == 200 and message.cseq[1] == "INVITE":
                # The ACK of a 2xx has a branch of its own (RFC 3261 17.1.1.3).
                invite = request("INVITE", branch="z9hG4bKack", call_id=message.call_id)
                self.world.carry(ack(invite, message).to_bytes(), self.peer)
        else:
            assert not isinstance(machine, ClientMachine)
            self.requests[machine.key] += 1
            self.answer(machine, message, list(self.statuses))

    def answer(self, machine: ServerMachine, message: Request, statuses: list[int]) -> None:
        self.run(machine, machine.respond(answer(message, statuses[0]), self.world.now_s))
        if len(statuses) > 1:
            pause_s = self.world.random.uniform(0.0, 3.0)
            self.world.at(
                self.world.now_s + pause_s, lambda: self.answer(machine, message, statuses[1:])
            )


def pair(seed: int, loss: float) -> tuple[World, Layer, Layer]:
    world = World(seed, loss)
    client, server = Layer(world), Layer(world)
    client.peer, server.peer = server, client
    return world, client, server


@pytest.mark.parametrize("loss", [0.0, 0.2, 0.5])
@pytest.mark.parametrize("seed", range(5))
def test_non_invite(seed: int, loss: float) -> None:
    world, client, server = pair(seed, loss)
    calls = 40
    for number in range(calls):
        client.send(request("OPTIONS", branch=f"z9hG4bK{number}", call_id=f"c{number}"))
    world.run()
    assert not client.clients
    assert not server.servers
    assert set(server.requests.values()) == {1}
    assert all(statuses == [200] for statuses in client.responses.values())
    assert len(client.responses) + client.failures.count(Code.SIP_TIMEOUT) == calls
    if loss <= 0.2:
        assert len(client.responses) == calls


@pytest.mark.parametrize("loss", [0.0, 0.2, 0.5])
@pytest.mark.parametrize("seed", range(5))
def test_refused_invite(seed: int, loss: float) -> None:
    world, client, server = pair(seed, loss)
    server.statuses = [180, 486]
    calls = 40
    for number in range(calls):
        client.send(request("INVITE", branch=f"z9hG4bK{number}", call_id=f"c{number}"))
    world.run()
    assert not client.clients
    assert not server.servers
    assert set(server.requests.values()) == {1}
    finals = [s for statuses in client.responses.values() for s in statuses if s >= 200]
    assert set(finals) == {486}
    # Each call hears of its end once: by the refusal or by Timer B.
    assert len(finals) + client.failures.count(Code.SIP_TIMEOUT) >= calls - len(server.failures)
    if loss <= 0.2:
        assert len(finals) == calls
        assert not server.failures


@pytest.mark.parametrize("seed", range(5))
def test_accepted_invite_with_repeated_2xx(seed: int) -> None:
    world, client, server = pair(seed, 0.2)
    server.statuses = [180] + [200] * 8  # the user repeats its 2xx (RFC 3261 13.3.1.4)
    calls = 40
    for number in range(calls):
        client.send(request("INVITE", branch=f"z9hG4bK{number}", call_id=f"c{number}"))
    world.run()
    assert not client.clients
    assert not server.servers
    assert set(server.requests.values()) == {1}
    assert all(200 in statuses for statuses in client.responses.values())
    assert len(client.responses) == calls
    assert len(server.acks) == calls
    assert not client.failures
    assert not server.failures
