"""What an agent has done in a day: reports count it, the toolbar shows it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AgentDay:
    """One agent's figures of one day, as far as they are in the records."""

    calls_offered: int = 0
    calls_answered: int = 0
    talk_ms: int = 0
    after_call_work_ms: int = 0
    ready_ms: int = 0
    not_ready_ms: int = 0
    signed_in_ms: int = 0
    ratings: int = 0
    rating_sum: int = 0
