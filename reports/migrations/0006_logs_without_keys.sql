-- Logs, to which rows are added as their events are new to event_log, in the same transaction: its
-- key tells what is there already, and a key of each log would cost every row a second index.
ALTER TABLE agent_state_log DROP CONSTRAINT agent_state_log_pkey;
ALTER TABLE agent_offer DROP CONSTRAINT agent_offer_pkey;
ALTER TABLE rating DROP CONSTRAINT rating_pkey;
ALTER TABLE security_event DROP CONSTRAINT security_event_pkey;
ALTER TABLE alarm DROP CONSTRAINT alarm_pkey;
