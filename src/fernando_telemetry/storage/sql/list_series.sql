-- name: all_series
-- Every series; the list adds its filter, place and order.
SELECT series_id, metric_name, metric_type::text AS metric_type, metric_unit, service_name,
    host_name, instance_id, labels, license_id, temporality::text AS temporality, identity_hash
FROM metric_series
WHERE true

-- name: active_series
-- Series with a sample in a time range; the list adds its filter, place and order. A sample is at
-- most a day ahead of its ingest and seen_on at most a day behind it, so what was last seen earlier
-- has none.
-- $1 start timestamptz
-- $2 end timestamptz, exclusive
SELECT series_id, metric_name, metric_type::text AS metric_type, metric_unit, service_name,
    host_name, instance_id, labels, license_id, temporality::text AS temporality, identity_hash
FROM metric_series
WHERE seen_on >= $1::timestamptz::date - 2
    AND series_id IN (
        SELECT series_id FROM metric_samples WHERE time >= $1 AND time < $2
        UNION ALL
        SELECT series_id FROM metric_distributions WHERE time >= $1 AND time < $2
    )
