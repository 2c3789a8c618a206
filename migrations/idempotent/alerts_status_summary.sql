-- Alerts by status and severity; triggered_at is the latest, as last_alert.
CREATE OR REPLACE VIEW alerts_status_summary WITH (security_invoker = true) AS
SELECT
    status, severity,
    max(triggered_at) AS triggered_at,
    count(*) AS alert_count,
    count(DISTINCT rule_id) AS affected_rules,
    min(triggered_at) AS first_alert,
    max(triggered_at) AS last_alert,
    (avg(extract(epoch FROM resolved_at - triggered_at)) / 3600)::double precision
        AS avg_resolution_hours
FROM alerts
GROUP BY status, severity;
