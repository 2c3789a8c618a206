-- name: spans_read
-- The spans that decide the calls of some ranges, to be counted.
-- $1 starts timestamptz[], $2 ends timestamptz[], exclusive
-- $3 license_id text; empty: all
SELECT FROM unnest($1::timestamptz[], $2::timestamptz[]) AS part (start, stop)
JOIN traces ON start_time >= part.start AND start_time < part.stop
WHERE ($3::text = '' OR license_id = $3::text)

-- name: join_by_hash
-- The planner knows nothing of how many ids are shared, nor of a partition that nobody analysed: for
-- few rows it would go through all spans once for each of them, or sort where a hash does.
SELECT set_config('enable_nestloop', 'off', true), set_config('enable_mergejoin', 'off', true),
    set_config('enable_sort', 'off', true), set_config('work_mem', '32MB', true);

-- name: raw
-- Services and the calls between them, from raw spans. Histograms are sent as PostgreSQL keeps them
-- (storage/sent_arrays.py); none where no span has a duration.
-- $1 start timestamptz
-- $2 end timestamptz, exclusive
-- $3 license_id text; empty: all
-- $4 limit bigint: of services and edges
SELECT client_service_name, server_service_name, call_count, error_count,
    CASE WHEN is_timed THEN int4send(cardinality(duration_buckets)) ELSE '' END AS sizes,
    CASE WHEN is_timed THEN array_send(duration_buckets) ELSE '' END AS buckets,
    CASE WHEN is_timed THEN array_send(duration_counts) ELSE '' END AS counts
FROM service_calls($1::timestamptz, $2::timestamptz, $3::text, false,
    $2::timestamptz - $1::timestamptz)
CROSS JOIN LATERAL (SELECT cardinality(duration_buckets) > 0 AS is_timed) AS t
LIMIT $4::bigint;

-- name: computed_chunks
-- Whole chunks of a range whose calls are worked out, in order.
-- $1 start timestamptz, $2 end timestamptz, exclusive
SELECT chunk_start FROM service_edge_chunks
WHERE is_computed AND chunk_start >= $1::timestamptz
    AND chunk_start <= $2::timestamptz - {chunk}
ORDER BY chunk_start;

-- name: unfolded_minutes
-- Minutes with spans that are not folded yet, and those of hours with spans that have no deltas:
-- chunks that they touch may still be listed.
-- $1 start timestamptz, $2 end timestamptz, exclusive
SELECT DISTINCT minute FROM span_deltas
WHERE minute >= $1::timestamptz AND minute < $2::timestamptz
UNION
SELECT hour + place * interval '1 minute' FROM rollup_gaps, generate_series(0, 59) AS place
WHERE rollup = 'span' AND hour > $1::timestamptz - interval '1 hour' AND hour < $2::timestamptz;

-- name: rolled
-- Services and the calls between them, from chunks; histograms one behind the other.
-- $1 chunks timestamptz[]
-- $2 license_id text; empty: all
-- $3 limit bigint: of services and edges
SELECT client_service_name, server_service_name, sum(call_count)::int8 AS call_count,
    sum(error_count)::int8 AS error_count,
    coalesce(string_agg(int4send(cardinality(duration_buckets)), '')
        FILTER (WHERE cardinality(duration_buckets) > 0), '') AS sizes,
    coalesce(string_agg(array_send(duration_buckets), '')
        FILTER (WHERE cardinality(duration_buckets) > 0), '') AS buckets,
    coalesce(string_agg(array_send(duration_counts), '')
        FILTER (WHERE cardinality(duration_buckets) > 0), '') AS counts
FROM service_edges
WHERE chunk_start = ANY ($1::timestamptz[]) AND license_id = $2::text
GROUP BY client_service_name, server_service_name
LIMIT $3::bigint;
