-- Calls without an end: those in progress, and those that went with their node.
CREATE INDEX call_record_open ON call_record (tenant, node) WHERE ended_at IS NULL;
