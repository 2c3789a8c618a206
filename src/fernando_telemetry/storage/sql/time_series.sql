-- name: series
-- Series that may have a sample behind a moment; a filter is added to it, columns are put in. What
-- was last seen earlier has none: a sample is at most a day ahead of its ingest and seen_on at most
-- a day behind it.
-- $1 start timestamptz
SELECT series_id, metric_type, metric_unit, service_name, host_name, instance_id, metric_name,
    labels, license_id, temporality
FROM metric_series
WHERE seen_on >= $1::timestamptz::date - 2

-- name: samples
-- Plain samples; a time range and a filter are added to it. Each is a sample of its own, `value`
-- stands for it, `total` and `weight` are what a mean is made of.
-- $1 series_ids int4[]
SELECT series_id, time, time AS last_time, 1::int8 AS samples, value AS given, value,
    value AS total, 1::float8 AS weight, value AS low, value AS high, NULL::float8 AS percentile_50,
    NULL::float8 AS percentile_90, NULL::float8 AS percentile_95, NULL::float8 AS percentile_99
FROM metric_samples
WHERE series_id = ANY ($1::int4[])

-- name: minutes
-- Plain samples by minute, shaped as samples; a range of `minute` is added to it.
-- $1 series_ids int4[]
SELECT series_id, minute AS time, last_time, sample_count AS samples, last_value AS given,
    last_value AS value, value_sum AS total, sample_count::float8 AS weight, value_min AS low,
    value_max AS high, NULL::float8, NULL::float8, NULL::float8, NULL::float8
FROM sample_minutes
WHERE series_id = ANY ($1::int4[])

-- name: deltas
-- What is not folded yet; a range of `minute` is added to it.
-- $1 series_ids int4[]
SELECT series_id, minute AS time, last_time, sample_count AS samples, last_value AS given,
    last_value AS value, value_sum AS total, sample_count::float8 AS weight, value_min AS low,
    value_max AS high, NULL::float8, NULL::float8, NULL::float8, NULL::float8
FROM sample_deltas
WHERE series_id = ANY ($1::int4[])

-- name: hours
-- Plain samples by hour, shaped as samples; a range of `hour` is added to it.
-- $1 series_ids int4[]
SELECT series_id, hour AS time, last_time, sample_count AS samples, last_value AS given,
    last_value AS value, value_sum AS total, sample_count::float8 AS weight, value_min AS low,
    value_max AS high, NULL::float8, NULL::float8, NULL::float8, NULL::float8
FROM sample_hours
WHERE series_id = ANY ($1::int4[])

-- name: distributions
-- Samples with percentiles or a distribution; a time range and a filter are added to it.
-- $1 series_ids int4[]
SELECT series_id, time, flush_id, ordinal, value, percentile_50, percentile_90, percentile_95,
    percentile_99, distribution_count, distribution_sum, distribution_min, distribution_max,
    upper_bounds, bucket_counts
FROM metric_distributions
WHERE series_id = ANY ($1::int4[])
