"""Counters of the SIP stack; labels have a small fixed set of values."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import REGISTRY, Counter, Gauge
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from cti.sip.messages.message import Request, Response

MALFORMED = Counter("sip_malformed", "Messages refused as malformed", ["reason"])
RETRANSMISSIONS = Counter("sip_retransmissions", "Messages sent or received again", ["direction"])
STRAY_RESPONSES = Counter("sip_stray_responses", "Responses that match no transaction")
TRANSPORT_ERRORS = Counter("sip_transport_errors", "Messages that could not be sent", ["transport"])
CONNECTIONS = Gauge("sip_connections", "Connections of peers, in both directions", ["transport"])
REFUSED_CONNECTIONS = Counter(
    "sip_refused_connections", "Connections of banned peers, and those above a limit"
)
INTERNAL_ERRORS = Counter("sip_internal_errors", "Exceptions in the handling of a message")
SUBSCRIPTIONS = Gauge("sip_subscriptions", "Live subscriptions of phones", ["package"])

_METHODS = frozenset({
    "INVITE", "ACK", "BYE", "CANCEL", "REGISTER", "OPTIONS", "INFO", "PRACK", "UPDATE", "REFER",
    "SUBSCRIBE", "NOTIFY", "MESSAGE", "PUBLISH",
})  # fmt: skip
_OTHER = "other"
_CLASSES = (_OTHER, "1xx", "2xx", "3xx", "4xx", "5xx", "6xx")

RETRANSMITTED_IN = RETRANSMISSIONS.labels("in")
RETRANSMITTED_OUT = RETRANSMISSIONS.labels("out")


class _Messages(Collector):
    """Messages by direction, transport and kind: each call has ten, so they are plain numbers."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], dict[str, int]] = {}

    def counts(self, direction: str, transport: str) -> dict[str, int]:
        """Return the counts of a direction and transport, by kind."""
        kinds = (*sorted(_METHODS), *_CLASSES)
        return self._counts.setdefault((direction, transport), dict.fromkeys(kinds, 0))

    def collect(self) -> Iterator[Metric]:
        """See Collector."""
        family = CounterMetricFamily(
            "sip_messages",
            "Messages without retransmissions",
            labels=["direction", "transport", "kind"],
        )
        for labels, counts in self._counts.items():
            for kind, count in counts.items():
                family.add_metric([*labels, kind], count)
        yield family


_MESSAGES = _Messages()
REGISTRY.register(_MESSAGES)


class MessageCounters:
    """Counts the messages of one direction and transport."""

    __slots__ = ("_counts",)

    def __init__(self, direction: str, transport: str) -> None:
        self._counts = _MESSAGES.counts(direction, transport)

    def count(self, message: Request | Response) -> None:
        """Count one message."""
        if isinstance(message, Response):
            kind = _CLASSES[message.status // 100]
        else:
            kind = message.method if message.method in _METHODS else _OTHER
        self._counts[kind] += 1
