"""The agent's side of one call, as the queue uses it: the toolbar follows what the call does."""

from __future__ import annotations

from typing import Protocol

from cti.call import Leg, RingingLeg


class AgentLine(Protocol):
    """An agent to whom one call is offered. No method raises or blocks."""

    @property
    def phone(self) -> str:
        """SIP user of the phone to ring."""

    def ringing(self, leg: RingingLeg) -> None:
        """The phone rings; the toolbar may answer or decline."""

    def answered(self, leg: Leg) -> None:
        """The agent has the call."""

    def failed(self, reason: str, *, ready: bool) -> None:
        """The agent did not take the call, and is not ready for the next unless `ready`."""

    def withdrawn(self, *, confirmed: bool) -> None:
        """The caller left first. `confirmed`: the ACD may count the agent as busy already."""

    def ended(self) -> None:
        """The conversation is over."""
