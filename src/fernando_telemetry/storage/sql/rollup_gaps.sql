-- name: note_gaps
-- Notes the hours that a flush without deltas stores rows of, in its own transaction.
-- $1 rollups text[], $2 hours timestamptz[]: pair by pair, each once
-- $3 lane int4, $4 flush_id int8
INSERT INTO rollup_gaps (shard, rollup, hour, lane, first_flush_id, last_flush_id)
SELECT 0, rollup, hour, $3::int4, $4::int8, $4::int8
FROM unnest($1::text[], $2::timestamptz[]) AS noted (rollup, hour)
ON CONFLICT (rollup, hour, lane, shard) DO UPDATE SET last_flush_id = excluded.last_flush_id;

-- name: gaps_of_range
-- The gaps of whole or part hours of a range, by hour.
-- $1 rollup text, $2 start timestamptz, $3 end timestamptz, exclusive
SELECT hour, first_flush_id, last_flush_id FROM rollup_gaps
WHERE rollup = $1::text AND hour > $2::timestamptz - interval '1 hour' AND hour < $3::timestamptz
ORDER BY hour, lane;

-- name: is_open
-- Whether an hour of a roll-up has a gap.
-- $1 rollup text, $2 hour timestamptz
SELECT EXISTS (SELECT FROM rollup_gaps WHERE rollup = $1::text AND hour = $2::timestamptz);

-- name: open_hours
-- The hours that have gaps, newest first.
SELECT DISTINCT hour, rollup FROM rollup_gaps ORDER BY hour DESC, rollup;

-- name: hold_gaps
-- Lets one close gaps at a time; a statement of its own, so that the next one sees what it waited for.
SELECT pg_advisory_xact_lock({closing_gaps_lock});

-- name: gaps_of_hour
-- The gaps of an hour: what is to be made up.
-- $1 rollup text, $2 hour timestamptz
SELECT lane, first_flush_id, last_flush_id FROM rollup_gaps
WHERE rollup = $1::text AND hour = $2::timestamptz ORDER BY lane;

-- name: close_gaps
-- Closes gaps of an hour up to the flushes that were made up; flushes behind them leave them open.
-- Run in the transaction that makes up. A flush that notes the same gap meanwhile is waited for.
-- $1 rollup text, $2 hour timestamptz
-- $3 lanes int4[], $4 lasts int8[]: pair by pair
WITH done AS (
    SELECT * FROM unnest($3::int4[], $4::int8[]) AS d (lane, last_flush_id)
), gone AS (
    DELETE FROM rollup_gaps g USING done d
    WHERE g.rollup = $1::text AND g.hour = $2::timestamptz AND g.lane = d.lane
        AND g.last_flush_id = d.last_flush_id
    RETURNING 1
)
SELECT count(*) FROM gone;

-- name: shorten_gaps
-- Leaves of gaps that could not be closed what is behind the flushes that were made up.
-- $1 rollup text, $2 hour timestamptz
-- $3 lanes int4[], $4 lasts int8[]: pair by pair
UPDATE rollup_gaps g SET first_flush_id = d.last_flush_id + 1
FROM unnest($3::int4[], $4::int8[]) AS d (lane, last_flush_id)
WHERE g.rollup = $1::text AND g.hour = $2::timestamptz AND g.lane = d.lane
    AND g.first_flush_id <= d.last_flush_id;

-- name: expire_gaps
-- Forgets gaps of hours past the roll-ups' term; $2 at most.
-- $1 before timestamptz, $2 limit int8
WITH gone AS (
    DELETE FROM rollup_gaps WHERE ctid IN (
        SELECT ctid FROM rollup_gaps WHERE hour < $1::timestamptz LIMIT $2::int8)
    RETURNING 1
)
SELECT count(*) FROM gone;
