-- Spans by UTC minute, licence, service and operation, from the roll-up, what is not yet folded, and
-- the raw spans that were stored without deltas: exact counts, percentiles within 2 %, as long as
-- minutes are kept. Gaps are gone through minute by minute, so that a condition on `minute` reads what
-- it names.
CREATE OR REPLACE VIEW trace_performance_summary WITH (security_invoker = true) AS
SELECT
    minute, service_name, nullif(operation_name, '') AS operation_name,
    nullif(license_id, '') AS license_id,
    sum(span_count)::bigint AS span_count,
    sum(error_count)::bigint AS error_count,
    sum(duration_sum) / nullif(sum(amount), 0)::double precision AS avg_duration_ms,
    min(middle) FILTER (WHERE through >= ceil(0.5 * total)) AS p50_duration_ms,
    min(middle) FILTER (WHERE through >= ceil(0.95 * total)) AS p95_duration_ms,
    min(middle) FILTER (WHERE through >= ceil(0.99 * total)) AS p99_duration_ms
FROM (
    SELECT
        minute, license_id, service_name, operation_name,
        sum(span_count) AS span_count,
        sum(error_count) AS error_count,
        sum(duration_sum) AS duration_sum,
        sum(amount) AS amount,
        -- The middle of a bucket of base 1.04, by ratio; a duration of 0 has one of its own.
        CASE bucket WHEN -32768 THEN 0 ELSE 2 * 1.04::double precision ^ bucket / 2.04 END AS middle,
        sum(sum(amount)) OVER (
            PARTITION BY minute, license_id, service_name, operation_name ORDER BY bucket
        ) AS through,
        sum(sum(amount)) OVER (
            PARTITION BY minute, license_id, service_name, operation_name
        ) AS total
    FROM (
        SELECT
            minute, license_id, service_name, operation_name, bucket, amount,
            -- A row comes once for each bucket; what is of the whole row counts once.
            CASE WHEN coalesce(place, 1) = 1 THEN span_count ELSE 0 END AS span_count,
            CASE WHEN coalesce(place, 1) = 1 THEN error_count ELSE 0 END AS error_count,
            CASE WHEN coalesce(place, 1) = 1 THEN duration_sum ELSE 0 END AS duration_sum
        FROM (
            SELECT minute, license_id, service_name, operation_name, span_count, error_count,
                duration_sum, duration_buckets, duration_counts
            FROM span_minutes
            UNION ALL
            SELECT minute, license_id, service_name, operation_name, span_count, error_count,
                duration_sum, duration_buckets, duration_counts
            FROM span_deltas
            UNION ALL
            SELECT minute, left_out.*
            FROM (
                SELECT hour, array_agg(first_flush_id) AS firsts, array_agg(last_flush_id) AS lasts
                FROM rollup_gaps WHERE rollup = 'span' GROUP BY hour
            ) AS gaps
            CROSS JOIN LATERAL generate_series(
                hour, hour + interval '59 minutes', interval '1 minute') AS minute
            CROSS JOIN LATERAL (
                SELECT coalesce(license_id, ''), service_name, coalesce(operation_name, ''),
                    1::bigint, (coalesce(status = 'error', false))::int::bigint, coalesce(duration_ms, 0),
                    CASE WHEN duration_ms > 0 THEN
                            ARRAY[ceil(ln(duration_ms) / ln(1.04::double precision))::smallint]
                        WHEN duration_ms IS NOT NULL THEN ARRAY[(-32768)::smallint]
                        ELSE '{}'::smallint[] END,
                    CASE WHEN duration_ms IS NOT NULL THEN ARRAY[1::bigint] ELSE '{}'::bigint[] END
                FROM traces
                WHERE start_time >= minute AND start_time < minute + interval '1 minute'
                    AND EXISTS (SELECT FROM unnest(firsts, lasts) AS gap (first, last)
                        WHERE flush_id >= gap.first AND flush_id <= gap.last)
            ) AS left_out
        ) AS parts
        LEFT JOIN LATERAL unnest(duration_buckets, duration_counts)
            WITH ORDINALITY AS histogram (bucket, amount, place) ON true
    ) AS placed
    GROUP BY minute, license_id, service_name, operation_name, bucket
) AS buckets
GROUP BY minute, license_id, service_name, operation_name;
