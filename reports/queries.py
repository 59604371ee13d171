"""What people and other rooms ask of the records."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg

from domain.agent_day import AgentDay

CALENDAR = ZoneInfo("Asia/Shanghai")

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CallReport:
    """All that is known of a call."""

    record: Row
    steps: list[Row]
    visits: list[Row]
    legs: list[Row]
    conversations: list[Row]
    recordings: list[Row]


_AGENT_DAY = """
WITH day AS (SELECT $3::timestamptz AS began),
states AS (
    SELECT from_state,
        sum(LEAST(previous_ms, extract(epoch FROM at - day.began) * 1000))::bigint AS ms
    FROM agent_state_log, day WHERE tenant = $1 AND agent = $2 AND at >= day.began
    GROUP BY from_state)
SELECT
    (SELECT count(*) FROM agent_offer, day
        WHERE tenant = $1 AND agent = $2 AND offered_at >= day.began) AS calls_offered,
    (SELECT count(*) FROM agent_offer, day
        WHERE tenant = $1 AND agent = $2 AND offered_at >= day.began
        AND outcome = 'answered') AS calls_answered,
    (SELECT COALESCE(sum(talk_ms), 0)::bigint FROM conversation, day
        WHERE tenant = $1 AND agent = $2 AND bridged_at >= day.began) AS talk_ms,
    COALESCE((SELECT ms FROM states WHERE from_state = 'after_call_work'), 0)
        AS after_call_work_ms,
    COALESCE((SELECT ms FROM states WHERE from_state = 'ready'), 0) AS ready_ms,
    COALESCE((SELECT ms FROM states WHERE from_state = 'not_ready'), 0) AS not_ready_ms,
    (SELECT COALESCE(sum(extract(epoch FROM COALESCE(signed_out_at, now())
            - GREATEST(signed_in_at, day.began)) * 1000), 0)::bigint
        FROM agent_session, day WHERE tenant = $1 AND agent = $2
        AND COALESCE(signed_out_at, now()) > day.began) AS signed_in_ms,
    (SELECT count(*) FROM rating, day
        WHERE tenant = $1 AND agent = $2 AND at >= day.began) AS ratings,
    (SELECT COALESCE(sum(score), 0)::bigint FROM rating, day
        WHERE tenant = $1 AND agent = $2 AND at >= day.began) AS rating_sum
"""


class RecordQueries:
    """Read-only questions; every one may raise asyncpg's errors."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def latest_calls(
        self, count: int, *, tenant: str | None = None, number_list: str | None = None
    ) -> list[Row]:
        """The calls that arrived last, newest first; those of a black or white list alone."""
        rows: list[Row] = await self._pool.fetch(
            "SELECT * FROM call_record WHERE ($2::text IS NULL OR tenant = $2) "
            "AND ($3::text IS NULL OR number_list = $3) "
            "ORDER BY arrived_at DESC NULLS LAST LIMIT $1",
            count,
            tenant,
            number_list,
        )
        return rows

    async def call(self, call_id: str) -> CallReport | None:
        """All of one call, by its id or its SIP Call-ID."""
        record = await self._pool.fetchrow(
            "SELECT * FROM call_record WHERE call_id = $1 OR sip_call_id = $1 LIMIT 1", call_id
        )
        if record is None:
            return None
        key = (record["tenant"], record["call_id"])

        async def of_call(table: str, order: str) -> list[Row]:
            rows: list[Row] = await self._pool.fetch(
                f"SELECT * FROM {table} WHERE tenant = $1 AND call_id = $2 "  # noqa: S608
                f"ORDER BY {order} NULLS LAST",
                *key,
            )
            return rows

        return CallReport(
            record=record,
            steps=await of_call("call_step", "step"),
            visits=await of_call("queue_visit", "queued_at"),
            legs=await of_call("call_leg", "started_at"),
            conversations=await of_call("conversation", "bridged_at"),
            recordings=await of_call("recording", "started_at"),
        )

    async def agent_day(self, tenant: str, agent: str, *, day: dt.date | None = None) -> AgentDay:
        """An agent's figures since the day began in Shanghai; today unless `day` says otherwise."""
        day = day or dt.datetime.now(CALENDAR).date()
        began = dt.datetime.combine(day, dt.time(), CALENDAR)
        row = await self._pool.fetchrow(_AGENT_DAY, tenant, agent, began)
        return AgentDay(**dict(row))
