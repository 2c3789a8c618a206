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
