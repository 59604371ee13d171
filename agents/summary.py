"""Plain data an agent sees: the pop-up of a call, and the figures of the day."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from cti.call import Call
from domain.ids import CallId, QueueId


@dataclass(frozen=True, slots=True)
class CallSummary:
    """What the toolbar pops up for a call (来电弹屏)."""

    call_id: CallId
    queue: QueueId
    caller: str
    called: str
    language: str
    waited_ms: int
    attached: dict[str, str] = field(default_factory=dict)
    """Attached data, each value as JSON text."""
    path: tuple[str, ...] = ()

    @classmethod
    def of(cls, call: Call, queue: QueueId, waited_ms: int) -> CallSummary:
        """Summarise a call as it is now."""
        return cls(
            call_id=call.info.call_id,
            queue=queue,
            caller=call.info.caller,
            called=call.info.called,
            language=call.language,
            waited_ms=waited_ms,
            attached={
                key: json.dumps(value, ensure_ascii=False) for key, value in call.data.items()
            },
            path=tuple(call.path),
        )


@dataclass(frozen=True, slots=True)
class SummaryFigures:
    """One agent's figures of today."""

    calls_offered: int = 0
    calls_answered: int = 0
    talk_ms: int = 0
    after_call_work_ms: int = 0
    ready_ms: int = 0
    not_ready_ms: int = 0
    signed_in_ms: int = 0
    ratings: int = 0
    rating_sum: int = 0
