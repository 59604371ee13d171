"""Counters of the SIP stack; labels have a small fixed set of values."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

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
_MESSAGES = Counter(
    "sip_messages", "Messages without retransmissions", ["direction", "transport", "kind"]
)

_METHODS = (
    "INVITE", "ACK", "BYE", "CANCEL", "REGISTER", "OPTIONS", "INFO", "PRACK", "UPDATE", "REFER",
    "SUBSCRIBE", "NOTIFY", "MESSAGE", "PUBLISH",
)  # fmt: skip
_CLASSES = ("", "1xx", "2xx", "3xx", "4xx", "5xx", "6xx")

RETRANSMITTED_IN = RETRANSMISSIONS.labels("in")
RETRANSMITTED_OUT = RETRANSMISSIONS.labels("out")


class MessageCounters:
    """The counters of one direction and transport, looked up once and not for each message."""

    __slots__ = ("_other", "_requests", "_responses")

    def __init__(self, direction: str, transport: str) -> None:
        self._requests = {
            method: _MESSAGES.labels(direction, transport, method) for method in _METHODS
        }
        self._other = _MESSAGES.labels(direction, transport, "other")
        self._responses = tuple(
            _MESSAGES.labels(direction, transport, kind or "other") for kind in _CLASSES
        )

    def count(self, message: Request | Response) -> None:
        """Count one message."""
        if isinstance(message, Request):
            self._requests.get(message.method, self._other).inc()
        else:
            self._responses[message.status // 100].inc()
