-- name: outline
-- What the tree of a trace is made of, of its spans that start in a time range; times in
-- microseconds.
-- $1 start timestamptz
-- $2 end timestamptz, exclusive
-- $3 trace_id text
-- $4 limit bigint
SELECT span_id, coalesce(parent_span_id, '') AS parent_span_id, service_name,
    coalesce(operation_name, '') AS operation_name, coalesce(host_name, '') AS host_name,
    kind::text AS kind, coalesce(status = 'error', false) AS is_error,
    (extract(epoch FROM start_time) * 1000000)::bigint AS start,
    round(duration_ms * 1000)::bigint AS duration, flush_id, ordinal
FROM traces
WHERE start_time >= $1 AND start_time < $2 AND trace_id = $3
LIMIT $4;

-- name: placed_spans
-- Some spans of a trace, whole, in the order in which they are named.
-- $1 start timestamptz
-- $2 last start timestamptz, inclusive
-- $3 trace_id text
-- $4 flush_ids bigint[]
-- $5 ordinals integer[]
SELECT trace_id, span_id, parent_span_id, service_name, operation_name, kind::text AS kind,
    start_time, duration_ms, status::text AS status, error_message, http_method, http_url,
    http_status_code, user_id, license_id, tags, events, links, session_id, host_name,
    instance_id, service_version, trace_state, ingested_at, wanted.place
FROM unnest($4::bigint[], $5::integer[]) WITH ORDINALITY AS wanted (flush_id, ordinal, place)
JOIN traces USING (flush_id, ordinal)
WHERE start_time >= $1 AND start_time <= $2 AND trace_id = $3
ORDER BY wanted.place;
