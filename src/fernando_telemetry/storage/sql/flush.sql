-- name: lock_lanes
-- Lane numbers become visible in their order: an identity column's do not.
LOCK TABLE lanes IN SHARE ROW EXCLUSIVE MODE;

-- name: next_lane
-- Takes the next lane number.
INSERT INTO lanes (lane) SELECT coalesce(max(lane), 0) + 1 FROM lanes RETURNING lane;

-- name: hold_lane
-- Holds the lane for the life of this session; who obtains it later knows the session is gone.
-- $1 lane int4
SELECT pg_advisory_lock(1179603534, $1::int4);

-- name: keep_plans
-- Lets this session keep its plans: a flush's statements are the same each time, and planning
-- the locks and marks anew costs twice what running them does.
SET plan_cache_mode = auto;

-- name: await_lane_end
-- Waits until the session that held a lane is gone, its last transaction included.
-- $1 lane int4
SELECT pg_advisory_xact_lock(1179603534, $1::int4);

-- name: ping
-- Tells that the session answers.
SELECT 1;

-- name: clock
-- The database's clock: ingested_at of every row of the flush.
SELECT clock_timestamp();

-- name: insert_flush
-- Notes the flush: rows and time range per kind. A token is reached when this row shows.
-- $1 committed_on date, $2 flush_id int8, $3 ingested_at timestamptz
-- then count int4, min timestamptz, max timestamptz for each kind of table
INSERT INTO flushes (committed_on, shard, flush_id, ingested_at,
    event_count, event_min_time, event_max_time,
    sample_count, sample_min_time, sample_max_time,
    distribution_count, distribution_min_time, distribution_max_time,
    business_metric_count, business_metric_min_time, business_metric_max_time,
    span_count, span_min_time, span_max_time)
VALUES ($1::date, 0, $2::int8, $3::timestamptz,
    $4::int4, $5::timestamptz, $6::timestamptz,
    $7::int4, $8::timestamptz, $9::timestamptz,
    $10::int4, $11::timestamptz, $12::timestamptz,
    $13::int4, $14::timestamptz, $15::timestamptz,
    $16::int4, $17::timestamptz, $18::timestamptz);

-- name: flush_exists
-- Tells whether a flush was committed; decisive once its lane's session is gone.
-- $1 flush_id int8
SELECT EXISTS (SELECT FROM flushes
    WHERE committed_on >= CURRENT_DATE - 2 AND flush_id = $1::int8);
