-- name: forsaken_lanes
-- Lanes not yet closed whose lock nobody holds.
SELECT l.lane FROM lanes l
WHERE l.last_number IS NULL AND NOT EXISTS (
    SELECT FROM pg_locks k
    WHERE k.locktype = 'advisory' AND k.classid = 1179603534 AND k.objid = l.lane::oid
        AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database()))
ORDER BY l.lane;

-- name: try_lane
-- Obtains a lane's lock until the transaction ends: its session is then gone, and all of its
-- transactions are over.
-- $1 lane int4
SELECT pg_try_advisory_xact_lock(1179603534, $1::int4);

-- name: close_lane
-- Notes a dead lane's last committed number, in a statement behind the one that got its lock.
-- $1 lane int4
UPDATE lanes l
SET last_number = greatest(l.pruned_through, coalesce((
    SELECT max(f.flush_id) & ((1::int8 << 40) - 1) FROM flushes f
    WHERE f.flush_id > $1::int8 << 40 AND f.flush_id < ($1::int8 + 1) << 40), 0))
WHERE l.lane = $1::int4 AND l.last_number IS NULL
RETURNING l.last_number;

-- name: numbers_of_day
-- Highest flush number of each lane on a day that is long over.
-- $1 day date
SELECT (flush_id >> 40)::int4 AS lane, max(flush_id & ((1::int8 << 40) - 1)) AS number
FROM flushes WHERE committed_on = $1::date
GROUP BY flush_id >> 40
ORDER BY 1;

-- name: raise_pruned
-- Notes that flushes at or below these numbers are about to leave; never lowers them.
-- $1 lanes int4[], $2 numbers int8[]
UPDATE lanes l SET pruned_through = given.number
FROM unnest($1::int4[], $2::int8[]) AS given (lane, number)
WHERE l.lane = given.lane AND l.pruned_through < given.number;

-- name: partitions_of_flushes
-- Partitions of `flushes`, those included that were half or wholly detached and not yet dropped.
SELECT c.relname::text AS name, i.inhparent IS NOT NULL AS is_attached,
    coalesce(i.inhdetachpending, false) AS is_half_detached
FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace
    AND c.relname ~ '^flushes_p\d{8}$'
    AND (i.inhparent IS NULL OR i.inhparent = 'flushes'::regclass)
ORDER BY c.relname;
