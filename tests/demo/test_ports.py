"""Ports that nobody is given before their server listens on them."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from demo import ports as module
from demo.ports import NoFreePortError, Ports, first_ephemeral, free_port, free_ports, is_taken


def test_all_ports_of_platforms_lie_below_those_of_connections_and_are_distinct() -> None:
    several = [free_ports(workers=4, step=7) for _ in range(5)]
    numbers = [
        port + at * 7
        for ports in several
        for port in (ports.sip, ports.grpc, ports.http, ports.business)
        for at in range(4)
    ]
    assert len(set(numbers)) == len(numbers)
    ephemeral = first_ephemeral()
    assert ephemeral == int(
        Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0]
    ), "a machine of tests whose connections go out from very low ports"
    for ports in several:
        assert ports.rtp_max < ephemeral
        assert not [each for each in numbers if ports.rtp_min <= each <= ports.rtp_max]
    assert max(numbers) < ephemeral
    assert len({ports.rtp_min for ports in several}) == len(several)
    assert not any(map(is_taken, numbers))


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "::1"])
def test_a_port_is_taken_whoever_has_it(host: str, kind: socket.SocketKind) -> None:
    port = free_port()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, kind) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, kind == socket.SOCK_STREAM)
        other.bind((host, port))
        if kind == socket.SOCK_STREAM:
            other.listen()
        assert is_taken(port)
        assert Ports(port, port + 1, 0, 0, 0, 0).taken() == [port]
    assert not is_taken(port)


def test_a_port_whose_neighbour_is_taken_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST", 5000)
    monkeypatch.setattr(module, "_FIRST_RTP", 5024)
    taken = {5003, 5010, 5021}
    monkeypatch.setattr(module, "is_taken", taken.__contains__)
    monkeypatch.setattr(module, "_given", set())
    # Of 5000 the tenth after it is taken, of 5002 the next, of 5010 the eleventh and itself.
    found = {free_port(steps=(0, 1, 10, 11)) for _ in range(4)}
    assert found == {5004, 5006, 5008, 5012}
    monkeypatch.setattr(module, "is_taken", lambda _: True)
    with pytest.raises(NoFreePortError, match="5000"):
        free_port()
