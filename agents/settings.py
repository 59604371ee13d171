"""What configuration says of an agent."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from domain.ids import AgentId
from routing.settings import Id


class AgentSettings(BaseModel):
    """One agent of a tenant. The password is kept with the secrets, not here."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Id
    """The agent's number (工号)."""
    name: str = ""
    phone: Id
    """SIP user of the phone to ring, unless the agent signs in with another."""
    queues: tuple[Id, ...] = Field(min_length=1)
    skills: tuple[Id, ...] = ()
    role: Literal["agent", "supervisor"] = "agent"
    """Supervisors (班长) may listen to agents, whisper, barge in and intercept."""
    after_call_work_s: int | None = Field(default=None, ge=0, le=3600)
    """None: as the queue says."""

    @property
    def agent_id(self) -> AgentId:
        """The id as its type."""
        return AgentId(self.id)
