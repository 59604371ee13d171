"""Ports on this machine that are free, and stay so until somebody listens on them.

The system gives any port of its ephemeral range to any connection that goes out, at any moment: one
chosen there may be taken before a server listens on it. All of these are below that range.
"""

from __future__ import annotations

import contextlib
import errno
import random
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from node.workers import PORT_STEP, workers_of

_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_USUAL_EPHEMERAL = 32_768
_FIRST = 4_000
_FIRST_RTP = 10_000
_RTP_PORTS = 1_000
_RTP_PROBED = 40
# Where connections go out from here on already, nothing lies below: then any of ours will do.
_LEAST_EPHEMERAL = 16_384


class NoFreePortError(Exception):
    """Nothing is free in the range that ports are drawn from."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where everything of a platform listens on loopback."""

    sip: int
    grpc: int
    http: int
    business: int
    rtp_min: int
    rtp_max: int

    def taken(self) -> list[int]:
        """Return those that someone else has."""
        return [port for port in (self.sip, self.grpc, self.http, self.business) if is_taken(port)]


STANDARD_PORTS = Ports(5060, 50051, 8095, 8096, 20000, 29999)

_given: set[int] = set()


def first_ephemeral() -> int:
    """Return the first of the ports that the system gives to connections that go out."""
    try:
        first = int(_EPHEMERAL.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return _USUAL_EPHEMERAL
    return max(first, _LEAST_EPHEMERAL)


def free_port(*, steps: Sequence[int] = (0, 1)) -> int:
    """Return an even port that is free now for UDP and TCP, as is the port at each of the steps.

    This process gives none twice while there are others. `NoFreePortError` when there is none.
    """
    return _chosen(range(_FIRST, _FIRST_RTP - max(steps), 2), steps)


def free_ports(*, workers: int = 1, step: int = PORT_STEP) -> Ports:
    """Return ports that are free now, all distinct, and those that more workers add to them."""
    steps = {worker.port(1) - 1 + more for worker in workers_of(workers, step) for more in (0, 1)}
    sip, grpc, http, business = (free_port(steps=sorted(steps)) for _ in range(4))
    # A few taken ones among them are left out by the engine.
    starts = range(_FIRST_RTP, first_ephemeral() - _RTP_PORTS + 1, _RTP_PORTS)
    rtp_min = _chosen(starts, range(_RTP_PROBED))
    return Ports(sip, grpc, http, business, rtp_min, rtp_min + _RTP_PORTS - 1)


def wide_rtp() -> tuple[int, int]:
    """Return the first and the last port for thousands of legs; single ones may be taken."""
    return _FIRST_RTP, first_ephemeral() - 1


def is_taken(port: int) -> bool:
    """Whether someone has the port, for TCP or UDP, at any address of this machine."""
    with contextlib.ExitStack() as held:
        for family, anywhere in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                try:
                    probe = held.enter_context(socket.socket(family, kind))
                except OSError:
                    continue  # a machine without IPv6
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                if kind == socket.SOCK_STREAM:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((anywhere, port))
                except OSError as error:
                    if error.errno != errno.EADDRNOTAVAIL:  # IPv6 is there, but switched off
                        return True
    return False


def _chosen(firsts: range, steps: Sequence[int]) -> int:
    for known in (_given, set[int]()):
        for first in random.sample(firsts, len(firsts)):
            wanted = {first + step for step in steps}
            if not wanted & known and not any(map(is_taken, wanted)):
                _given.update(wanted)
                return first
    raise NoFreePortError(f"no {len(steps)} ports from {firsts.start} to {firsts.stop} are free")
