"""Identifiers, as distinct types so that a call id is never passed for an agent id."""

from __future__ import annotations

import os
import time
from typing import NewType

TenantId = NewType("TenantId", str)
NodeId = NewType("NodeId", str)
CallId = NewType("CallId", str)
LegId = NewType("LegId", str)
AgentId = NewType("AgentId", str)
QueueId = NewType("QueueId", str)
TicketId = NewType("TicketId", str)


# RFC 9562 5.7: between the time and the random bits, and among them, stand version and variant.
_VERSION_AND_VARIANT = (0x7 << 76) | (0x2 << 62)
_RANDOM_BITS = ((1 << 76) - 1) & ~(0x3 << 62)


def time_ordered_id() -> str:
    """Return 32 hex digits that sort by creation time (UUID version 7, RFC 9562 5.7)."""
    unix_ms = time.time_ns() // 1_000_000
    random_bits = int.from_bytes(os.urandom(10)) & _RANDOM_BITS
    return ((unix_ms << 80) | _VERSION_AND_VARIANT | random_bits).to_bytes(16).hex()


def new_call_id() -> CallId:
    """Return a fresh call id, unique over all nodes and ordered by time."""
    return CallId(time_ordered_id())
