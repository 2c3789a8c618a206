-- name: oldest_span
-- The start of the oldest span there is.
SELECT start_time FROM traces ORDER BY start_time LIMIT 1;

-- name: spans
-- Spans of a range, to be counted.
-- $1 start timestamptz, $2 end timestamptz, exclusive
SELECT FROM traces WHERE start_time >= $1::timestamptz AND start_time < $2::timestamptz

-- name: take_chunks
-- Lists chunks as being worked out, by a run that its version names; gives those that it has taken.
-- What was listed by a run that did not come to its end is taken over.
-- $1 chunks timestamptz[], $2 version uuid
INSERT INTO service_edge_chunks AS c (shard, chunk_start, version, is_computed)
SELECT 0, chunk_start, $2::uuid, false FROM unnest($1::timestamptz[]) AS chunk_start
ON CONFLICT (chunk_start, shard) DO UPDATE SET version = excluded.version
    WHERE NOT c.is_computed
RETURNING chunk_start;

-- name: is_unfolded
-- Whether spans of a range are not folded yet, or may have no deltas.
-- $1 start timestamptz, $2 end timestamptz, exclusive
SELECT EXISTS (SELECT FROM span_deltas
        WHERE minute >= $1::timestamptz AND minute < $2::timestamptz)
    OR EXISTS (SELECT FROM rollup_gaps
        WHERE rollup = 'span' AND hour > $1::timestamptz - interval '1 hour'
            AND hour < $2::timestamptz);

-- name: forget_edges
-- Deletes the calls of chunks that lie side by side.
-- $1 start timestamptz, $2 end timestamptz, exclusive
DELETE FROM service_edges
WHERE chunk_start >= $1::timestamptz AND chunk_start < $2::timestamptz;

-- name: fill_edges
-- Writes the calls of chunks that lie side by side.
-- $1 start timestamptz, $2 end timestamptz, exclusive
-- $3 by_license bool: of each licence by itself; else of all spans
INSERT INTO service_edges (shard, chunk_start, license_id, client_service_name,
    server_service_name, call_count, error_count, duration_buckets, duration_counts)
SELECT 0, step_start, license_id, client_service_name, server_service_name, call_count,
    error_count, duration_buckets, duration_counts
FROM service_calls($1::timestamptz, $2::timestamptz, '', $3::bool, {chunk});

-- name: are_licenses_apart
-- Whether every call of a range is one of a licence: each span has a licence, each trace one, and no
-- consumer links to another trace.
-- $1 start timestamptz, $2 end timestamptz, exclusive: where the spans start that decide the calls
SELECT NOT EXISTS (SELECT FROM traces
        WHERE start_time >= $1::timestamptz AND start_time < $2::timestamptz
            AND (license_id IS NULL OR kind = 'consumer' AND links IS NOT NULL))
    AND NOT EXISTS (SELECT FROM traces
        WHERE start_time >= $1::timestamptz AND start_time < $2::timestamptz
        GROUP BY trace_id HAVING min(license_id) <> max(license_id));

-- name: sum_edges_up
-- Writes the calls of all spans of chunks that lie side by side, from those of each licence.
-- $1 start timestamptz, $2 end timestamptz, exclusive
WITH calls AS (
    SELECT chunk_start, client_service_name, server_service_name,
        sum(call_count)::int8 AS call_count, sum(error_count)::int8 AS error_count
    FROM service_edges
    WHERE chunk_start >= $1::timestamptz AND chunk_start < $2::timestamptz
    GROUP BY chunk_start, client_service_name, server_service_name
), buckets AS (
    SELECT chunk_start, client_service_name, server_service_name, bucket,
        sum(amount)::int8 AS amount
    FROM service_edges, unnest(duration_buckets, duration_counts) AS h (bucket, amount)
    WHERE chunk_start >= $1::timestamptz AND chunk_start < $2::timestamptz
    GROUP BY chunk_start, client_service_name, server_service_name, bucket
), histograms AS (
    SELECT chunk_start, client_service_name, server_service_name,
        array_agg(bucket ORDER BY bucket) AS duration_buckets,
        array_agg(amount ORDER BY bucket) AS duration_counts
    FROM buckets
    GROUP BY chunk_start, client_service_name, server_service_name
)
INSERT INTO service_edges (shard, chunk_start, license_id, client_service_name,
    server_service_name, call_count, error_count, duration_buckets, duration_counts)
SELECT 0, chunk_start, '', client_service_name, server_service_name, call_count, error_count,
    coalesce(duration_buckets, '{}'), coalesce(duration_counts, '{}')
FROM calls LEFT JOIN histograms USING (chunk_start, client_service_name, server_service_name);

-- name: finish_chunks
-- Lists chunks as worked out, unless the fold has met late spans of theirs since they were taken.
-- $1 version uuid
WITH finished AS (
    UPDATE service_edge_chunks SET is_computed = true
    WHERE version = $1::uuid AND NOT is_computed
    RETURNING 1
)
SELECT count(*) FROM finished;

-- name: expire_chunks
-- Forgets chunks past the roll-up's term, before their calls go; $2 at most.
-- $1 before timestamptz, $2 limit int8
WITH gone AS (
    DELETE FROM service_edge_chunks WHERE ctid IN (
        SELECT ctid FROM service_edge_chunks WHERE chunk_start < $1::timestamptz LIMIT $2::int8)
    RETURNING 1
)
SELECT count(*) FROM gone;

-- name: expire_edges
-- Forgets calls past the roll-up's term; $2 at most.
-- $1 before timestamptz, $2 limit int8
WITH gone AS (
    DELETE FROM service_edges WHERE ctid IN (
        SELECT ctid FROM service_edges WHERE chunk_start < $1::timestamptz LIMIT $2::int8)
    RETURNING 1
)
SELECT count(*) FROM gone;

-- name: compare_edges
-- The chunks of whole hours that are worked out, and that no unfolded spans touch, against raw
-- spans: raw rows read, groups met on either side, and those that differ. Where a licence is left
-- out only other licences by themselves are compared, since its raw rows may be gone.
-- $1 start timestamptz, $2 end timestamptz, exclusive
-- $3 aside text[]: licences that are left out
WITH chunks AS (
    SELECT chunk_start FROM service_edge_chunks c
    WHERE is_computed AND chunk_start >= $1::timestamptz AND chunk_start < $2::timestamptz
        AND NOT EXISTS (SELECT FROM span_deltas d
            WHERE d.minute >= c.chunk_start - {callers_before}
                AND d.minute < c.chunk_start + {chunk_and_callers_after})
        AND NOT EXISTS (SELECT FROM rollup_gaps g
            WHERE g.rollup = 'span'
                AND g.hour > c.chunk_start - {callers_before} - interval '1 hour'
                AND g.hour < c.chunk_start + {chunk_and_callers_after})
), parts AS (
    SELECT 1 AS side, step_start AS chunk_start, license_id, client_service_name,
        server_service_name, call_count, error_count, duration_buckets, duration_counts
    FROM (
        SELECT * FROM service_calls($1::timestamptz, $2::timestamptz, '', false, {chunk})
        UNION ALL
        SELECT * FROM service_calls($1::timestamptz, $2::timestamptz, '', true, {chunk})
    ) AS calls
    UNION ALL
    SELECT -1, chunk_start, license_id, client_service_name, server_service_name, call_count,
        error_count, duration_buckets, duration_counts
    FROM service_edges
    WHERE chunk_start >= $1::timestamptz AND chunk_start < $2::timestamptz
), groups AS (
    SELECT count(*) <> 2 OR sum(side * call_count) <> 0 OR sum(side * error_count) <> 0
            OR count(DISTINCT duration_buckets) <> 1 OR count(DISTINCT duration_counts) <> 1
            AS differs
    FROM parts
    WHERE chunk_start IN (SELECT chunk_start FROM chunks) AND license_id <> ALL ($3::text[])
        AND (license_id <> '' OR cardinality($3::text[]) = 0)
    GROUP BY chunk_start, license_id, client_service_name, server_service_name
)
SELECT (SELECT count(*) FROM traces
        WHERE start_time >= $1::timestamptz AND start_time < $2::timestamptz) AS raw_rows,
    count(*) AS groups, count(*) FILTER (WHERE differs) AS differences
FROM groups;

-- name: unlist_chunks
-- Has chunks worked out anew that spans of whole hours touch, of which deltas are gone.
-- $1 start timestamptz, $2 end timestamptz, exclusive, $3 aside text[]: not used here
DELETE FROM service_edge_chunks
WHERE chunk_start > $1::timestamptz - {chunk_and_callers_after}
    AND chunk_start < $2::timestamptz + {callers_before} AND $3::text[] IS NOT NULL;
