-- How well each party was heard, and what its far end said of us (RTCP). MOS is that of ITU-T
-- G.107, 1 to 4.5; what is unknown is null: the far end sent no reports, or nothing was received.
ALTER TABLE call_record
    ADD COLUMN packets_late bigint,
    ADD COLUMN packets_duplicate bigint,
    ADD COLUMN codec text,
    ADD COLUMN round_trip_ms double precision,
    ADD COLUMN mos double precision,
    ADD COLUMN worst_mos double precision,
    ADD COLUMN far_packets_lost bigint,
    ADD COLUMN far_jitter_ms double precision;
ALTER TABLE call_leg
    ADD COLUMN packets_late bigint,
    ADD COLUMN packets_duplicate bigint,
    ADD COLUMN codec text,
    ADD COLUMN round_trip_ms double precision,
    ADD COLUMN mos double precision,
    ADD COLUMN worst_mos double precision,
    ADD COLUMN far_packets_lost bigint,
    ADD COLUMN far_jitter_ms double precision;
