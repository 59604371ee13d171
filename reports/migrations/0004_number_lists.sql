-- The black or white list of numbers that a caller is on.
ALTER TABLE call_record ADD COLUMN number_list text;
CREATE INDEX call_record_number_list ON call_record (number_list, arrived_at)
    WHERE number_list <> '';
