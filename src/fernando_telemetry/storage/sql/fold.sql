-- name: hold_fold
-- Lets one fold run at a time; a statement of its own, so that the next one sees what it waited for.
SELECT pg_advisory_xact_lock(1179603533, 9);

-- name: fold_events
-- Moves deltas of events into the roll-up and tells how many. Names beyond those an hour and
-- licence tell apart become __other__ here and nowhere else.
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
), sums AS (
    SELECT shard, hour, license_id, event_type, event_category, event_name, source,
        sum(event_count)::int8 AS event_count, sum(duration_count)::int8 AS duration_count,
        sum(duration_sum) AS duration_sum
    FROM capped
    GROUP BY shard, hour, license_id, event_type, event_category, event_name, source
), buckets AS (
    SELECT shard, hour, license_id, event_type, event_category, event_name, source,
        bucket, sum(amount)::int8 AS amount
    FROM capped, unnest(duration_buckets, duration_counts) AS u (bucket, amount)
    GROUP BY shard, hour, license_id, event_type, event_category, event_name, source, bucket
), histograms AS (
    SELECT shard, hour, license_id, event_type, event_category, event_name, source,
        array_agg(bucket ORDER BY bucket) AS duration_buckets,
        array_agg(amount ORDER BY bucket) AS duration_counts
    FROM buckets
    GROUP BY shard, hour, license_id, event_type, event_category, event_name, source
), added AS (
    INSERT INTO event_hours AS h (shard, hour, license_id, event_type, event_category, event_name,
        source, event_count, duration_count, duration_sum, duration_buckets, duration_counts)
    SELECT shard, hour, license_id, event_type, event_category, event_name, source,
        event_count, duration_count, duration_sum,
        coalesce(duration_buckets, '{}'), coalesce(duration_counts, '{}')
    FROM sums LEFT JOIN histograms
        USING (shard, hour, license_id, event_type, event_category, event_name, source)
    ON CONFLICT (shard, hour, license_id, event_type, event_category, event_name, source)
    DO UPDATE SET
        event_count = h.event_count + excluded.event_count,
        duration_count = h.duration_count + excluded.duration_count,
        duration_sum = h.duration_sum + excluded.duration_sum,
        (duration_buckets, duration_counts) = (
            SELECT coalesce(array_agg(bucket ORDER BY bucket), '{}'),
                coalesce(array_agg(amount ORDER BY bucket), '{}')
            FROM (
                SELECT bucket, sum(amount)::int8 AS amount
                FROM (
                    SELECT * FROM unnest(h.duration_buckets, h.duration_counts)
                    UNION ALL
                    SELECT * FROM unnest(excluded.duration_buckets, excluded.duration_counts)
                ) AS both_sides (bucket, amount)
                GROUP BY bucket
            ) AS merged
        )
)
SELECT count(*) FROM taken;

-- name: expire_event_hours
-- Forgets hours past the roll-up's term; $2 at most.
-- $1 before timestamptz, $2 limit int8
WITH gone AS (
    DELETE FROM event_hours WHERE ctid IN (
        SELECT ctid FROM event_hours WHERE hour < $1::timestamptz LIMIT $2::int8)
    RETURNING 1
)
SELECT count(*) FROM gone;

-- name: expire_event_hour_names
-- Forgets their names.
-- $1 before timestamptz, $2 limit int8
WITH gone AS (
    DELETE FROM event_hour_names WHERE ctid IN (
        SELECT ctid FROM event_hour_names WHERE hour < $1::timestamptz LIMIT $2::int8)
    RETURNING 1
)
SELECT count(*) FROM gone;

-- name: delta_partitions
-- Partitions of deltas: bounds, and whether a DETACH was broken off.
-- $1 table text
SELECT c.relname::text AS name, pg_get_expr(c.relpartbound, c.oid) AS bounds,
    i.inhdetachpending AS pending
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = to_regclass($1::text) AND c.relpartbound IS NOT NULL;
