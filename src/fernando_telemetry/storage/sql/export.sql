-- name: settle
-- How a session reads for an export: values are written as domain and Arrow read them, a group of
-- records is sorted in memory, and no statement ends by its age: whoever takes the rows may be slow.
SELECT set_config('datestyle', 'ISO', true), set_config('extra_float_digits', '1', true),
    set_config('statement_timeout', '0', true), set_config('work_mem', '32MB', true);

-- name: events
-- Events of a time range; the export adds its conditions and order (storage/export_statement.py).
-- $1 start timestamptz
-- $2 end timestamptz, exclusive
SELECT event_id, event_timestamp, event_type, event_name, event_category, user_id, license_id,
    session_id, event_data, tags, duration_ms, source, source_ip, source_version, user_agent,
    trace_id, span_id, ingested_at, flush_id
FROM telemetry_events
WHERE event_timestamp >= $1 AND event_timestamp < $2

-- name: spans
-- Spans of a time range; the export adds its conditions and order.
-- $1 start timestamptz
-- $2 end timestamptz, exclusive
SELECT trace_id, span_id, parent_span_id, service_name, operation_name, kind, start_time,
    duration_ms, end_time, status, error_message, http_method, http_url, http_status_code, user_id,
    license_id, session_id, host_name, instance_id, service_version, trace_state, tags, events,
    links, ingested_at, flush_id, ordinal
FROM traces
WHERE start_time >= $1 AND start_time < $2

-- name: business_metrics
-- KPI versions whose period ends in a time range; the export adds its conditions and order.
-- $1 start timestamptz
-- $2 end timestamptz, exclusive
SELECT metric_id, metric_name, metric_category, metric_value, metric_unit, currency, period_start,
    period_end, period_type, calculation_method, license_id, customer_id, user_id, dimensions,
    time_zone, ingested_at, flush_id
FROM business_metric_versions
WHERE period_end >= $1 AND period_end < $2

-- name: samples
-- Plain samples of a time range with their series, shaped as distributions; the export adds its
-- conditions and order. Expiry may have taken a series whose samples are still there.
-- $1 start timestamptz
-- $2 end timestamptz, exclusive
SELECT s.metric_name, s.metric_type, s.metric_unit, s.service_name, s.host_name, s.instance_id,
    s.labels, s.license_id, s.temporality, encode(uuid_send(s.identity_hash), 'hex') AS series_id,
    m.time AS metric_timestamp, m.value AS metric_value,
    NULL::double precision AS percentile_50, NULL::double precision AS percentile_90,
    NULL::double precision AS percentile_95, NULL::double precision AS percentile_99,
    NULL::bigint AS distribution_count, NULL::double precision AS distribution_sum,
    NULL::double precision AS distribution_min, NULL::double precision AS distribution_max,
    NULL::double precision[] AS upper_bounds, NULL::bigint[] AS bucket_counts,
    m.flush_id, m.series_id AS series, -1 AS ordinal, m.value AS key_value
FROM metric_samples m
LEFT JOIN metric_series s ON s.series_id = m.series_id
WHERE m.time >= $1 AND m.time < $2

-- name: distributions
-- Samples with percentiles or a distribution, with their series; the export adds its conditions
-- and order.
-- $1 start timestamptz
-- $2 end timestamptz, exclusive
SELECT s.metric_name, s.metric_type, s.metric_unit, s.service_name, s.host_name, s.instance_id,
    s.labels, s.license_id, s.temporality, encode(uuid_send(s.identity_hash), 'hex') AS series_id,
    m.time AS metric_timestamp, m.value AS metric_value,
    m.percentile_50, m.percentile_90, m.percentile_95, m.percentile_99,
    m.distribution_count, m.distribution_sum, m.distribution_min, m.distribution_max,
    m.upper_bounds, m.bucket_counts,
    m.flush_id, m.series_id AS series, m.ordinal, 0::double precision AS key_value
FROM metric_distributions m
LEFT JOIN metric_series s ON s.series_id = m.series_id
WHERE m.time >= $1 AND m.time < $2
