-- name: columns_of
-- Columns of a table that COPY takes, generated ones left out, in their order.
-- $1 table text
SELECT attname::text
FROM pg_attribute
WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
ORDER BY attnum;

-- name: checkpoint
-- Lets every slice begin with the same distance to the next checkpoint.
CHECKPOINT;

-- name: partitions_of
-- Partitions of a table by their end (in the session's time zone, UTC), with the definitions of
-- their valid indexes, names left out.
-- $1 table text
SELECT
    c.relname::text AS name,
    substring(pg_get_expr(c.relpartbound, 0) FROM 'TO \(''([^'']+)''\)')::timestamptz AS ends_at,
    ARRAY(
        SELECT substring(pg_get_indexdef(x.indexrelid) FROM ' USING .*') AS definition
        FROM pg_index x
        WHERE x.indrelid = c.oid AND x.indisvalid
        ORDER BY definition
    ) AS indexes
FROM pg_inherits i
JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = $1::text::regclass AND c.relpartbound IS NOT NULL
ORDER BY ends_at;

-- name: scan_from_the_start
-- Else a scan of a big table may begin anywhere, and slices of it would overlap.
SET synchronize_seqscans = off;

-- name: join_in_memory
-- A hash join that spills gives rows in another order than that of its outer side.
SET work_mem = '512MB';

-- name: events_of_range
-- All columns of the events of a time range, as COPY gives them.
-- $1 start timestamptz, $2 end timestamptz, exclusive
SELECT * FROM telemetry_events WHERE event_timestamp >= $1 AND event_timestamp < $2
