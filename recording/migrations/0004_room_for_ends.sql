-- A recording's end is written beside its start, on the same page, and no index has to hear of it.
ALTER TABLE recording SET (fillfactor = 55);
