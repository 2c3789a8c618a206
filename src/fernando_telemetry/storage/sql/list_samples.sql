-- name: matching_series
-- Series that a filter on series columns asks for; the list adds the filter with AND.
SELECT series_id FROM metric_series WHERE true

-- name: series
-- The identity of series.
-- $1 series_ids int4[]
SELECT series_id, metric_name, metric_type::text AS metric_type, metric_unit, service_name,
    host_name, instance_id, labels, license_id, temporality::text AS temporality, identity_hash
FROM metric_series
WHERE series_id = ANY ($1::int[])

-- name: samples
-- Plain samples of a time range, shaped as distributions; the list adds filter, place and order.
-- $1 start timestamptz
-- $2 end timestamptz, exclusive
SELECT time, series_id, flush_id, -1 AS ordinal, value AS key_value, value,
    NULL::double precision AS percentile_50, NULL::double precision AS percentile_90,
    NULL::double precision AS percentile_95, NULL::double precision AS percentile_99,
    NULL::bigint AS distribution_count, NULL::double precision AS distribution_sum,
    NULL::double precision AS distribution_min, NULL::double precision AS distribution_max,
    NULL::double precision[] AS upper_bounds, NULL::bigint[] AS bucket_counts
FROM metric_samples
WHERE time >= $1 AND time < $2

-- name: distributions
-- Samples with percentiles or a distribution; their ordinal makes the keys unique.
-- $1 start timestamptz
-- $2 end timestamptz, exclusive
SELECT time, series_id, flush_id, ordinal, 0::double precision AS key_value, value,
    percentile_50, percentile_90, percentile_95, percentile_99,
    distribution_count, distribution_sum, distribution_min, distribution_max,
    upper_bounds, bucket_counts
FROM metric_distributions
WHERE time >= $1 AND time < $2
