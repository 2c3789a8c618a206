-- Events by type and UTC hour, whatever the session's time zone. Counts are exact.
CREATE OR REPLACE VIEW telemetry_events_hourly_summary WITH (security_invoker = true) AS
SELECT s.event_type, h.hour, s.event_count, s.unique_users, s.unique_licenses, s.avg_duration_ms
FROM (
    SELECT hour FROM partition_hours('telemetry_events') AS hour
    UNION
    SELECT DISTINCT date_trunc('hour', event_timestamp, 'UTC') FROM telemetry_events
    WHERE event_timestamp < partitions_begin('telemetry_events')
) h
CROSS JOIN LATERAL (
    SELECT
        event_type,
        count(*) AS event_count,
        count(DISTINCT user_id) AS unique_users,
        count(DISTINCT license_id) AS unique_licenses,
        avg(duration_ms) AS avg_duration_ms
    FROM telemetry_events
    WHERE event_timestamp >= h.hour AND event_timestamp < h.hour + interval '1 hour'
    GROUP BY event_type
) s;
