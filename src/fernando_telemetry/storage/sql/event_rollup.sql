-- name: fold
-- Moves deltas of events into both roll-ups, by all keys and by type alone, and tells how many.
-- Names beyond those an hour and licence tell apart become __other__ here and nowhere else. Groups
-- are numbered first: entries of histograms are then grouped by two numbers, not by seven keys.
-- $1 most_deltas int8
-- $2 most_names int8
-- $3 oldest_hour timestamptz: older ones are past the roll-up's term
WITH taken AS (
    DELETE FROM event_deltas WHERE (tableoid, ctid) IN (
        SELECT tableoid, ctid FROM event_deltas LIMIT $1::int8)
    RETURNING *
), kept AS (
    SELECT * FROM taken WHERE hour >= $3::timestamptz
), unknown AS (
    SELECT DISTINCT shard, hour, license_id, event_name FROM kept
    EXCEPT SELECT shard, hour, license_id, event_name FROM event_hour_names
        WHERE hour IN (SELECT hour FROM kept)
), counted AS (
    SELECT shard, hour, license_id, count(*) AS names FROM event_hour_names
    WHERE (shard, hour, license_id) IN (SELECT shard, hour, license_id FROM unknown)
    GROUP BY shard, hour, license_id
), placed AS (
    SELECT u.*, coalesce(c.names, 0) + row_number() OVER (
        PARTITION BY u.shard, u.hour, u.license_id ORDER BY u.event_name) AS place
    FROM unknown u LEFT JOIN counted c USING (shard, hour, license_id)
), let_in AS (
    INSERT INTO event_hour_names (shard, hour, license_id, event_name)
    SELECT shard, hour, license_id, event_name FROM placed WHERE place <= $2::int8
), capped AS (
    SELECT k.shard, k.hour, k.license_id, k.event_type, k.event_category,
        CASE WHEN p.place > $2::int8 THEN '__other__' ELSE k.event_name END AS event_name,
        k.source, k.event_count, k.duration_count, k.duration_sum,
        k.duration_buckets, k.duration_counts
    FROM kept k LEFT JOIN placed p USING (shard, hour, license_id, event_name)
), numbered AS MATERIALIZED (
    SELECT *, dense_rank() OVER (ORDER BY shard, hour, license_id, event_type, event_category,
        event_name, source) AS group_number
    FROM capped
), sums AS (
    SELECT group_number, shard, hour, license_id, event_type, event_category, event_name, source,
        sum(event_count)::int8 AS event_count, sum(duration_count)::int8 AS duration_count,
        sum(duration_sum) AS duration_sum
    FROM numbered
    GROUP BY group_number, shard, hour, license_id, event_type, event_category, event_name, source
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
    INSERT INTO event_hours AS h (shard, hour, license_id, event_type, event_category, event_name,
        source, event_count, duration_count, duration_sum, duration_buckets, duration_counts)
    SELECT shard, hour, license_id, event_type, event_category, event_name, source,
        event_count, duration_count, duration_sum,
        coalesce(duration_buckets, '{}'), coalesce(duration_counts, '{}')
    FROM sums LEFT JOIN histograms USING (group_number)
    ON CONFLICT (shard, hour, license_id, event_type, event_category, event_name, source)
    DO UPDATE SET
        event_count = h.event_count + excluded.event_count,
        duration_count = h.duration_count + excluded.duration_count,
        duration_sum = h.duration_sum + excluded.duration_sum,
        (duration_buckets, duration_counts) = (
            SELECT buckets, counts FROM merged_histogram(h.duration_buckets, h.duration_counts,
                excluded.duration_buckets, excluded.duration_counts) AS merged
        )
), types AS (
    SELECT *, dense_rank() OVER (ORDER BY shard, hour, event_type) AS type_number FROM sums
), type_sums AS (
    SELECT type_number, shard, hour, event_type, sum(event_count)::int8 AS event_count,
        sum(duration_count)::int8 AS duration_count, sum(duration_sum) AS duration_sum
    FROM types
    GROUP BY type_number, shard, hour, event_type
), type_buckets AS (
    SELECT type_number, bucket, sum(amount)::int8 AS amount
    FROM buckets JOIN types USING (group_number)
    GROUP BY type_number, bucket
), type_histograms AS (
    SELECT type_number, array_agg(bucket) AS duration_buckets,
        array_agg(amount) AS duration_counts
    FROM (SELECT * FROM type_buckets ORDER BY type_number, bucket) AS sorted
    GROUP BY type_number
), added_types AS (
    INSERT INTO event_type_hours AS h (shard, hour, event_type, event_count, duration_count,
        duration_sum, duration_buckets, duration_counts)
    SELECT shard, hour, event_type, event_count, duration_count, duration_sum,
        coalesce(duration_buckets, '{}'), coalesce(duration_counts, '{}')
    FROM type_sums LEFT JOIN type_histograms USING (type_number)
    ON CONFLICT (shard, hour, event_type)
    DO UPDATE SET
        event_count = h.event_count + excluded.event_count,
        duration_count = h.duration_count + excluded.duration_count,
        duration_sum = h.duration_sum + excluded.duration_sum,
        (duration_buckets, duration_counts) = (
            SELECT buckets, counts FROM merged_histogram(h.duration_buckets, h.duration_counts,
                excluded.duration_buckets, excluded.duration_counts) AS merged
        )
)
SELECT count(*) FROM taken;

-- name: make_up
-- Appends the deltas of raw events that were stored without, as their flushes would have.
-- $1 start timestamptz, $2 end timestamptz, exclusive
-- $3 firsts int8[], $4 lasts int8[]: of flushes, pair by pair
WITH met AS (
    SELECT date_trunc('hour', event_timestamp, 'UTC') AS hour, event_type,
        coalesce(event_category, '') AS event_category, event_name,
        coalesce(license_id, '') AS license_id, coalesce(source, '') AS source,
        CASE WHEN duration_ms > 0 THEN ceil(ln(duration_ms) / ln({bucket_base}))::int2
            WHEN duration_ms IS NOT NULL THEN ({zero_bucket})::int2 END AS bucket,
        count(*) AS event_count, count(duration_ms) AS duration_count,
        coalesce(sum(duration_ms), 0) AS duration_sum
    FROM telemetry_events
    WHERE event_timestamp >= $1::timestamptz AND event_timestamp < $2::timestamptz
        AND EXISTS (SELECT FROM unnest($3::int8[], $4::int8[]) AS gap (first, last)
            WHERE flush_id >= gap.first AND flush_id <= gap.last)
    GROUP BY 1, 2, 3, 4, 5, 6, 7
)
INSERT INTO event_deltas (flushed_at, shard, hour, event_type, event_category, event_name,
    license_id, source, event_count, duration_count, duration_sum, duration_buckets,
    duration_counts)
SELECT clock_timestamp(), 0, hour, event_type, event_category, event_name, license_id, source,
    sum(event_count)::int8, sum(duration_count)::int8, sum(duration_sum),
    coalesce(array_agg(bucket ORDER BY bucket) FILTER (WHERE bucket IS NOT NULL), '{}'),
    coalesce(array_agg(event_count ORDER BY bucket) FILTER (WHERE bucket IS NOT NULL), '{}')
FROM met
GROUP BY hour, event_type, event_category, event_name, license_id, source;

-- name: expire_type_hours
-- Forgets those by type alone.
-- $1 before timestamptz, $2 limit int8
WITH gone AS (
    DELETE FROM event_type_hours WHERE ctid IN (
        SELECT ctid FROM event_type_hours WHERE hour < $1::timestamptz LIMIT $2::int8)
    RETURNING 1
)
SELECT count(*) FROM gone;

-- name: expire_hours
-- Forgets hours past the roll-up's term; $2 at most.
-- $1 before timestamptz, $2 limit int8
WITH gone AS (
    DELETE FROM event_hours WHERE ctid IN (
        SELECT ctid FROM event_hours WHERE hour < $1::timestamptz LIMIT $2::int8)
    RETURNING 1
)
SELECT count(*) FROM gone;

-- name: expire_names
-- Forgets their names.
-- $1 before timestamptz, $2 limit int8
WITH gone AS (
    DELETE FROM event_hour_names WHERE ctid IN (
        SELECT ctid FROM event_hour_names WHERE hour < $1::timestamptz LIMIT $2::int8)
    RETURNING 1
)
SELECT count(*) FROM gone;

-- name: compare_hours
-- Whole hours of the roll-up and its deltas against raw events: raw rows read, groups met on
-- either side, and those that differ. Names are capped on both sides as readers cap them. A sum
-- may differ by 1e-9; a duration on the edge of a bucket may have fallen to either side of it.
-- $1 start timestamptz, $2 end timestamptz, exclusive
-- $3 aside text[]: licences that are left out
-- $4 most_names int8: names that an hour and licence tell apart, as in the fold
WITH raw AS (
    SELECT date_trunc('hour', event_timestamp, 'UTC') AS hour,
        coalesce(license_id, '') AS license_id, event_type,
        coalesce(event_category, '') AS event_category, event_name, coalesce(source, '') AS source,
        bucket::int2 AS bucket, count(*) AS event_count, count(duration_ms) AS duration_count,
        coalesce(sum(duration_ms), 0) AS duration_sum,
        count(*) FILTER (WHERE abs(place - round(place)) < 1e-9) AS on_edge
    FROM telemetry_events
    CROSS JOIN LATERAL (
        SELECT CASE WHEN duration_ms > 0 THEN ln(duration_ms) / ln({bucket_base}) END AS place
    ) AS l
    CROSS JOIN LATERAL (
        SELECT CASE WHEN duration_ms > 0 THEN ceil(place)
            WHEN duration_ms IS NOT NULL THEN {zero_bucket} END AS bucket
    ) AS b
    WHERE event_timestamp >= $1::timestamptz AND event_timestamp < $2::timestamptz
        AND coalesce(license_id, '') <> ALL ($3::text[])
    GROUP BY 1, 2, 3, 4, 5, 6, 7
), names AS MATERIALIZED (
    SELECT hour, license_id, event_name FROM event_hour_names
    WHERE hour >= $1::timestamptz AND hour < $2::timestamptz
), capped AS (
    SELECT hour, license_id FROM names GROUP BY hour, license_id HAVING count(*) >= $4::int8
), parts AS (
    SELECT 1 AS side, hour, license_id, event_type, event_category, event_name, source,
        event_count, duration_count, duration_sum, on_edge,
        CASE WHEN bucket IS NULL THEN '{}'::int2[] ELSE ARRAY[bucket] END AS duration_buckets,
        CASE WHEN bucket IS NULL THEN '{}'::int8[] ELSE ARRAY[duration_count] END
            AS duration_counts
    FROM raw
    UNION ALL
    SELECT -1, hour, license_id, event_type, event_category, event_name, source,
        event_count, duration_count, duration_sum, 0, duration_buckets, duration_counts
    FROM event_hours
    WHERE hour >= $1::timestamptz AND hour < $2::timestamptz AND license_id <> ALL ($3::text[])
    UNION ALL
    SELECT -1, hour, license_id, event_type, event_category, event_name, source,
        event_count, duration_count, duration_sum, 0, duration_buckets, duration_counts
    FROM event_deltas
    WHERE hour >= $1::timestamptz AND hour < $2::timestamptz AND license_id <> ALL ($3::text[])
), named AS (
    SELECT p.side, p.hour, p.license_id, p.event_type, p.event_category, p.source,
        CASE WHEN c.hour IS NOT NULL AND n.hour IS NULL THEN '__other__' ELSE p.event_name END
            AS event_name,
        p.event_count, p.duration_count, p.duration_sum, p.on_edge,
        p.duration_buckets, p.duration_counts
    FROM parts p LEFT JOIN capped c USING (hour, license_id)
        LEFT JOIN names n USING (hour, license_id, event_name)
), sums AS (
    SELECT hour, license_id, event_type, event_category, event_name, source,
        sum(side * event_count) AS event_count, sum(side * duration_count) AS duration_count,
        coalesce(sum(duration_sum) FILTER (WHERE side = 1), 0) AS raw_sum,
        coalesce(sum(duration_sum) FILTER (WHERE side = -1), 0) AS kept_sum,
        sum(on_edge) AS on_edge
    FROM named
    GROUP BY hour, license_id, event_type, event_category, event_name, source
), buckets AS (
    SELECT hour, license_id, event_type, event_category, event_name, source,
        abs(sum(side * amount)) AS apart
    FROM named, unnest(duration_buckets, duration_counts) AS u (bucket, amount)
    GROUP BY hour, license_id, event_type, event_category, event_name, source, bucket
), histograms AS (
    SELECT hour, license_id, event_type, event_category, event_name, source, sum(apart) AS apart
    FROM buckets
    GROUP BY hour, license_id, event_type, event_category, event_name, source
)
SELECT (SELECT coalesce(sum(event_count), 0) FROM raw)::int8 AS raw_rows,
    count(*) AS groups,
    count(*) FILTER (WHERE event_count <> 0 OR duration_count <> 0
        OR abs(raw_sum - kept_sum) > 1e-9 * greatest(raw_sum, kept_sum)
        OR apart > 2 * on_edge) AS differences
FROM sums LEFT JOIN histograms
    USING (hour, license_id, event_type, event_category, event_name, source);

-- name: compare_type_hours
-- Whole hours by type alone against those by all keys, which compare_hours proves. Deltas go into
-- both alike.
-- $1 start timestamptz, $2 end timestamptz, exclusive
-- $3 aside text[]: not used, both sides have all licences
WITH parts AS (
    SELECT 1 AS side, hour, event_type, event_count, duration_count, duration_sum,
        duration_buckets, duration_counts
    FROM event_type_hours
    WHERE hour >= $1::timestamptz AND hour < $2::timestamptz
    UNION ALL
    SELECT -1, hour, event_type, event_count, duration_count, duration_sum,
        duration_buckets, duration_counts
    FROM event_hours
    WHERE hour >= $1::timestamptz AND hour < $2::timestamptz AND $3::text[] IS NOT NULL
), sums AS (
    SELECT hour, event_type, sum(side * event_count) AS event_count,
        sum(side * duration_count) AS duration_count,
        abs(sum(side * duration_sum)) > 1e-9 * sum(duration_sum) AS is_apart
    FROM parts
    GROUP BY hour, event_type
), buckets AS (
    SELECT hour, event_type, sum(side * amount) AS amount
    FROM parts, unnest(duration_buckets, duration_counts) AS u (bucket, amount)
    GROUP BY hour, event_type, bucket
), histograms AS (
    SELECT hour, event_type, bool_or(amount <> 0) AS differs FROM buckets GROUP BY hour, event_type
)
SELECT 0::int8 AS raw_rows, count(*) AS groups,
    count(*) FILTER (WHERE event_count <> 0 OR duration_count <> 0 OR is_apart
        OR coalesce(differs, false)) AS differences
FROM sums LEFT JOIN histograms USING (hour, event_type);

-- name: forget_deltas
-- Deletes what is not folded of whole hours, before they are written anew.
-- $1 start timestamptz, $2 end timestamptz, exclusive, $3 aside text[]: licences that stay
DELETE FROM event_deltas
WHERE hour >= $1::timestamptz AND hour < $2::timestamptz AND license_id <> ALL ($3::text[]);

-- name: forget_hours
-- Deletes whole hours.
-- $1 start timestamptz, $2 end timestamptz, exclusive, $3 aside text[]: licences that stay
DELETE FROM event_hours
WHERE hour >= $1::timestamptz AND hour < $2::timestamptz AND license_id <> ALL ($3::text[]);

-- name: forget_names
-- Deletes their names.
-- $1 start timestamptz, $2 end timestamptz, exclusive, $3 aside text[]: licences that stay
DELETE FROM event_hour_names
WHERE hour >= $1::timestamptz AND hour < $2::timestamptz AND license_id <> ALL ($3::text[]);

-- name: forget_type_hours
-- Deletes those by type alone, of all licences: they are put together anew.
-- $1 start timestamptz, $2 end timestamptz, exclusive, $3 aside text[]: not used
DELETE FROM event_type_hours
WHERE hour >= $1::timestamptz AND hour < $2::timestamptz AND $3::text[] IS NOT NULL;

-- name: fill_names
-- Chooses the names that whole hours tell apart.
-- $1 start timestamptz, $2 end timestamptz, exclusive, $3 aside text[]: licences left out
-- $4 most_names int8
INSERT INTO event_hour_names (shard, hour, license_id, event_name)
SELECT 0, hour, license_id, event_name
FROM (
    SELECT hour, license_id, event_name,
        row_number() OVER (PARTITION BY hour, license_id ORDER BY event_name) AS place
    FROM (
        SELECT DISTINCT date_trunc('hour', event_timestamp, 'UTC') AS hour,
            coalesce(license_id, '') AS license_id, event_name
        FROM telemetry_events
        WHERE event_timestamp >= $1::timestamptz AND event_timestamp < $2::timestamptz
            AND coalesce(license_id, '') <> ALL ($3::text[])
    ) AS met
) AS placed
WHERE place <= $4::int8;

-- name: fill_hours
-- Writes whole hours anew from raw events.
-- $1 start timestamptz, $2 end timestamptz, exclusive, $3 aside text[]: licences left out
WITH met AS (
    SELECT date_trunc('hour', e.event_timestamp, 'UTC') AS hour, e.event_type,
        coalesce(e.event_category, '') AS event_category,
        coalesce(n.event_name, '__other__') AS event_name,
        coalesce(e.license_id, '') AS license_id, coalesce(e.source, '') AS source,
        CASE WHEN e.duration_ms > 0 THEN ceil(ln(e.duration_ms) / ln({bucket_base}))::int2
            WHEN e.duration_ms IS NOT NULL THEN ({zero_bucket})::int2 END AS bucket,
        count(*) AS event_count, count(e.duration_ms) AS duration_count,
        coalesce(sum(e.duration_ms), 0) AS duration_sum
    FROM telemetry_events e
    LEFT JOIN event_hour_names n ON n.shard = 0
        AND n.hour = date_trunc('hour', e.event_timestamp, 'UTC')
        AND n.license_id = coalesce(e.license_id, '') AND n.event_name = e.event_name
    WHERE e.event_timestamp >= $1::timestamptz AND e.event_timestamp < $2::timestamptz
        AND coalesce(e.license_id, '') <> ALL ($3::text[])
    GROUP BY 1, 2, 3, 4, 5, 6, 7
)
INSERT INTO event_hours (shard, hour, license_id, event_type, event_category, event_name, source,
    event_count, duration_count, duration_sum, duration_buckets, duration_counts)
SELECT 0, hour, license_id, event_type, event_category, event_name, source,
    sum(event_count)::int8, sum(duration_count)::int8, sum(duration_sum),
    coalesce(array_agg(bucket ORDER BY bucket) FILTER (WHERE bucket IS NOT NULL), '{}'),
    coalesce(array_agg(event_count ORDER BY bucket) FILTER (WHERE bucket IS NOT NULL), '{}')
FROM met
GROUP BY 2, 3, 4, 5, 6, 7;

-- name: fill_type_hours
-- Puts whole hours by type alone together from those by all keys.
-- $1 start timestamptz, $2 end timestamptz, exclusive, $3 aside text[]: not used
WITH hours AS (
    SELECT * FROM event_hours
    WHERE hour >= $1::timestamptz AND hour < $2::timestamptz AND $3::text[] IS NOT NULL
), sums AS (
    SELECT hour, event_type, sum(event_count)::int8 AS event_count,
        sum(duration_count)::int8 AS duration_count, sum(duration_sum) AS duration_sum
    FROM hours
    GROUP BY hour, event_type
), buckets AS (
    SELECT hour, event_type, bucket, sum(amount)::int8 AS amount
    FROM hours, unnest(duration_buckets, duration_counts) AS u (bucket, amount)
    GROUP BY hour, event_type, bucket
), histograms AS (
    SELECT hour, event_type, array_agg(bucket ORDER BY bucket) AS duration_buckets,
        array_agg(amount ORDER BY bucket) AS duration_counts
    FROM buckets
    GROUP BY hour, event_type
)
INSERT INTO event_type_hours (shard, hour, event_type, event_count, duration_count, duration_sum,
    duration_buckets, duration_counts)
SELECT 0, hour, event_type, event_count, duration_count, duration_sum,
    coalesce(duration_buckets, '{}'), coalesce(duration_counts, '{}')
FROM sums LEFT JOIN histograms USING (hour, event_type);
