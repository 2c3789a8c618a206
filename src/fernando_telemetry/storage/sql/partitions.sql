-- name: lock
-- Lets one session at a time look for missing partitions and make them; ends with the transaction.
SELECT pg_advisory_xact_lock({making_partitions_lock});

-- name: installed_at
-- When this database was set up: the floor of daily partitions counts from here.
SELECT installed_at FROM installation;

-- name: existing
-- Partitions of the named tables with their bounds as PostgreSQL prints them. Bounds name no columns,
-- so no table is named for them: it would be locked, and behind a drop waited for and then missing.
-- $1 tables text[]
SELECT p.relname::text AS parent, pg_get_expr(c.relpartbound, 0) AS bounds
FROM pg_inherits i
JOIN pg_class p ON p.oid = i.inhparent
JOIN pg_class c ON c.oid = i.inhrelid
WHERE p.relname = ANY ($1::text[]) AND p.relnamespace = current_schema()::regnamespace
    AND c.relpartbound IS NOT NULL;

-- name: is_free
-- Whether no table has this name.
-- $1 name text
SELECT to_regclass($1::text) IS NULL;
