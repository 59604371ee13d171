"""Agents and queues as configured, for every tenant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from agents.settings import AgentSettings
from domain.ids import AgentId, QueueId, TenantId
from routing.acd import AgentProfile
from routing.settings import QueueSettings


class Directory:
    """Finds agents and queues; `load` replaces all at once."""

    def __init__(
        self,
        agents: Mapping[TenantId, Iterable[AgentSettings]],
        queues: Mapping[TenantId, Iterable[QueueSettings]],
    ) -> None:
        self.load(agents, queues)

    def load(
        self,
        agents: Mapping[TenantId, Iterable[AgentSettings]],
        queues: Mapping[TenantId, Iterable[QueueSettings]],
    ) -> None:
        """Take over a new configuration."""
        self._agents = {
            (tenant, agent.agent_id): agent for tenant, some in agents.items() for agent in some
        }
        self._queues = {
            (tenant, queue.queue_id): queue for tenant, some in queues.items() for queue in some
        }

    def agent(self, tenant: TenantId, agent: AgentId) -> AgentSettings | None:
        """The agent's settings, None when not configured."""
        return self._agents.get((tenant, agent))

    def queue(self, tenant: TenantId, queue: QueueId) -> QueueSettings | None:
        """The queue's settings, None when not configured."""
        return self._queues.get((tenant, queue))

    def queue_ids(self) -> dict[TenantId, list[QueueId]]:
        """Every queue of every tenant, as the ACD wants it."""
        found: dict[TenantId, list[QueueId]] = {}
        for tenant, queue in self._queues:
            found.setdefault(tenant, []).append(queue)
        return found

    def after_call_work_s(self, tenant: TenantId, agent: AgentSettings, queue: QueueId) -> int:
        """How long this agent may work after a call of this queue."""
        if agent.after_call_work_s is not None:
            return agent.after_call_work_s
        settings = self.queue(tenant, queue)
        return settings.after_call_work_s if settings is not None else 0

    @staticmethod
    def profile(tenant: TenantId, agent: AgentSettings) -> AgentProfile:
        """The agent as the ACD knows one."""
        return AgentProfile(
            tenant=tenant,
            agent=agent.agent_id,
            queues=tuple(QueueId(queue) for queue in agent.queues),
            skills=agent.skills,
        )
