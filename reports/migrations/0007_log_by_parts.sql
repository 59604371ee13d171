-- Whose events a part of the log has is written down a part, not an event. Events of a call lie
-- together, and calls' ids are ordered by time.
DROP INDEX event_log_call;
CREATE INDEX event_log_call ON event_log USING brin (tenant, call_id)
    WITH (autosummarize = on) WHERE call_id <> '';
