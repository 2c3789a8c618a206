-- Every sample with the identity of its series, as the guide lists the columns.
-- metric_id and ingested_at are not stored per sample. The view prunes by time only.
CREATE OR REPLACE VIEW system_metrics WITH (security_invoker = true) AS
SELECT
    NULL::uuid AS metric_id,
    s.metric_name, s.metric_type, s.service_name, s.host_name, s.instance_id,
    v.value AS metric_value, s.metric_unit, v.time AS metric_timestamp,
    v.percentile_50, v.percentile_90, v.percentile_95, v.percentile_99,
    s.labels, s.license_id, s.temporality, s.identity_hash AS series_id,
    v.distribution, NULL::timestamptz AS ingested_at
FROM (
    SELECT series_id, time, value,
        NULL::double precision AS percentile_50, NULL::double precision AS percentile_90,
        NULL::double precision AS percentile_95, NULL::double precision AS percentile_99,
        NULL::jsonb AS distribution
    FROM metric_samples
    UNION ALL
    SELECT series_id, time, value, percentile_50, percentile_90, percentile_95, percentile_99,
        CASE WHEN distribution_count IS NOT NULL THEN jsonb_build_object(
            'count', distribution_count, 'sum', distribution_sum,
            'min', distribution_min, 'max', distribution_max,
            'upper_bounds', upper_bounds, 'bucket_counts', bucket_counts) END
    FROM metric_distributions
) v
JOIN metric_series s USING (series_id);
