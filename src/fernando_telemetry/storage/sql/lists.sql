-- name: events
-- Events of a time range; the list adds its filter, place and order (storage/list_statement.py).
-- $1 start timestamptz
-- $2 end timestamptz, exclusive
SELECT event_timestamp, event_type::text AS event_type, event_name, event_category, user_id,
    license_id, session_id, event_data, tags, duration_ms, source, host(source_ip) AS source_ip,
    trace_id, span_id, user_agent, source_version, event_id, ingested_at
FROM telemetry_events
WHERE event_timestamp >= $1 AND event_timestamp < $2

-- name: spans
-- Spans of a time range; the list adds its filter, place and order.
-- $1 start timestamptz
-- $2 end timestamptz, exclusive
SELECT trace_id, span_id, parent_span_id, service_name, operation_name, kind::text AS kind,
    start_time, duration_ms, status::text AS status, error_message, http_method, http_url,
    http_status_code, user_id, license_id, tags, events, links, session_id, host_name,
    instance_id, service_version, trace_state, ingested_at, flush_id, ordinal
FROM traces
WHERE start_time >= $1 AND start_time < $2

-- name: current_business_metrics
-- The current value of each KPI whose period starts in a time range: no later version of the same
-- period and identity exists. The list adds its filter, place and order, which therefore judge
-- current rows only. A period ends after its start, so the bound on period_end loses nothing and
-- leaves out older partitions.
-- $1 start timestamptz
-- $2 end timestamptz, exclusive
SELECT v.metric_name, v.metric_category, v.metric_value::text AS metric_value, v.metric_unit,
    v.currency, v.period_start, v.period_end, v.period_type::text AS period_type,
    v.calculation_method::text AS calculation_method, v.license_id, v.customer_id, v.user_id,
    v.dimensions, v.time_zone, v.metric_id, v.ingested_at, v.identity_hash,
    false AS superseded
FROM business_metric_versions v
WHERE v.period_start >= $1 AND v.period_start < $2 AND v.period_end > $1
    AND NOT EXISTS (
        SELECT FROM business_metric_versions later
        WHERE later.identity_hash = v.identity_hash
            AND later.period_start = v.period_start AND later.period_end = v.period_end
            AND (later.ingested_at, later.metric_id) > (v.ingested_at, v.metric_id)
    )

-- name: every_business_metric
-- All versions of the KPIs whose period starts in a time range, each with whether it is superseded.
-- $1 start timestamptz
-- $2 end timestamptz, exclusive
SELECT v.metric_name, v.metric_category, v.metric_value::text AS metric_value, v.metric_unit,
    v.currency, v.period_start, v.period_end, v.period_type::text AS period_type,
    v.calculation_method::text AS calculation_method, v.license_id, v.customer_id, v.user_id,
    v.dimensions, v.time_zone, v.metric_id, v.ingested_at,
    EXISTS (
        SELECT FROM business_metric_versions later
        WHERE later.identity_hash = v.identity_hash
            AND later.period_start = v.period_start AND later.period_end = v.period_end
            AND (later.ingested_at, later.metric_id) > (v.ingested_at, v.metric_id)
    ) AS superseded
FROM business_metric_versions v
WHERE v.period_start >= $1 AND v.period_start < $2 AND v.period_end > $1
