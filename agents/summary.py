"""What the toolbar pops up for a call."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from cti.call import Call
from domain.ids import CallId, QueueId

_ANONYMOUS = "匿名 anonymous"


@dataclass(frozen=True, slots=True)
class CallSummary:
    """What the toolbar pops up for a call (来电弹屏)."""

    call_id: CallId
    queue: QueueId
    caller: str
    """Its number, or that it is not shown: the phone that rings does not show it either."""
    called: str
    language: str
    waited_ms: int
    attached: dict[str, str] = field(default_factory=dict)
    """Attached data, each value as JSON text."""
    path: tuple[str, ...] = ()

    @classmethod
    def of(cls, call: Call, queue: QueueId, waited_ms: int) -> CallSummary:
        """Summarise a call as it is now."""
        info = call.info
        return cls(
            call_id=info.call_id,
            queue=queue,
            caller=_ANONYMOUS if info.withheld else info.caller,
            called=info.called,
            language=call.language,
            waited_ms=waited_ms,
            attached={
                key: json.dumps(value, ensure_ascii=False) for key, value in call.data.items()
            },
            path=tuple(call.path),
        )
