-- name: try_lock
-- Lets one server at a time drop for room; held by the session.
SELECT pg_try_advisory_lock(1179603533, 7);

-- name: partitions
-- Partitions of the named tables: bounds, size with indexes, whether a DETACH was broken off.
-- $1 tables text[]
SELECT p.relname::text AS parent, c.relname::text AS name,
    pg_get_expr(c.relpartbound, c.oid) AS bounds, pg_total_relation_size(c.oid) AS bytes,
    i.inhdetachpending AS pending
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
-- Age of the oldest transaction of this database: a DETACH has to wait for all that run.
SELECT coalesce(extract(epoch FROM max(clock_timestamp() - xact_start)), 0)::float8
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend';
