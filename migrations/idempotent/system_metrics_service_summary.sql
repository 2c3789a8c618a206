-- Samples by service, metric, unit and UTC hour, whatever the session's time zone.
-- p95_value: the largest percentile_95 that was given, else that of the values; a counter has
-- none, since its values are how far it has come. Averages of percentiles would mean nothing.
CREATE OR REPLACE VIEW system_metrics_service_summary WITH (security_invoker = true) AS
SELECT
    s.service_name, h.hour, s.metric_name, s.metric_type, s.measurement_count,
    s.avg_value, s.min_value, s.max_value, s.p95_value, s.metric_unit
FROM (
    SELECT hour FROM partition_hours('metric_samples') AS hour
    UNION
    SELECT hour FROM partition_hours('metric_distributions') AS hour
    UNION
    SELECT DISTINCT date_trunc('hour', metric_timestamp, 'UTC') FROM system_metrics
    WHERE metric_timestamp < greatest(
        partitions_begin('metric_samples'), partitions_begin('metric_distributions'))
) h
CROSS JOIN LATERAL (
    SELECT
        service_name, metric_name, metric_type, metric_unit,
        count(*) AS measurement_count,
        avg(metric_value) AS avg_value,
        min(metric_value) AS min_value,
        max(metric_value) AS max_value,
        CASE WHEN metric_type <> 'counter' THEN coalesce(
            max(percentile_95), percentile_cont(0.95) WITHIN GROUP (ORDER BY metric_value)
        ) END AS p95_value
    FROM system_metrics
    WHERE metric_timestamp >= h.hour AND metric_timestamp < h.hour + interval '1 hour'
    GROUP BY service_name, metric_name, metric_type, metric_unit
) s;
