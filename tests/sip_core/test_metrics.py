"""What is counted of messages comes out where Prometheus asks for it."""

from __future__ import annotations

import pytest
from prometheus_client import REGISTRY

from cti.sip.messages.message import Request, Response
from cti.sip.metrics import MessageCounters


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (Request("INVITE", "sip:95598@example.com"), "INVITE"),
        (Request("FOO", "sip:95598@example.com"), "other"),
        (Request("2xx", "sip:95598@example.com"), "other"),
        (Response(180), "1xx"),
        (Response(200), "2xx"),
        (Response(699), "6xx"),
    ],
)
def test_messages_are_counted_by_kind(message: Request | Response, kind: str) -> None:
    labels = {"direction": "in", "transport": "tcp", "kind": kind}
    counters = MessageCounters("in", "tcp")
    before = REGISTRY.get_sample_value("sip_messages_total", labels)
    assert before is not None
    counters.count(message)
    MessageCounters("in", "tcp").count(message)
    assert REGISTRY.get_sample_value("sip_messages_total", labels) == before + 2
