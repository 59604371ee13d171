"""What configuration says of a queue."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from domain.ids import QueueId

Id = Annotated[str, StringConstraints(pattern=r"^[\w.-]{1,64}$")]
"""Ids of queues, skills and agents: no commas or spaces, so that lists of them are plain text."""


class QueueSettings(BaseModel):
    """One queue of a tenant."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Id
    name: str = ""
    max_waiting: int = Field(default=0, ge=0)
    """Callers who may wait at once; 0 for no limit."""
    max_wait_s: int = Field(default=600, ge=1)
    """Upper bound of a wait, whatever the flow asks."""
    answer_within_s: int = Field(default=12, ge=1, le=120)
    """How long an agent's phone rings before the call returns to the head of the queue."""
    no_answer_state: Literal["not_ready", "ready"] = "not_ready"
    """What becomes of an agent who did not answer."""
    after_call_work_s: int = Field(default=10, ge=0, le=3600)
    refuse_without_agents: bool = False
    """Turn callers away (`no_agents`) while nobody who serves the queue is signed in."""

    @property
    def queue_id(self) -> QueueId:
        """The id as its type."""
        return QueueId(self.id)
