-- name: rolled
-- Events counted by hour: what is folded and what is not, in one snapshot. A name that the fold
-- will call __other__ is called so before it is folded too. A filter is added to it.
-- $1 start timestamptz and $2 end timestamptz of the request: not used here
-- $3 start timestamptz, $4 end timestamptz, exclusive: whole hours
-- $5 most_names int8: names that an hour and licence tell apart, as in the fold
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
                AND n.hour = d.hour AND n.license_id = d.license_id) < $5::int8
            THEN event_name ELSE '__other__' END,
        nullif(license_id, ''), nullif(source, ''), event_count,
        duration_count, duration_sum, duration_buckets, duration_counts
    FROM event_deltas d
    WHERE hour >= $3::timestamptz AND hour < $4::timestamptz
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
    CASE WHEN duration_ms > 0 THEN ARRAY[ceil(ln(duration_ms) / ln(1.04::float8))::int2]
        WHEN duration_ms IS NOT NULL THEN ARRAY[(-32768)::int2]
        ELSE '{}'::int2[] END AS duration_buckets,
    CASE WHEN duration_ms IS NOT NULL THEN ARRAY[1::int8] ELSE '{}'::int8[] END AS duration_counts
FROM telemetry_events
WHERE (event_timestamp >= $1::timestamptz AND event_timestamp < $3::timestamptz
    OR event_timestamp >= $4::timestamptz AND event_timestamp < $2::timestamptz)

-- name: names_are_capped
-- Whether some names of these hours were counted as __other__.
-- $1 start timestamptz, $2 end timestamptz, exclusive
SELECT EXISTS (SELECT FROM event_hours
    WHERE hour >= $1::timestamptz AND hour < $2::timestamptz AND event_name = '__other__');
