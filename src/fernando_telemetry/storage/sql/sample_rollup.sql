-- name: fold
-- Moves deltas of samples into the roll-ups by minute and by hour, and tells how many. Of samples
-- at one moment the smallest is the first and the largest is the last, whatever order they came in.
-- $1 most_deltas int8
-- $2 oldest_minute timestamptz, $3 oldest_hour timestamptz: older ones are past the term
WITH taken AS (
    DELETE FROM sample_deltas WHERE (tableoid, ctid) IN (
        SELECT tableoid, ctid FROM sample_deltas LIMIT $1::int8)
    RETURNING *
), minutes AS (
    SELECT shard, series_id, minute, sum(sample_count)::int8 AS sample_count,
        sum(value_sum) AS value_sum, min(value_min) AS value_min, max(value_max) AS value_max,
        min(first_time) AS first_time,
        (array_agg(first_value ORDER BY first_time, first_value))[1] AS first_value,
        max(last_time) AS last_time,
        (array_agg(last_value ORDER BY last_time DESC, last_value DESC))[1] AS last_value
    FROM taken GROUP BY shard, series_id, minute
), hours AS (
    SELECT shard, series_id, date_trunc('hour', minute, 'UTC') AS hour,
        sum(sample_count)::int8 AS sample_count,
        sum(value_sum) AS value_sum, min(value_min) AS value_min, max(value_max) AS value_max,
        min(first_time) AS first_time,
        (array_agg(first_value ORDER BY first_time, first_value))[1] AS first_value,
        max(last_time) AS last_time,
        (array_agg(last_value ORDER BY last_time DESC, last_value DESC))[1] AS last_value
    FROM minutes GROUP BY 1, 2, 3
), added_minutes AS (
    INSERT INTO sample_minutes AS m (shard, series_id, minute, sample_count, value_sum, value_min,
        value_max, first_time, first_value, last_time, last_value)
    SELECT shard, series_id, minute, sample_count, value_sum, value_min,
        value_max, first_time, first_value, last_time, last_value
    FROM minutes WHERE minute >= $2::timestamptz
    ON CONFLICT (series_id, minute, shard) DO UPDATE SET
        sample_count = m.sample_count + excluded.sample_count,
        value_sum = m.value_sum + excluded.value_sum,
        value_min = least(m.value_min, excluded.value_min),
        value_max = greatest(m.value_max, excluded.value_max),
        first_time = least(m.first_time, excluded.first_time),
        first_value = CASE
            WHEN (m.first_time, m.first_value) < (excluded.first_time, excluded.first_value)
            THEN m.first_value ELSE excluded.first_value END,
        last_time = greatest(m.last_time, excluded.last_time),
        last_value = CASE
            WHEN (m.last_time, m.last_value) > (excluded.last_time, excluded.last_value)
            THEN m.last_value ELSE excluded.last_value END
), added_hours AS (
    INSERT INTO sample_hours AS h (shard, series_id, hour, sample_count, value_sum, value_min,
        value_max, first_time, first_value, last_time, last_value)
    SELECT shard, series_id, hour, sample_count, value_sum, value_min,
        value_max, first_time, first_value, last_time, last_value
    FROM hours WHERE hour >= $3::timestamptz
    ON CONFLICT (series_id, hour, shard) DO UPDATE SET
        sample_count = h.sample_count + excluded.sample_count,
        value_sum = h.value_sum + excluded.value_sum,
        value_min = least(h.value_min, excluded.value_min),
        value_max = greatest(h.value_max, excluded.value_max),
        first_time = least(h.first_time, excluded.first_time),
        first_value = CASE
            WHEN (h.first_time, h.first_value) < (excluded.first_time, excluded.first_value)
            THEN h.first_value ELSE excluded.first_value END,
        last_time = greatest(h.last_time, excluded.last_time),
        last_value = CASE
            WHEN (h.last_time, h.last_value) > (excluded.last_time, excluded.last_value)
            THEN h.last_value ELSE excluded.last_value END
)
SELECT count(*) FROM taken;

-- name: make_up
-- Appends the deltas of raw samples that were stored without, as their flushes would have.
-- $1 start timestamptz, $2 end timestamptz, exclusive
-- $3 firsts int8[], $4 lasts int8[]: of flushes, pair by pair
INSERT INTO sample_deltas (flushed_at, shard, series_id, minute, sample_count, value_sum, value_min,
    value_max, first_time, first_value, last_time, last_value)
SELECT clock_timestamp(), 0, series_id, date_trunc('minute', time, 'UTC') AS minute, count(*),
    sum(CASE WHEN abs(value) < 1e290 THEN value ELSE sign(value) * float8 'Infinity' END),
    min(value), max(value), min(time), (array_agg(value ORDER BY time, value))[1], max(time),
    (array_agg(value ORDER BY time DESC, value DESC))[1]
FROM metric_samples
WHERE time >= $1::timestamptz AND time < $2::timestamptz
    AND EXISTS (SELECT FROM unnest($3::int8[], $4::int8[]) AS gap (first, last)
        WHERE flush_id >= gap.first AND flush_id <= gap.last)
GROUP BY series_id, minute;

-- name: expire_minutes
-- Forgets minutes past the roll-up's term; $2 at most.
-- $1 before timestamptz, $2 limit int8
WITH gone AS (
    DELETE FROM sample_minutes WHERE ctid IN (
        SELECT ctid FROM sample_minutes WHERE minute < $1::timestamptz LIMIT $2::int8)
    RETURNING 1
)
SELECT count(*) FROM gone;

-- name: expire_hours
-- Forgets hours past the roll-up's term; $2 at most.
-- $1 before timestamptz, $2 limit int8
WITH gone AS (
    DELETE FROM sample_hours WHERE ctid IN (
        SELECT ctid FROM sample_hours WHERE hour < $1::timestamptz LIMIT $2::int8)
    RETURNING 1
)
SELECT count(*) FROM gone;

-- name: compare_minutes
-- Minutes of whole hours and their deltas against raw samples: raw rows read, groups met on either
-- side, and those that differ. A sum may differ by 1e-9 of what was added up.
-- $1 start timestamptz, $2 end timestamptz, exclusive
-- $3 aside text[]: licences that are left out
WITH aside AS MATERIALIZED (
    SELECT series_id FROM metric_series WHERE coalesce(license_id, '') = ANY ($3::text[])
), parts AS (
    SELECT 1 AS side, series_id, date_trunc('minute', time, 'UTC') AS minute, 1 AS sample_count,
        value AS value_sum, value AS value_min, value AS value_max, time AS first_time,
        value AS first_value, time AS last_time, value AS last_value
    FROM metric_samples WHERE time >= $1::timestamptz AND time < $2::timestamptz
    UNION ALL
    SELECT -1, series_id, minute, sample_count, value_sum, value_min, value_max, first_time,
        first_value, last_time, last_value
    FROM sample_minutes WHERE minute >= $1::timestamptz AND minute < $2::timestamptz
    UNION ALL
    SELECT -1, series_id, minute, sample_count, value_sum, value_min, value_max, first_time,
        first_value, last_time, last_value
    FROM sample_deltas WHERE minute >= $1::timestamptz AND minute < $2::timestamptz
), sides AS (
    SELECT side, series_id, minute, sum(sample_count)::int8 AS sample_count,
        sum(CASE WHEN abs(value_sum) < 1e290 THEN value_sum
            ELSE sign(value_sum) * float8 'Infinity' END) AS value_sum,
        sum(CASE WHEN abs(value_sum) < 1e290 THEN abs(value_sum) END) AS size,
        min(value_min) AS value_min, max(value_max) AS value_max,
        (array_agg(first_time ORDER BY first_time, first_value))[1] AS first_time,
        (array_agg(first_value ORDER BY first_time, first_value))[1] AS first_value,
        (array_agg(last_time ORDER BY last_time DESC, last_value DESC))[1] AS last_time,
        (array_agg(last_value ORDER BY last_time DESC, last_value DESC))[1] AS last_value
    FROM parts WHERE series_id NOT IN (SELECT series_id FROM aside)
    GROUP BY side, series_id, minute
)
SELECT coalesce(sum(r.sample_count), 0)::int8 AS raw_rows, count(*) AS groups,
    count(*) FILTER (WHERE (r.sample_count, r.value_min, r.value_max, r.first_time, r.first_value,
            r.last_time, r.last_value) IS DISTINCT FROM (k.sample_count, k.value_min, k.value_max,
            k.first_time, k.first_value, k.last_time, k.last_value)
        OR r.value_sum <> k.value_sum AND abs(r.value_sum - k.value_sum) > 1e-9 * r.size)
        AS differences
FROM (SELECT * FROM sides WHERE side = 1) AS r
FULL JOIN (SELECT * FROM sides WHERE side = -1) AS k USING (series_id, minute);

-- name: compare_hours
-- The same of hours.
-- $1 start timestamptz, $2 end timestamptz, exclusive
-- $3 aside text[]: licences that are left out
WITH aside AS MATERIALIZED (
    SELECT series_id FROM metric_series WHERE coalesce(license_id, '') = ANY ($3::text[])
), parts AS (
    SELECT 1 AS side, series_id, date_trunc('hour', time, 'UTC') AS hour, 1 AS sample_count,
        value AS value_sum, value AS value_min, value AS value_max, time AS first_time,
        value AS first_value, time AS last_time, value AS last_value
    FROM metric_samples WHERE time >= $1::timestamptz AND time < $2::timestamptz
    UNION ALL
    SELECT -1, series_id, hour, sample_count, value_sum, value_min, value_max, first_time,
        first_value, last_time, last_value
    FROM sample_hours WHERE hour >= $1::timestamptz AND hour < $2::timestamptz
    UNION ALL
    SELECT -1, series_id, date_trunc('hour', minute, 'UTC'), sample_count, value_sum, value_min,
        value_max, first_time, first_value, last_time, last_value
    FROM sample_deltas WHERE minute >= $1::timestamptz AND minute < $2::timestamptz
), sides AS (
    SELECT side, series_id, hour, sum(sample_count)::int8 AS sample_count,
        sum(CASE WHEN abs(value_sum) < 1e290 THEN value_sum
            ELSE sign(value_sum) * float8 'Infinity' END) AS value_sum,
        sum(CASE WHEN abs(value_sum) < 1e290 THEN abs(value_sum) END) AS size,
        min(value_min) AS value_min, max(value_max) AS value_max,
        (array_agg(first_time ORDER BY first_time, first_value))[1] AS first_time,
        (array_agg(first_value ORDER BY first_time, first_value))[1] AS first_value,
        (array_agg(last_time ORDER BY last_time DESC, last_value DESC))[1] AS last_time,
        (array_agg(last_value ORDER BY last_time DESC, last_value DESC))[1] AS last_value
    FROM parts WHERE series_id NOT IN (SELECT series_id FROM aside)
    GROUP BY side, series_id, hour
)
SELECT coalesce(sum(r.sample_count), 0)::int8 AS raw_rows, count(*) AS groups,
    count(*) FILTER (WHERE (r.sample_count, r.value_min, r.value_max, r.first_time, r.first_value,
            r.last_time, r.last_value) IS DISTINCT FROM (k.sample_count, k.value_min, k.value_max,
            k.first_time, k.first_value, k.last_time, k.last_value)
        OR r.value_sum <> k.value_sum AND abs(r.value_sum - k.value_sum) > 1e-9 * r.size)
        AS differences
FROM (SELECT * FROM sides WHERE side = 1) AS r
FULL JOIN (SELECT * FROM sides WHERE side = -1) AS k USING (series_id, hour);

-- name: forget_deltas
-- Deletes what is not folded of whole hours, before they are written anew.
-- $1 start timestamptz, $2 end timestamptz, exclusive, $3 aside text[]: licences that stay
DELETE FROM sample_deltas
WHERE minute >= $1::timestamptz AND minute < $2::timestamptz AND series_id NOT IN (
    SELECT series_id FROM metric_series WHERE coalesce(license_id, '') = ANY ($3::text[]));

-- name: forget_minutes
-- Deletes minutes of whole hours.
-- $1 start timestamptz, $2 end timestamptz, exclusive, $3 aside text[]: licences that stay
DELETE FROM sample_minutes
WHERE minute >= $1::timestamptz AND minute < $2::timestamptz AND series_id NOT IN (
    SELECT series_id FROM metric_series WHERE coalesce(license_id, '') = ANY ($3::text[]));

-- name: forget_hours
-- Deletes whole hours.
-- $1 start timestamptz, $2 end timestamptz, exclusive, $3 aside text[]: licences that stay
DELETE FROM sample_hours
WHERE hour >= $1::timestamptz AND hour < $2::timestamptz AND series_id NOT IN (
    SELECT series_id FROM metric_series WHERE coalesce(license_id, '') = ANY ($3::text[]));

-- name: fill_minutes
-- Writes minutes of whole hours anew from raw samples.
-- $1 start timestamptz, $2 end timestamptz, exclusive, $3 aside text[]: licences left out
INSERT INTO sample_minutes (shard, series_id, minute, sample_count, value_sum, value_min,
    value_max, first_time, first_value, last_time, last_value)
SELECT 0, series_id, date_trunc('minute', time, 'UTC') AS minute, count(*),
    sum(CASE WHEN abs(value) < 1e290 THEN value ELSE sign(value) * float8 'Infinity' END),
    min(value), max(value), min(time), (array_agg(value ORDER BY time, value))[1], max(time),
    (array_agg(value ORDER BY time DESC, value DESC))[1]
FROM metric_samples
WHERE time >= $1::timestamptz AND time < $2::timestamptz AND series_id NOT IN (
    SELECT series_id FROM metric_series WHERE coalesce(license_id, '') = ANY ($3::text[]))
GROUP BY series_id, minute;

-- name: fill_hours
-- Writes whole hours anew from raw samples.
-- $1 start timestamptz, $2 end timestamptz, exclusive, $3 aside text[]: licences left out
INSERT INTO sample_hours (shard, series_id, hour, sample_count, value_sum, value_min,
    value_max, first_time, first_value, last_time, last_value)
SELECT 0, series_id, date_trunc('hour', time, 'UTC') AS hour, count(*),
    sum(CASE WHEN abs(value) < 1e290 THEN value ELSE sign(value) * float8 'Infinity' END),
    min(value), max(value), min(time), (array_agg(value ORDER BY time, value))[1], max(time),
    (array_agg(value ORDER BY time DESC, value DESC))[1]
FROM metric_samples
WHERE time >= $1::timestamptz AND time < $2::timestamptz AND series_id NOT IN (
    SELECT series_id FROM metric_series WHERE coalesce(license_id, '') = ANY ($3::text[]))
GROUP BY series_id, hour;
