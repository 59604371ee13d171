"""When ports that no node steers any more have nobody left to carry audio for.

A core without I/O: it is told which ports hear which, how many packets each has received, and the
time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(slots=True)
class _Heard:
    packets: int
    at_s: float


class SilenceWatch:
    """Watches the ports of one session that is without its node."""

    def __init__(self, since_s: float) -> None:
        self.since_s = since_s
        self._heard: dict[int, _Heard] = {}

    def observe(self, packets_received: Mapping[int, int], now_s: float) -> None:
        """Take the counts of all ports that are open."""
        for gone in self._heard.keys() - packets_received.keys():
            del self._heard[gone]
        for port, packets in packets_received.items():
            heard = self._heard.get(port)
            if heard is None:
                # Not known when it was heard last: not before it was first looked at.
                self._heard[port] = _Heard(packets, now_s)
            elif packets != heard.packets:
                heard.packets, heard.at_s = packets, now_s

    def silent_s(self, port: int, now_s: float) -> float:
        """Return for how long nothing came from the far end of a port, as far as it is known."""
        heard = self._heard.get(port)
        return 0.0 if heard is None else now_s - heard.at_s

    def over(
        self, sources: Mapping[int, Iterable[int]], now_s: float, *, silent_s: float, most_s: float
    ) -> set[int]:
        """Return the ports to close: their whole group is silent, or has been alone for too long.

        `sources` says whom each port hears; whoever hears one another, in however many steps, is a
        group.
        """
        if now_s - self.since_s >= most_s:
            return set(self._heard)
        return {
            port
            for group in groups(self._heard, sources)
            if all(self.silent_s(each, now_s) >= silent_s for each in group)
            for port in group
        }


def groups(ports: Iterable[int], sources: Mapping[int, Iterable[int]]) -> list[set[int]]:
    """Return ports by who is connected with whom, whatever the direction."""
    left = set(ports)
    neighbours: dict[int, set[int]] = {port: set() for port in left}
    for sink, heard in sources.items():
        for source in heard:
            if sink in left and source in left:
                neighbours[sink].add(source)
                neighbours[source].add(sink)
    found = []
    while left:
        group, fresh = set(), {left.pop()}
        while fresh:
            port = fresh.pop()
            group.add(port)
            fresh |= neighbours[port] - group
        left -= group
        found.append(group)
    return found
