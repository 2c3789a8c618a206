-- name: try_lock
-- Lets one server at a time drop partitions of raw tables; held by the session.
SELECT pg_try_advisory_lock({dropping_lock});

-- name: unlock
-- Lets another session drop at once; this one's end does so a little later.
SELECT pg_advisory_unlock({dropping_lock});

-- name: partitions
-- Partitions of the named tables: bounds, size with and without indexes, whether a DETACH was
-- broken off, and the comment that tells whose.
-- $1 tables text[]
SELECT p.relname::text AS parent, c.relname::text AS name, c.oid::int8 AS oid,
    pg_get_expr(c.relpartbound, 0) AS bounds,
    coalesce(pg_total_relation_size(c.oid), 0) AS bytes,
    coalesce(pg_relation_size(c.oid), 0) AS heap_bytes,
    i.inhdetachpending AS pending, obj_description(c.oid, 'pg_class') AS mark
FROM pg_inherits i
JOIN pg_class p ON p.oid = i.inhparent
JOIN pg_class c ON c.oid = i.inhrelid
WHERE p.relname = ANY ($1::text[]) AND p.relnamespace = current_schema()::regnamespace
    AND c.relpartbound IS NOT NULL;

-- name: detached
-- Tables that were partitions and carry the mark of one that is being dropped.
-- $1 mark text
SELECT c.relname::text AS name, pg_total_relation_size(c.oid) AS bytes
FROM pg_class c
WHERE c.relkind = 'r' AND NOT c.relispartition AND c.relnamespace = current_schema()::regnamespace
    AND obj_description(c.oid, 'pg_class') = $1::text;

-- name: oldest_transaction_seconds
-- Age of the oldest transaction of this database: a DETACH has to wait for all that run. Those of
-- other roles show to a superuser and to pg_monitor only.
SELECT coalesce(extract(epoch FROM max(clock_timestamp() - xact_start)), 0)::float8
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend';
