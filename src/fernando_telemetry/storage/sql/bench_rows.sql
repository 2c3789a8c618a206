-- name: events
-- Made-up events in the columns' order: skewed users, licences and names; sessions and traces
-- that lie beside each other in time; every value follows from the row's number. A licence has its
-- names, so an hour falls into some seven hundred groups of the roll-up, however many rows it has.
-- $1 first int8, $2 last int8: numbers of the rows
-- $3 start timestamptz, $4 seconds float8: the time between two rows
SELECT (lpad(to_hex((extract(epoch FROM time) * 1000)::bigint), 12, '0') || '7'
        || lpad(to_hex(n), 11, '0') || lpad(to_hex(h1 & 281474976710655), 8, '0'))::uuid
        AS event_id,
    time - u2 * interval '2 s' AS event_timestamp,
    (enum_range(NULL::event_type))[1 + floor(7 * u3 ^ 3)::int] AS event_type,
    CASE WHEN n % 499979 = 7 THEN 'rare_event' ELSE 'event_' || floor(200 * u3 ^ 3)::int END
        AS event_name,
    'category_' || floor(12 * u3 ^ 3)::int AS event_category,
    CASE WHEN n % 499979 = 11 THEN 'user-rare' WHEN u2 < 0.1 THEN NULL
        ELSE 'user-' || floor(50000 * u3 ^ 3)::int END AS user_id,
    CASE WHEN n % 499979 = 13 THEN 'licence-rare'
        ELSE 'licence-' || floor(500 * u3 ^ 3)::int END AS license_id,
    'session-' || md5((n / 20000 * 1000 + (h2 & 1023) % 1000)::text) AS session_id,
    jsonb_build_object('method', (ARRAY['email', 'sso', 'token'])[1 + floor(3 * u1)::int],
        'status_code', (ARRAY[200, 200, 200, 201, 404, 500])[1 + floor(6 * u2)::int],
        'path', '/api/documents/' || floor(3000 * u3)::int,
        'document_id', 'doc-' || n / 3, 'success', u2 < 0.9) AS event_data,
    ARRAY['tag-' || floor(30 * u1)::int, 'tag-' || floor(30 * u2)::int] AS tags,
    1000 * u1 ^ 2 AS duration_ms,
    (ARRAY['web', 'api', 'mobile'])[1 + floor(3 * u3)::int] AS source,
    ('10.1.' || (h1 & 255) || '.' || (h2 & 255))::inet AS source_ip,
    '2.' || (h1 & 7) AS source_version,
    NULL::text AS user_agent,
    md5('t' || (n / 2000 * 400 + (h1 & 1023) % 400)) AS trace_id,
    NULL::text AS span_id,
    time AS ingested_at,
    (h2 & 63)::smallint AS shard,
    n / 16384 + 1 AS flush_id
FROM (SELECT n, h1, h2, $3::timestamptz + n * $4::float8 * interval '1 s' AS time,
        (h1 & 1048575) / 1048576.0::float8 AS u1, (h2 & 1048575) / 1048576.0::float8 AS u2,
        (h1 >> 32 & 1048575) / 1048576.0::float8 AS u3
    FROM (SELECT n, hashint8extended(n, 1) & 9223372036854775807 AS h1,
            hashint8extended(n, 2) & 9223372036854775807 AS h2
        FROM generate_series($1::bigint, $2::bigint) AS n) AS numbers) AS dice;

-- name: spans
-- Made-up spans in the columns' order: eight of a trace, between those of 500 other traces.
-- $1 first int8, $2 last int8: numbers of the rows
-- $3 start timestamptz, $4 seconds float8: the time between two rows
SELECT md5('t' || trace) AS trace_id, substr(md5(n::text), 1, 16) AS span_id,
    CASE WHEN u2 < 0.875 THEN substr(md5((n - 1)::text), 1, 16) END AS parent_span_id,
    CASE WHEN n % 499979 = 7 THEN 'rare_service' ELSE 'service_' || floor(20 * u1 ^ 2)::int END
        AS service_name,
    'operation_' || floor(200 * u1 ^ 2)::int AS operation_name,
    (enum_range(NULL::span_kind))[1 + floor(5 * u2)::int] AS kind,
    time - u2 * interval '2 s' AS start_time,
    1000 * u1 ^ 3 AS duration_ms,
    CASE WHEN u3 < 0.01 THEN 'error' ELSE 'ok' END::span_status AS status,
    CASE WHEN u3 < 0.01 THEN 'connection refused by upstream' END AS error_message,
    'POST' AS http_method, '/api/documents/' || floor(3000 * u3)::int AS http_url,
    CASE WHEN u3 < 0.01 THEN 500 ELSE 200 END AS http_status_code,
    'user-' || (h2 >> 21 & 65535) AS user_id,
    'licence-' || floor(500 * u3 ^ 3)::int AS license_id,
    NULL::text AS session_id, 'host-' || (h1 & 15) AS host_name,
    NULL::text AS instance_id, '2.1' AS service_version, NULL::text AS trace_state,
    jsonb_build_object('endpoint', '/api/documents/process', 'region', 'eu-' || (h2 & 3)) AS tags,
    NULL::jsonb AS events, NULL::jsonb AS links,
    time AS ingested_at, (n % 16384)::int AS ordinal, (trace & 63)::smallint AS shard,
    n / 16384 + 1 AS flush_id
FROM (SELECT n, h1, h2, n / 4000 * 500 + (h2 & 65535) % 500 AS trace,
        $3::timestamptz + n * $4::float8 * interval '1 s' AS time,
        (h1 & 1048575) / 1048576.0::float8 AS u1, (h2 & 1048575) / 1048576.0::float8 AS u2,
        (h1 >> 32 & 1048575) / 1048576.0::float8 AS u3
    FROM (SELECT n, hashint8extended(n, 1) & 9223372036854775807 AS h1,
            hashint8extended(n, 2) & 9223372036854775807 AS h2
        FROM generate_series($1::bigint, $2::bigint) AS n) AS numbers) AS dice;

-- name: samples
-- Made-up samples of 2,000 series in the columns' order: flushes of 64,000, each sorted by
-- (series_id, time) as the flush sorts them.
-- $1 first int8, $2 last int8: numbers of the rows
-- $3 start timestamptz, $4 seconds float8: the time between two rows
SELECT (n % 64000 / 32)::int AS series_id,
    $3::timestamptz + (n / 64000 * 64000 + n % 32 * 2000 + n % 64000 / 32) * $4::float8
        * interval '1 s' AS time,
    (hashint8extended(n, 1) & 1048575) / 1048.576::float8 AS value,
    0::smallint AS shard, n / 64000 + 1 AS flush_id
FROM generate_series($1::bigint, $2::bigint) AS n;

-- name: series
-- A thousand made-up series, with numbers that the server's own do not reach.
INSERT INTO metric_series (series_id, identity_hash, metric_name, metric_type, labels, host_name)
OVERRIDING SYSTEM VALUE
SELECT n, md5('series' || n)::uuid, 'made_up', 'gauge', '{}', 'host-' || n
FROM generate_series(1000, 1999) AS n
ON CONFLICT DO NOTHING;

-- name: series_samples
-- Samples of these series, in turns, in the columns' order.
-- $1 first int8, $2 last int8: numbers of the rows
-- $3 start timestamptz, $4 seconds float8: the time between two rows
SELECT (1000 + n % 1000)::int AS series_id,
    $3::timestamptz + n * $4::float8 * interval '1 s' AS time,
    (hashint8extended(n, 1) & 1048575) / 1048.576::float8 AS value,
    0::smallint AS shard, (1::bigint << 40) | (n / 64000) AS flush_id
FROM generate_series($1::bigint, $2::bigint) AS n;
