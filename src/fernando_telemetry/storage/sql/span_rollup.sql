-- name: fold
-- Moves deltas of spans into the roll-up and tells how many. Groups are numbered first, as in the
-- fold of events. Chunks of calls that these spans touch (domain/edge_chunks.py) are listed no
-- longer, so that they are read from raw spans.
-- $1 most_deltas int8
-- $2 oldest_minute timestamptz: older ones are past the roll-up's term
WITH taken AS (
    DELETE FROM span_deltas WHERE (tableoid, ctid) IN (
        SELECT tableoid, ctid FROM span_deltas LIMIT $1::int8)
    RETURNING *
), unlisted AS (
    DELETE FROM service_edge_chunks c USING (SELECT DISTINCT minute FROM taken) AS t
    WHERE c.chunk_start > t.minute - {chunk_and_callers_after}
        AND c.chunk_start <= t.minute + {callers_before}
), numbered AS MATERIALIZED (
    SELECT *, dense_rank() OVER (ORDER BY shard, minute, license_id, service_name, operation_name)
        AS group_number
    FROM taken
    WHERE minute >= $2::timestamptz
), sums AS (
    SELECT group_number, shard, minute, license_id, service_name, operation_name,
        sum(span_count)::int8 AS span_count, sum(error_count)::int8 AS error_count,
        sum(duration_count)::int8 AS duration_count, sum(duration_sum) AS duration_sum
    FROM numbered
    GROUP BY group_number, shard, minute, license_id, service_name, operation_name
), buckets AS (
    -- A flush has less than 2^31 rows.
    SELECT group_number, bucket, sum(amount::int4) AS amount
    FROM (
        SELECT group_number, unnest(duration_buckets) AS bucket, unnest(duration_counts) AS amount
        FROM numbered
    ) AS entries
    GROUP BY group_number, bucket
), histograms AS (
    SELECT group_number, array_agg(bucket) AS duration_buckets,
        array_agg(amount) AS duration_counts
    FROM (SELECT * FROM buckets ORDER BY group_number, bucket) AS sorted
    GROUP BY group_number
), added AS (
    INSERT INTO span_minutes AS m (shard, minute, license_id, service_name, operation_name,
        span_count, error_count, duration_count, duration_sum, duration_buckets, duration_counts)
    SELECT shard, minute, license_id, service_name, operation_name, span_count, error_count,
        duration_count, duration_sum,
        coalesce(duration_buckets, '{}'), coalesce(duration_counts, '{}')
    FROM sums LEFT JOIN histograms USING (group_number)
    ON CONFLICT (minute, license_id, service_name, operation_name, shard) DO UPDATE SET
        span_count = m.span_count + excluded.span_count,
        error_count = m.error_count + excluded.error_count,
        duration_count = m.duration_count + excluded.duration_count,
        duration_sum = m.duration_sum + excluded.duration_sum,
        (duration_buckets, duration_counts) = (
            SELECT buckets, counts FROM merged_histogram(m.duration_buckets, m.duration_counts,
                excluded.duration_buckets, excluded.duration_counts) AS merged
        )
)
SELECT count(*) FROM taken;

-- name: make_up
-- Appends the deltas of raw spans that were stored without, as their flushes would have.
-- $1 start timestamptz, $2 end timestamptz, exclusive
-- $3 firsts int8[], $4 lasts int8[]: of flushes, pair by pair
WITH met AS (
    SELECT date_trunc('minute', start_time, 'UTC') AS minute,
        coalesce(license_id, '') AS license_id, service_name,
        coalesce(operation_name, '') AS operation_name,
        CASE WHEN duration_ms > 0 THEN ceil(ln(duration_ms) / ln({bucket_base}))::int2
            WHEN duration_ms IS NOT NULL THEN ({zero_bucket})::int2 END AS bucket,
        count(*) AS span_count, count(*) FILTER (WHERE status = 'error') AS error_count,
        count(duration_ms) AS duration_count, coalesce(sum(duration_ms), 0) AS duration_sum
    FROM traces
    WHERE start_time >= $1::timestamptz AND start_time < $2::timestamptz
        AND EXISTS (SELECT FROM unnest($3::int8[], $4::int8[]) AS gap (first, last)
            WHERE flush_id >= gap.first AND flush_id <= gap.last)
    GROUP BY 1, 2, 3, 4, 5
)
INSERT INTO span_deltas (flushed_at, shard, minute, license_id, service_name, operation_name,
    span_count, error_count, duration_count, duration_sum, duration_buckets, duration_counts)
SELECT clock_timestamp(), 0, minute, license_id, service_name, operation_name,
    sum(span_count)::int8, sum(error_count)::int8, sum(duration_count)::int8, sum(duration_sum),
    coalesce(array_agg(bucket ORDER BY bucket) FILTER (WHERE bucket IS NOT NULL), '{}'),
    coalesce(array_agg(span_count ORDER BY bucket) FILTER (WHERE bucket IS NOT NULL), '{}')
FROM met
GROUP BY minute, license_id, service_name, operation_name;

-- name: expire_minutes
-- Forgets minutes past the roll-up's term; $2 at most.
-- $1 before timestamptz, $2 limit int8
WITH gone AS (
    DELETE FROM span_minutes WHERE ctid IN (
        SELECT ctid FROM span_minutes WHERE minute < $1::timestamptz LIMIT $2::int8)
    RETURNING 1
)
SELECT count(*) FROM gone;

-- name: compare_minutes
-- Whole hours of the roll-up and its deltas against raw spans: raw rows read, groups met on either
-- side, and those that differ. A sum may differ by 1e-9; a duration on the edge of a bucket may
-- have fallen to either side of it.
-- $1 start timestamptz, $2 end timestamptz, exclusive
-- $3 aside text[]: licences that are left out
WITH raw AS (
    SELECT date_trunc('minute', start_time, 'UTC') AS minute,
        coalesce(license_id, '') AS license_id, service_name,
        coalesce(operation_name, '') AS operation_name, bucket::int2 AS bucket,
        count(*) AS span_count, count(*) FILTER (WHERE status = 'error') AS error_count,
        count(duration_ms) AS duration_count, coalesce(sum(duration_ms), 0) AS duration_sum,
        count(*) FILTER (WHERE abs(place - round(place)) < 1e-9) AS on_edge
    FROM traces
    CROSS JOIN LATERAL (
        SELECT CASE WHEN duration_ms > 0 THEN ln(duration_ms) / ln({bucket_base}) END AS place
    ) AS l
    CROSS JOIN LATERAL (
        SELECT CASE WHEN duration_ms > 0 THEN ceil(place)
            WHEN duration_ms IS NOT NULL THEN {zero_bucket} END AS bucket
    ) AS b
    WHERE start_time >= $1::timestamptz AND start_time < $2::timestamptz
        AND coalesce(license_id, '') <> ALL ($3::text[])
    GROUP BY 1, 2, 3, 4, 5
), parts AS (
    SELECT 1 AS side, minute, license_id, service_name, operation_name, span_count, error_count,
        duration_count, duration_sum, on_edge,
        CASE WHEN bucket IS NULL THEN '{}'::int2[] ELSE ARRAY[bucket] END AS duration_buckets,
        CASE WHEN bucket IS NULL THEN '{}'::int8[] ELSE ARRAY[duration_count] END
            AS duration_counts
    FROM raw
    UNION ALL
    SELECT -1, minute, license_id, service_name, operation_name, span_count, error_count,
        duration_count, duration_sum, 0, duration_buckets, duration_counts
    FROM span_minutes
    WHERE minute >= $1::timestamptz AND minute < $2::timestamptz
        AND license_id <> ALL ($3::text[])
    UNION ALL
    SELECT -1, minute, license_id, service_name, operation_name, span_count, error_count,
        duration_count, duration_sum, 0, duration_buckets, duration_counts
    FROM span_deltas
    WHERE minute >= $1::timestamptz AND minute < $2::timestamptz
        AND license_id <> ALL ($3::text[])
), sums AS (
    SELECT minute, license_id, service_name, operation_name,
        sum(side * span_count) AS span_count, sum(side * error_count) AS error_count,
        sum(side * duration_count) AS duration_count,
        coalesce(sum(duration_sum) FILTER (WHERE side = 1), 0) AS raw_sum,
        coalesce(sum(duration_sum) FILTER (WHERE side = -1), 0) AS kept_sum,
        sum(on_edge) AS on_edge
    FROM parts
    GROUP BY minute, license_id, service_name, operation_name
), buckets AS (
    SELECT minute, license_id, service_name, operation_name, abs(sum(side * amount)) AS apart
    FROM parts, unnest(duration_buckets, duration_counts) AS u (bucket, amount)
    GROUP BY minute, license_id, service_name, operation_name, bucket
), histograms AS (
    SELECT minute, license_id, service_name, operation_name, sum(apart) AS apart
    FROM buckets
    GROUP BY minute, license_id, service_name, operation_name
)
SELECT (SELECT coalesce(sum(span_count), 0) FROM raw)::int8 AS raw_rows,
    count(*) AS groups,
    count(*) FILTER (WHERE span_count <> 0 OR error_count <> 0 OR duration_count <> 0
        OR abs(raw_sum - kept_sum) > 1e-9 * greatest(raw_sum, kept_sum)
        OR apart > 2 * on_edge) AS differences
FROM sums LEFT JOIN histograms USING (minute, license_id, service_name, operation_name);

-- name: forget_deltas
-- Deletes what is not folded of whole hours, before they are written anew.
-- $1 start timestamptz, $2 end timestamptz, exclusive, $3 aside text[]: licences that stay
DELETE FROM span_deltas
WHERE minute >= $1::timestamptz AND minute < $2::timestamptz AND license_id <> ALL ($3::text[]);

-- name: forget_minutes
-- Deletes the minutes of whole hours.
-- $1 start timestamptz, $2 end timestamptz, exclusive, $3 aside text[]: licences that stay
DELETE FROM span_minutes
WHERE minute >= $1::timestamptz AND minute < $2::timestamptz AND license_id <> ALL ($3::text[]);

-- name: fill_minutes
-- Writes the minutes of whole hours anew from raw spans.
-- $1 start timestamptz, $2 end timestamptz, exclusive, $3 aside text[]: licences left out
WITH met AS (
    SELECT date_trunc('minute', start_time, 'UTC') AS minute,
        coalesce(license_id, '') AS license_id, service_name,
        coalesce(operation_name, '') AS operation_name,
        CASE WHEN duration_ms > 0 THEN ceil(ln(duration_ms) / ln({bucket_base}))::int2
            WHEN duration_ms IS NOT NULL THEN ({zero_bucket})::int2 END AS bucket,
        count(*) AS span_count, count(*) FILTER (WHERE status = 'error') AS error_count,
        count(duration_ms) AS duration_count, coalesce(sum(duration_ms), 0) AS duration_sum
    FROM traces
    WHERE start_time >= $1::timestamptz AND start_time < $2::timestamptz
        AND coalesce(license_id, '') <> ALL ($3::text[])
    GROUP BY 1, 2, 3, 4, 5
)
INSERT INTO span_minutes (shard, minute, license_id, service_name, operation_name, span_count,
    error_count, duration_count, duration_sum, duration_buckets, duration_counts)
SELECT 0, minute, license_id, service_name, operation_name, sum(span_count)::int8,
    sum(error_count)::int8, sum(duration_count)::int8, sum(duration_sum),
    coalesce(array_agg(bucket ORDER BY bucket) FILTER (WHERE bucket IS NOT NULL), '{}'),
    coalesce(array_agg(span_count ORDER BY bucket) FILTER (WHERE bucket IS NOT NULL), '{}')
FROM met
GROUP BY minute, license_id, service_name, operation_name;
