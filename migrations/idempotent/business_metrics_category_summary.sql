-- Current KPIs by category and the local date of their period. Units, currencies and kinds of
-- period are never mixed. total_value is NULL unless the method of all values is sum or count:
-- averages do not add up.
CREATE OR REPLACE VIEW business_metrics_category_summary WITH (security_invoker = true) AS
SELECT
    metric_category,
    period_date AS date,
    metric_name,
    count(*) AS metric_points,
    CASE WHEN bool_and(coalesce(calculation_method IN ('sum', 'count'), false))
        THEN sum(metric_value) END AS total_value,
    avg(metric_value) AS avg_value,
    count(DISTINCT user_id) AS unique_users,
    count(DISTINCT license_id) AS unique_licenses,
    metric_unit, currency, period_type
FROM business_metrics
GROUP BY metric_category, period_date, metric_name, metric_unit, currency, period_type;
