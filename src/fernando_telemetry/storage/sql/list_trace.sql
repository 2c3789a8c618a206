-- name: trace_spans
-- Spans of one trace in a time range; the list adds its place and order.
-- $1 start timestamptz
-- $2 end timestamptz, exclusive
-- $3 trace_id text
SELECT trace_id, span_id, parent_span_id, service_name, operation_name, kind::text AS kind,
    start_time, duration_ms, status::text AS status, error_message, http_method, http_url,
    http_status_code, user_id, license_id, tags, events, links, session_id, host_name,
    instance_id, service_version, trace_state, ingested_at, flush_id, ordinal
FROM traces
WHERE start_time >= $1 AND start_time < $2 AND trace_id = $3

-- name: trace_summary
-- Counts and extent of one trace; no row where there are no spans. A span without a duration ends
-- where it starts.
-- $1 start timestamptz
-- $2 end timestamptz, exclusive
-- $3 trace_id text
SELECT min(start_time) AS start_time,
    max(coalesce(end_time, start_time)) AS end_time,
    count(*) AS span_count,
    count(*) FILTER (WHERE status = 'error') AS error_count
FROM traces
WHERE start_time >= $1 AND start_time < $2 AND trace_id = $3
HAVING count(*) > 0;

-- name: trace_services
-- Spans of one trace by service.
-- $1 start timestamptz
-- $2 end timestamptz, exclusive
-- $3 trace_id text
SELECT service_name, count(*) AS span_count
FROM traces
WHERE start_time >= $1 AND start_time < $2 AND trace_id = $3
GROUP BY service_name
ORDER BY service_name COLLATE "C";

-- name: trace_root
-- The earliest span of one trace that has no parent.
-- $1 start timestamptz
-- $2 end timestamptz, exclusive
-- $3 trace_id text
SELECT service_name, operation_name
FROM traces
WHERE start_time >= $1 AND start_time < $2 AND trace_id = $3 AND parent_span_id IS NULL
ORDER BY start_time, span_id COLLATE "C", flush_id, ordinal
LIMIT 1;
