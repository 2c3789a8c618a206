-- name: hold_fold
-- Lets one fold run at a time; a statement of its own, so that the next one sees what it waited for.
SELECT pg_advisory_xact_lock({folding_lock});

-- name: delta_partitions
-- Partitions of deltas: bounds, and whether a DETACH was broken off.
-- $1 table text
SELECT c.relname::text AS name, pg_get_expr(c.relpartbound, 0) AS bounds,
    i.inhdetachpending AS pending
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = to_regclass($1::text) AND c.relpartbound IS NOT NULL;

-- name: await_fold
-- Keeps the fold from running until release_fold; waits for one that runs.
SELECT pg_advisory_lock({folding_lock});

-- name: release_fold
-- Lets the fold run again.
SELECT pg_advisory_unlock({folding_lock});

-- name: age
-- Seconds since a flush, by the database's clock; 0 for none.
-- $1 flushed_at timestamptz
SELECT coalesce(extract(epoch FROM clock_timestamp() - $1::timestamptz), 0)::float8;
