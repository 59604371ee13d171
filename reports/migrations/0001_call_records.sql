-- Every event once; its id makes a second reading harmless. Ids sort by time (UUID version 7), so
-- that the table can be partitioned by id when it grows.
CREATE TABLE event_log (
    event_id uuid PRIMARY KEY,
    at timestamptz NOT NULL,
    tenant text NOT NULL,
    node text NOT NULL,
    call_id text NOT NULL,
    kind text NOT NULL,
    cause text NOT NULL,
    body bytea NOT NULL
);
CREATE INDEX event_log_call ON event_log (tenant, call_id) WHERE call_id <> '';

-- Events whose content SQL refuses, kept whole for whoever looks into it.
CREATE TABLE event_refused (
    event_id text PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    reason text NOT NULL,
    body bytea NOT NULL
);

-- 话单: one row a call.
CREATE TABLE call_record (
    tenant text NOT NULL,
    call_id text NOT NULL,
    node text,
    arrived_at timestamptz,
    answered_at timestamptz,
    ended_at timestamptz,
    trunk text,
    caller text,
    called text,
    access_code text,
    landing_code text,
    sip_call_id text,
    source_address text,
    flow text,
    flow_version text,
    queue text,
    agent text,
    recording_id text,
    rating integer,
    cause text,
    counted_as text,
    abandoned boolean,
    outcome text GENERATED ALWAYS AS (
        CASE WHEN abandoned THEN 'abandoned' ELSE counted_as END
    ) STORED,
    ended_by text,
    sip_status integer,
    duration_ms bigint,
    wait_ms bigint NOT NULL DEFAULT 0,
    ring_ms bigint NOT NULL DEFAULT 0,
    talk_ms bigint NOT NULL DEFAULT 0,
    offers bigint NOT NULL DEFAULT 0,
    packets_sent bigint,
    packets_received bigint,
    packets_lost bigint,
    packets_invalid bigint,
    jitter_ms double precision,
    PRIMARY KEY (tenant, call_id)
);
CREATE INDEX call_record_arrived ON call_record (tenant, arrived_at);

-- 进线轨迹: the nodes of flows that a call passed.
CREATE TABLE call_step (
    tenant text NOT NULL,
    call_id text NOT NULL,
    step integer NOT NULL,
    flow text,
    flow_node text,
    kind text,
    entered_at timestamptz,
    left_at timestamptz,
    exit text,
    digits text,
    duration_ms bigint,
    note text,
    PRIMARY KEY (tenant, call_id, step)
);

-- Phones that were rung for a call.
CREATE TABLE call_leg (
    tenant text NOT NULL,
    leg_id text NOT NULL,
    call_id text,
    target text,
    purpose text,
    started_at timestamptz,
    ended_at timestamptz,
    sip_status integer,
    cause text,
    ring_ms bigint,
    talk_ms bigint,
    packets_sent bigint,
    packets_received bigint,
    packets_lost bigint,
    packets_invalid bigint,
    jitter_ms double precision,
    PRIMARY KEY (tenant, leg_id)
);
CREATE INDEX call_leg_call ON call_leg (tenant, call_id);

-- A call's stay in a queue.
CREATE TABLE queue_visit (
    tenant text NOT NULL,
    ticket text NOT NULL,
    call_id text,
    queue text,
    priority integer,
    position integer,
    queued_at timestamptz,
    dequeued_at timestamptz,
    outcome text,
    waited_ms bigint,
    agent text,
    PRIMARY KEY (tenant, ticket)
);
CREATE INDEX queue_visit_call ON queue_visit (tenant, call_id);

-- Caller and agent connected.
CREATE TABLE conversation (
    tenant text NOT NULL,
    leg_id text NOT NULL,
    call_id text,
    agent text,
    bridged_at timestamptz,
    unbridged_at timestamptz,
    talk_ms bigint,
    ended_by text,
    PRIMARY KEY (tenant, leg_id)
);
CREATE INDEX conversation_agent ON conversation (tenant, agent, bridged_at);
