-- name: try_lock
-- Lets one session at a time seal; held by the session.
SELECT pg_try_advisory_lock({sealing_lock});

-- name: unlock
-- Lets another session seal at once; this one's end does so a little later.
SELECT pg_advisory_unlock({sealing_lock});

-- name: build_alone
-- Leaves the other cores to the writers.
SET max_parallel_maintenance_workers = 0;

-- name: build_in_parallel
-- With as many workers as the server is set to allow.
RESET max_parallel_maintenance_workers;

-- name: rows_written
-- Rows that all sessions have stored in this database so far; a session tells about once a second.
SELECT tup_inserted FROM pg_stat_database WHERE datname = current_database();

-- name: notice_lost_client
-- Ends a build whose server is gone, instead of when it is done. Not every system can.
SELECT set_config('client_connection_check_interval', '2s', false);

-- name: unsealed
-- Partitions that do not carry the mark of their table's sealed set: hot ones, future ones, those
-- whose time has passed, and those sealed with another set.
-- $1 tables text[]
-- $2 marks text[]: by table
SELECT p.relname::text AS parent, c.relname::text AS partition, c.oid::bigint AS oid,
    pg_get_expr(c.relpartbound, 0) AS bounds, d.description AS mark
FROM unnest($1::text[], $2::text[]) AS wanted (parent, mark)
JOIN pg_class p ON p.relname = wanted.parent AND p.relnamespace = current_schema()::regnamespace
JOIN pg_inherits i ON i.inhparent = p.oid
JOIN pg_class c ON c.oid = i.inhrelid
LEFT JOIN pg_description d
    ON d.objoid = c.oid AND d.classoid = 'pg_class'::regclass AND d.objsubid = 0
WHERE c.relpartbound IS NOT NULL AND d.description IS DISTINCT FROM wanted.mark;

-- name: sizes
-- Bytes of partitions; no row for one that is gone.
-- $1 partitions int8[]: their oids
SELECT oid::bigint AS oid, pg_relation_size(oid) AS bytes
FROM pg_class WHERE oid = ANY ($1::int8[]::oid[]);

-- name: indexes
-- Indexes of one partition; an invalid one was left by a build that did not end.
-- $1 partition int8: its oid
SELECT c.relname::text AS name, i.indisvalid AS is_valid, a.amname::text AS method,
    i.indexrelid::bigint AS oid
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_am a ON a.oid = c.relam
WHERE i.indrelid = $1::int8::oid;

-- name: summarise_all
-- Summarises what is not, the last pages included.
-- $1 index int8: its oid
SELECT brin_summarize_new_values($1::int8::oid::regclass);
