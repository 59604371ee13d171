-- 录音索引: one row a recording; sha256 is of the whole file.
CREATE TABLE recording (
    tenant text NOT NULL,
    recording_id text NOT NULL,
    call_id text,
    agent text,
    path text,
    started_at timestamptz,
    finished_at timestamptz,
    sha256 text,
    size_bytes bigint,
    duration_ms bigint,
    channels integer,
    sample_rate_hz integer,
    dropped_frames bigint,
    left_party text,
    right_party text,
    cause text,
    PRIMARY KEY (tenant, recording_id)
);
CREATE INDEX recording_call ON recording (tenant, call_id);
CREATE INDEX recording_agent ON recording (tenant, agent, started_at);
