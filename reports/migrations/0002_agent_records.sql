CREATE TABLE agent_offer (
    tenant text NOT NULL,
    event_id uuid NOT NULL,
    call_id text NOT NULL,
    ticket text NOT NULL,
    agent text NOT NULL,
    queue text NOT NULL,
    offered_at timestamptz NOT NULL,
    ended_at timestamptz,
    ring_ms bigint,
    outcome text,
    PRIMARY KEY (tenant, event_id)
);
CREATE INDEX agent_offer_agent ON agent_offer (tenant, agent, offered_at);
CREATE INDEX agent_offer_open ON agent_offer (tenant, ticket) WHERE ended_at IS NULL;

CREATE TABLE agent_state_log (
    tenant text NOT NULL,
    event_id uuid NOT NULL,
    at timestamptz NOT NULL,
    agent text NOT NULL,
    node text NOT NULL,
    from_state text NOT NULL,
    to_state text NOT NULL,
    reason text NOT NULL,
    device text NOT NULL,
    previous_ms bigint NOT NULL,
    PRIMARY KEY (tenant, event_id)
);
CREATE INDEX agent_state_log_agent ON agent_state_log (tenant, agent, at);

CREATE TABLE agent_session (
    tenant text NOT NULL,
    event_id uuid NOT NULL,
    agent text NOT NULL,
    node text NOT NULL,
    device text NOT NULL,
    signed_in_at timestamptz NOT NULL,
    signed_out_at timestamptz,
    PRIMARY KEY (tenant, event_id)
);
CREATE INDEX agent_session_agent ON agent_session (tenant, agent, signed_in_at);

CREATE TABLE rating (
    tenant text NOT NULL,
    event_id uuid NOT NULL,
    at timestamptz NOT NULL,
    call_id text NOT NULL,
    agent text NOT NULL,
    score integer NOT NULL,
    language text NOT NULL,
    PRIMARY KEY (tenant, event_id)
);
CREATE INDEX rating_agent ON rating (tenant, agent, at);

-- Refused sign-ins and registrations.
CREATE TABLE security_event (
    tenant text NOT NULL,
    event_id uuid NOT NULL,
    at timestamptz NOT NULL,
    protocol text NOT NULL,
    user_name text NOT NULL,
    source_address text NOT NULL,
    cause text NOT NULL,
    PRIMARY KEY (tenant, event_id)
);

CREATE TABLE alarm (
    tenant text NOT NULL,
    event_id uuid NOT NULL,
    at timestamptz NOT NULL,
    node text NOT NULL,
    component text NOT NULL,
    words text NOT NULL,
    PRIMARY KEY (tenant, event_id)
);
