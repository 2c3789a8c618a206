-- The current value of every KPI: of the versions with one identity and period, the latest.
-- The period columns stand in DISTINCT ON so that a filter on them is pushed down; period_date
-- follows from period_start and the time zone, which is part of the identity.
CREATE OR REPLACE VIEW business_metrics WITH (security_invoker = true) AS
SELECT DISTINCT ON (period_start, period_end, period_date, identity_hash)
    metric_id, metric_name, metric_category, metric_value, metric_unit, currency,
    period_start, period_end, period_date, period_type, calculation_method,
    license_id, customer_id, user_id, dimensions, time_zone, ingested_at
FROM business_metric_versions
ORDER BY
    period_start, period_end, period_date, identity_hash, ingested_at DESC, metric_id DESC;
