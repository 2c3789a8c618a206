-- name: events_by_user_id
-- Newest 100 events with a value of user_id.
-- $1 user_id text
-- $2 start timestamptz
SELECT * FROM telemetry_events WHERE user_id = $1::text AND event_timestamp >= $2::timestamptz
ORDER BY event_timestamp DESC LIMIT 100;

-- name: events_by_user_id_guarded
-- The same, sorted behind a fence: no plan can walk the time index for it.
-- $1 user_id text
-- $2 start timestamptz
WITH found AS MATERIALIZED (SELECT * FROM telemetry_events WHERE user_id = $1::text)
SELECT * FROM found WHERE event_timestamp >= $2::timestamptz
ORDER BY event_timestamp DESC LIMIT 100;

-- name: events_by_license_id
-- Newest 100 events with a value of license_id.
-- $1 license_id text
-- $2 start timestamptz
SELECT * FROM telemetry_events WHERE license_id = $1::text AND event_timestamp >= $2::timestamptz
ORDER BY event_timestamp DESC LIMIT 100;

-- name: events_by_license_id_guarded
-- The same, sorted behind a fence: no plan can walk the time index for it.
-- $1 license_id text
-- $2 start timestamptz
WITH found AS MATERIALIZED (SELECT * FROM telemetry_events WHERE license_id = $1::text)
SELECT * FROM found WHERE event_timestamp >= $2::timestamptz
ORDER BY event_timestamp DESC LIMIT 100;

-- name: events_by_event_name
-- Newest 100 events with a value of event_name.
-- $1 event_name text
-- $2 start timestamptz
SELECT * FROM telemetry_events WHERE event_name = $1::text AND event_timestamp >= $2::timestamptz
ORDER BY event_timestamp DESC LIMIT 100;

-- name: events_by_event_name_guarded
-- The same, sorted behind a fence: no plan can walk the time index for it.
-- $1 event_name text
-- $2 start timestamptz
WITH found AS MATERIALIZED (SELECT * FROM telemetry_events WHERE event_name = $1::text)
SELECT * FROM found WHERE event_timestamp >= $2::timestamptz
ORDER BY event_timestamp DESC LIMIT 100;

-- name: events_by_session_id
-- Newest 100 events with a value of session_id.
-- $1 session_id text
-- $2 start timestamptz
SELECT * FROM telemetry_events WHERE session_id = $1::text AND event_timestamp >= $2::timestamptz
ORDER BY event_timestamp DESC LIMIT 100;

-- name: events_by_session_id_guarded
-- The same, sorted behind a fence: no plan can walk the time index for it.
-- $1 session_id text
-- $2 start timestamptz
WITH found AS MATERIALIZED (SELECT * FROM telemetry_events WHERE session_id = $1::text)
SELECT * FROM found WHERE event_timestamp >= $2::timestamptz
ORDER BY event_timestamp DESC LIMIT 100;

-- name: events_by_trace_id
-- Newest 100 events with a value of trace_id.
-- $1 trace_id text
-- $2 start timestamptz
SELECT * FROM telemetry_events WHERE trace_id = $1::text AND event_timestamp >= $2::timestamptz
ORDER BY event_timestamp DESC LIMIT 100;

-- name: events_by_trace_id_guarded
-- The same, sorted behind a fence: no plan can walk the time index for it.
-- $1 trace_id text
-- $2 start timestamptz
WITH found AS MATERIALIZED (SELECT * FROM telemetry_events WHERE trace_id = $1::text)
SELECT * FROM found WHERE event_timestamp >= $2::timestamptz
ORDER BY event_timestamp DESC LIMIT 100;

-- name: events_by_payload
-- Newest 100 events whose payload contains another.
-- $1 part text: JSON
-- $2 start timestamptz
SELECT * FROM telemetry_events
WHERE event_data @> $1::text::jsonb AND event_timestamp >= $2::timestamptz
ORDER BY event_timestamp DESC LIMIT 100;

-- name: events_by_type
-- Newest 100 events of a type.
-- $1 event_type text
-- $2 start timestamptz
SELECT * FROM telemetry_events
WHERE event_type = $1::text::event_type AND event_timestamp >= $2::timestamptz
ORDER BY event_timestamp DESC LIMIT 100;

-- name: spans_by_trace_id
-- Spans of one trace.
-- $1 trace_id text
-- $2 start timestamptz
SELECT * FROM traces WHERE trace_id = $1::text AND start_time >= $2::timestamptz
ORDER BY start_time;

-- name: spans_by_trace_id_guarded
-- The same behind a fence.
-- $1 trace_id text
-- $2 start timestamptz
WITH found AS MATERIALIZED (SELECT * FROM traces WHERE trace_id = $1::text)
SELECT * FROM found WHERE start_time >= $2::timestamptz ORDER BY start_time;

-- name: spans_by_service_name
-- Newest 100 spans with a value of service_name.
-- $1 service_name text
-- $2 start timestamptz
SELECT * FROM traces WHERE service_name = $1::text AND start_time >= $2::timestamptz
ORDER BY start_time DESC LIMIT 100;

-- name: spans_by_license_id
-- Newest 100 spans with a value of license_id.
-- $1 license_id text
-- $2 start timestamptz
SELECT * FROM traces WHERE license_id = $1::text AND start_time >= $2::timestamptz
ORDER BY start_time DESC LIMIT 100;

-- name: spans_by_user_id
-- Newest 100 spans with a value of user_id.
-- $1 user_id text
-- $2 start timestamptz
SELECT * FROM traces WHERE user_id = $1::text AND start_time >= $2::timestamptz
ORDER BY start_time DESC LIMIT 100;

-- name: errors_of_service
-- Newest 100 errors of a service.
-- $1 service_name text
-- $2 start timestamptz
SELECT * FROM traces
WHERE status = 'error' AND service_name = $1::text AND start_time >= $2::timestamptz
ORDER BY start_time DESC LIMIT 100;

-- name: samples_of_series
-- Six hours of one series.
-- $1 series_id text
-- $2 start timestamptz
SELECT * FROM metric_samples WHERE series_id = ANY (ARRAY[$1::text::int])
    AND time >= $2::timestamptz + interval '6 hours'
    AND time < $2::timestamptz + interval '12 hours' ORDER BY time DESC;

-- name: samples_newest
-- Newest 100 samples of one series, or of all.
-- $1 series_id text: empty for all
-- $2 start timestamptz
SELECT * FROM metric_samples
WHERE ($1::text = '' OR series_id = nullif($1::text, '')::int) AND time >= $2::timestamptz
ORDER BY time DESC LIMIT 100;

-- name: hourly_summary
-- A day of the guide's hourly summary.
-- $1 start timestamptz, $2 end timestamptz, exclusive
SELECT * FROM telemetry_events_hourly_summary
WHERE hour >= $1::timestamptz AND hour < $2::timestamptz;

-- name: one_series_by_minute
-- Means of one series by minute, from the roll-up and what is not folded yet.
-- $1 host_name text
-- $2 start timestamptz, $3 end timestamptz, exclusive
SELECT minute, sum(value_sum) / sum(sample_count) AS average, sum(sample_count) AS samples
FROM (
    SELECT series_id, minute, value_sum, sample_count FROM sample_minutes
    UNION ALL
    SELECT series_id, minute, value_sum, sample_count FROM sample_deltas
) AS minutes
WHERE series_id = ANY (ARRAY(
        SELECT series_id FROM metric_series
        WHERE metric_name = 'made_up' AND host_name = $1::text))
    AND minute >= $2::timestamptz AND minute < $3::timestamptz
GROUP BY minute ORDER BY minute;
