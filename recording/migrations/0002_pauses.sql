-- Spans of the file that are silence because the recording was paused: {{start, end}, ...}.
ALTER TABLE recording ADD COLUMN pauses_ms bigint[] NOT NULL DEFAULT '{}';
