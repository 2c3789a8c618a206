-- name: rolled
-- Events counted by hour: what is folded and what is not, in one snapshot. A name that the fold
-- will call __other__ is called so before it is folded too. A filter is added to it.
-- $1 start timestamptz and $2 end timestamptz of the request: not used here
-- $3 start timestamptz, $4 end timestamptz, exclusive: whole hours
-- $5 flushed_before timestamptz: after any flush; leaves out partitions that are made ahead
-- $6 most_names int8: names that an hour and licence tell apart, as in the fold
SELECT hour AS event_timestamp, event_type, event_category, event_name, license_id, source,
    NULL::text AS user_id, event_count, duration_count, duration_sum, duration_buckets,
    duration_counts
FROM (
    SELECT hour, event_type, nullif(event_category, '') AS event_category, event_name,
        nullif(license_id, '') AS license_id, nullif(source, '') AS source, event_count,
        duration_count, duration_sum, duration_buckets, duration_counts
    FROM event_hours
    WHERE hour >= $3::timestamptz AND hour < $4::timestamptz
    UNION ALL
    SELECT hour, event_type, nullif(event_category, ''),
        CASE WHEN EXISTS (SELECT FROM event_hour_names n WHERE n.shard = d.shard
                AND n.hour = d.hour AND n.license_id = d.license_id
                AND n.event_name = d.event_name)
            OR (SELECT count(*) FROM event_hour_names n WHERE n.shard = d.shard
                AND n.hour = d.hour AND n.license_id = d.license_id) < $6::int8
            THEN event_name ELSE '__other__' END,
        nullif(license_id, ''), nullif(source, ''), event_count,
        duration_count, duration_sum, duration_buckets, duration_counts
    FROM event_deltas d
    WHERE hour >= $3::timestamptz AND hour < $4::timestamptz
        AND flushed_at < $5::timestamptz
) AS hours
WHERE $1::timestamptz < $2::timestamptz

-- name: rolled_by_type
-- The same by type alone, of which there are fewer; licences are counted apart.
-- $1 start timestamptz and $2 end timestamptz of the request: not used here
-- $3 start timestamptz, $4 end timestamptz, exclusive: whole hours
-- $5 flushed_before timestamptz: after any flush; leaves out partitions that are made ahead
SELECT hour AS event_timestamp, event_type, NULL::text AS event_category,
    NULL::text AS event_name, NULL::text AS license_id, NULL::text AS source,
    NULL::text AS user_id, event_count, duration_count, duration_sum, duration_buckets,
    duration_counts
FROM (
    SELECT hour, event_type, event_count, duration_count, duration_sum, duration_buckets,
        duration_counts
    FROM event_type_hours
    WHERE hour >= $3::timestamptz AND hour < $4::timestamptz
    UNION ALL
    SELECT hour, event_type, event_count, duration_count, duration_sum, duration_buckets,
        duration_counts
    FROM event_deltas
    WHERE hour >= $3::timestamptz AND hour < $4::timestamptz
        AND flushed_at < $5::timestamptz
) AS hours
WHERE $1::timestamptz < $2::timestamptz

-- name: parts_by_type
-- The same with the bucket of the 95th percentile that the roll-up keeps; NULL: not folded yet.
-- $1 start timestamptz and $2 end timestamptz of the request: not used here
-- $3 start timestamptz, $4 end timestamptz, exclusive: whole hours
-- $5 flushed_before timestamptz: after any flush; leaves out partitions that are made ahead
SELECT hour AS event_timestamp, event_type, event_count, duration_count, duration_sum,
    duration_buckets, duration_counts, p95_bucket
FROM (
    SELECT hour, event_type, event_count, duration_count, duration_sum, duration_buckets,
        duration_counts, p95_bucket
    FROM event_type_hours
    WHERE hour >= $3::timestamptz AND hour < $4::timestamptz
    UNION ALL
    SELECT hour, event_type, event_count, duration_count, duration_sum, duration_buckets,
        duration_counts, NULL
    FROM event_deltas
    WHERE hour >= $3::timestamptz AND hour < $4::timestamptz
        AND flushed_at < $5::timestamptz
) AS hours
WHERE $1::timestamptz < $2::timestamptz

-- name: license_counts
-- How many licences each type has in each whole hour, by the key of the roll-up, which is unique,
-- and what is not folded yet.
-- $1 start timestamptz and $2 end timestamptz of the request: not used here
-- $3 start timestamptz, $4 end timestamptz, exclusive: whole hours
-- $5 flushed_before timestamptz: after any flush; leaves out partitions that are made ahead
SELECT event_timestamp, event_type, unique_licenses
FROM (
    SELECT hour AS event_timestamp, event_type,
        count(*) FILTER (WHERE license_id <> '') AS unique_licenses
    FROM (
        SELECT DISTINCT hour, license_id, event_type FROM event_hours
        WHERE shard = 0 AND hour >= $3::timestamptz AND hour < $4::timestamptz
        UNION ALL
        SELECT DISTINCT hour, license_id, event_type FROM event_deltas d
        WHERE hour >= $3::timestamptz AND hour < $4::timestamptz
            AND flushed_at < $5::timestamptz
            AND NOT EXISTS (SELECT FROM event_hours h WHERE h.shard = 0 AND h.hour = d.hour
                AND h.license_id = d.license_id AND h.event_type = d.event_type)
    ) AS met
    GROUP BY hour, event_type
) AS hours
WHERE $1::timestamptz < $2::timestamptz

-- name: rolled_licenses
-- The licences of each type in whole hours, by the key of the roll-up alone.
-- $1 start timestamptz and $2 end timestamptz of the request: not used here
-- $3 start timestamptz, $4 end timestamptz, exclusive: whole hours
-- $5 flushed_before timestamptz: after any flush; leaves out partitions that are made ahead
SELECT event_timestamp, event_type, nullif(license_id, '') AS license_id
FROM (
    SELECT DISTINCT hour AS event_timestamp, license_id, event_type FROM event_hours
    WHERE shard = 0 AND hour >= $3::timestamptz AND hour < $4::timestamptz
    UNION ALL
    SELECT DISTINCT hour, license_id, event_type FROM event_deltas
    WHERE hour >= $3::timestamptz AND hour < $4::timestamptz
        AND flushed_at < $5::timestamptz
) AS hours
WHERE $1::timestamptz < $2::timestamptz

-- name: raw
-- Events of the request that do not lie in its whole hours, each as a count of one; a filter is
-- added to it.
-- $1 start timestamptz, $2 end timestamptz, exclusive: of the request
-- $3 start timestamptz, $4 end timestamptz, exclusive: whole hours; equal: none
SELECT event_timestamp, event_type, event_category, event_name, license_id, source, user_id,
    1::int8 AS event_count, (duration_ms IS NOT NULL)::int4::int8 AS duration_count,
    coalesce(duration_ms, 0) AS duration_sum,
    CASE WHEN duration_ms > 0 THEN ARRAY[ceil(ln(duration_ms) / ln({bucket_base}))::int2]
        WHEN duration_ms IS NOT NULL THEN ARRAY[({zero_bucket})::int2]
        ELSE '{}'::int2[] END AS duration_buckets,
    CASE WHEN duration_ms IS NOT NULL THEN ARRAY[1::int8] ELSE '{}'::int8[] END AS duration_counts
FROM telemetry_events
WHERE (event_timestamp >= $1::timestamptz AND event_timestamp < $3::timestamptz
    OR event_timestamp >= $4::timestamptz AND event_timestamp < $2::timestamptz)

-- name: left_out
-- Events that the roll-up lacks, likewise; the whole hours that have gaps, which ones they are and a
-- filter are added to it.
-- $1 start timestamptz, $2 end timestamptz, exclusive: of the request
SELECT event_timestamp, event_type, event_category, event_name, license_id, source, user_id,
    1::int8 AS event_count, (duration_ms IS NOT NULL)::int4::int8 AS duration_count,
    coalesce(duration_ms, 0) AS duration_sum,
    CASE WHEN duration_ms > 0 THEN ARRAY[ceil(ln(duration_ms) / ln({bucket_base}))::int2]
        WHEN duration_ms IS NOT NULL THEN ARRAY[({zero_bucket})::int2]
        ELSE '{}'::int2[] END AS duration_buckets,
    CASE WHEN duration_ms IS NOT NULL THEN ARRAY[1::int8] ELSE '{}'::int8[] END AS duration_counts
FROM telemetry_events
WHERE event_timestamp >= $1::timestamptz AND event_timestamp < $2::timestamptz

-- name: left_out_users
-- The bits of users that the sketches lack, likewise.
-- $1 start timestamptz, $2 end timestamptz, exclusive: of the request
SELECT event_timestamp, event_type, event_category, license_id, (place / 64)::int2 AS word,
    1::int8 << (place % 64) AS bits
FROM telemetry_events CROSS JOIN LATERAL user_place(user_id) AS place
WHERE user_id IS NOT NULL
    AND event_timestamp >= $1::timestamptz AND event_timestamp < $2::timestamptz

-- name: clock
-- The time, by the database's clock.
SELECT now();

-- name: names_are_capped
-- Whether some names of these hours were counted as __other__.
-- $1 start timestamptz, $2 end timestamptz, exclusive
SELECT EXISTS (SELECT FROM event_hours
    WHERE hour >= $1::timestamptz AND hour < $2::timestamptz AND event_name = '__other__');

-- name: users
-- Words of sketches of users by type, category and licence, folded and not, in one snapshot. A
-- filter is added to it.
-- $1 start timestamptz and $2 end timestamptz of the request: not used here
-- $3 start timestamptz, $4 end timestamptz, exclusive: whole hours
-- $5 flushed_before timestamptz: after any flush; leaves out partitions that are made ahead
SELECT hour AS event_timestamp, event_type, event_category, license_id, word, bits
FROM (
    SELECT hour, event_type, nullif(event_category, '') AS event_category,
        nullif(license_id, '') AS license_id, user_words, user_bits
    FROM event_user_hours
    WHERE hour >= $3::timestamptz AND hour < $4::timestamptz
    UNION ALL
    SELECT hour, event_type, nullif(event_category, ''), nullif(license_id, ''), user_words,
        user_bits
    FROM event_user_deltas
    WHERE hour >= $3::timestamptz AND hour < $4::timestamptz
        AND flushed_at < $5::timestamptz
) AS hours, unnest(user_words, user_bits) AS u (word, bits)
WHERE $1::timestamptz < $2::timestamptz

-- name: users_by_type
-- The same by type alone, which are fewer.
-- $1 start timestamptz and $2 end timestamptz of the request: not used here
-- $3 start timestamptz, $4 end timestamptz, exclusive: whole hours
-- $5 flushed_before timestamptz: after any flush; leaves out partitions that are made ahead
SELECT hour AS event_timestamp, event_type, NULL::text AS event_category,
    NULL::text AS license_id, word, bits
FROM (
    SELECT hour, event_type, user_words, user_bits
    FROM event_type_user_hours
    WHERE hour >= $3::timestamptz AND hour < $4::timestamptz
    UNION ALL
    SELECT hour, event_type, user_words, user_bits
    FROM event_user_deltas
    WHERE hour >= $3::timestamptz AND hour < $4::timestamptz
        AND flushed_at < $5::timestamptz
) AS hours, unnest(user_words, user_bits) AS u (word, bits)
WHERE $1::timestamptz < $2::timestamptz

-- name: sketches_by_type
-- Sketches of users by type alone, folded and not, with the bits set in each component where the
-- roll-up keeps that. A filter is added to it.
-- $1 start timestamptz and $2 end timestamptz of the request: not used here
-- $3 start timestamptz, $4 end timestamptz, exclusive: whole hours
-- $5 flushed_before timestamptz: after any flush; leaves out partitions that are made ahead
SELECT event_timestamp, event_type, user_words, user_bits, set_bits
FROM (
    SELECT hour AS event_timestamp, event_type, user_words, user_bits, set_bits
    FROM event_type_user_hours
    WHERE hour >= $3::timestamptz AND hour < $4::timestamptz
    UNION ALL
    SELECT hour, event_type, user_words, user_bits, NULL
    FROM event_user_deltas
    WHERE hour >= $3::timestamptz AND hour < $4::timestamptz
        AND flushed_at < $5::timestamptz
) AS hours
WHERE $1::timestamptz < $2::timestamptz

-- name: raw_users
-- The bits of users of the request's events that do not lie in its whole hours. A filter is added
-- to it.
-- $1 start timestamptz, $2 end timestamptz, exclusive: of the request
-- $3 start timestamptz, $4 end timestamptz, exclusive: whole hours; equal: none
SELECT event_timestamp, event_type, event_category, license_id, (place / 64)::int2 AS word,
    1::int8 << (place % 64) AS bits
FROM telemetry_events CROSS JOIN LATERAL user_place(user_id) AS place
WHERE user_id IS NOT NULL
    AND (event_timestamp >= $1::timestamptz AND event_timestamp < $3::timestamptz
    OR event_timestamp >= $4::timestamptz AND event_timestamp < $2::timestamptz)
