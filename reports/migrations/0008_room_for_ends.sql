-- Rows that get their end with a second event, none of whose indexes it concerns: with room for it
-- on the same page, no index has to hear of it.
ALTER TABLE call_leg SET (fillfactor = 55);
ALTER TABLE conversation SET (fillfactor = 55);
