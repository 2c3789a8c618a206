-- name: hold_flushes
-- Keeps the partitions of `flushes` from being dropped until the transaction ends. The first
-- statement of it: a snapshot taken before could miss both a dropped row and that it was pruned.
-- A replica takes this lock mode too.
LOCK TABLE flushes IN ACCESS SHARE MODE;

-- name: keep_plans
-- The next statement is planned once for the session: `flushes` has a partition for each day, and to
-- plan a search of all of them takes longer than the search.
SET LOCAL plan_cache_mode = force_generic_plan;

-- name: plan_anew
-- As the session has it: a plan for the values it is given.
SET LOCAL plan_cache_mode = DEFAULT;

-- name: facts
-- The id that cursors are bound to, the highest lane, and whether this is the database that lanes are
-- made in.
SELECT installation_id, (SELECT coalesce(max(lane), 0) FROM lanes) AS highest_lane,
    NOT pg_is_in_recovery() AS is_primary
FROM installation;

-- name: lanes
-- The lanes a cursor looks at: those above the highest it knows and those it has a place in.
-- $1 known_lane int4, $2 lanes int4[]
SELECT lane, last_number, pruned_through FROM lanes WHERE lane > $1::int4
UNION ALL
SELECT lane, last_number, pruned_through FROM lanes
WHERE lane = ANY ($2::int4[]) AND lane <= $1::int4
ORDER BY lane;

-- name: newest_numbers
-- Number of the last flush that shows, of each lane that has one.
-- $1 lanes int4[]
SELECT given.lane, newest.flush_id & ((1::int8 << 40) - 1) AS number
FROM unnest($1::int4[]) AS given (lane)
CROSS JOIN LATERAL (
    SELECT max(f.flush_id) AS flush_id FROM flushes f
    WHERE f.flush_id > given.lane::int8 << 40 AND f.flush_id < (given.lane + 1)::int8 << 40
) AS newest
WHERE newest.flush_id IS NOT NULL;

-- name: flushes_after
-- The next flushes of each lane, in the lane's order.
-- $1 flush_ids int8[], the last consumed one of each lane, $2 limit int8, of each lane
SELECT next.*
FROM unnest($1::int8[]) AS given (flush_id)
CROSS JOIN LATERAL (
    SELECT f.flush_id, f.ingested_at, f.rule_set_revision,
        f.event_count, f.event_min_time, f.event_max_time,
        f.sample_count, f.sample_min_time, f.sample_max_time,
        f.distribution_count, f.distribution_min_time, f.distribution_max_time,
        f.business_metric_count, f.business_metric_min_time, f.business_metric_max_time,
        f.span_count, f.span_min_time, f.span_max_time
    FROM flushes f
    WHERE f.flush_id > given.flush_id AND f.flush_id < ((given.flush_id >> 40) + 1) << 40
    ORDER BY f.flush_id
    LIMIT $2::int8
) AS next;

-- name: oldest_flush
-- Since which day flushes are kept.
SELECT min(committed_on)::timestamptz FROM flushes;

-- name: partitions
-- Partitions of the named tables with their bounds, without those dropped since the snapshot.
-- $1 tables text[]
SELECT p.relname::text AS parent, quote_ident(c.relname) AS partition,
    pg_get_expr(c.relpartbound, 0) AS bounds
FROM pg_inherits i
JOIN pg_class p ON p.oid = i.inhparent
JOIN pg_class c ON c.oid = i.inhrelid
WHERE p.relname = ANY ($1::text[]) AND p.relnamespace = current_schema()::regnamespace
    AND c.relpartbound IS NOT NULL AND to_regclass(quote_ident(c.relname)) IS NOT NULL;

-- name: event_rows
-- Events of one flush.
-- $1 start timestamptz, $2 last timestamptz, inclusive, $3 flush_id int8
SELECT event_timestamp, event_type::text AS event_type, event_name, event_category, user_id,
    license_id, session_id, event_data, tags, duration_ms, source, host(source_ip) AS source_ip,
    trace_id, span_id, user_agent, source_version, event_id, ingested_at
FROM telemetry_events
WHERE event_timestamp >= $1 AND event_timestamp <= $2 AND flush_id = $3;

-- name: sample_rows
-- Plain samples of one flush, shaped as distributions.
-- $1 start timestamptz, $2 last timestamptz, inclusive, $3 flush_id int8
SELECT time, series_id, flush_id, -1 AS ordinal, value,
    NULL::double precision AS percentile_50, NULL::double precision AS percentile_90,
    NULL::double precision AS percentile_95, NULL::double precision AS percentile_99,
    NULL::bigint AS distribution_count, NULL::double precision AS distribution_sum,
    NULL::double precision AS distribution_min, NULL::double precision AS distribution_max,
    NULL::double precision[] AS upper_bounds, NULL::bigint[] AS bucket_counts
FROM metric_samples
WHERE time >= $1 AND time <= $2 AND flush_id = $3;

-- name: distribution_rows
-- Samples of one flush that have percentiles or a distribution.
-- $1 start timestamptz, $2 last timestamptz, inclusive, $3 flush_id int8
SELECT time, series_id, flush_id, ordinal, value,
    percentile_50, percentile_90, percentile_95, percentile_99,
    distribution_count, distribution_sum, distribution_min, distribution_max,
    upper_bounds, bucket_counts
FROM metric_distributions
WHERE time >= $1 AND time <= $2 AND flush_id = $3;

-- name: business_metric_rows
-- KPI versions of one flush; the range is on period_end.
-- $1 start timestamptz, $2 last timestamptz, inclusive, $3 flush_id int8
SELECT metric_name, metric_category, metric_value::text AS metric_value, metric_unit,
    currency, period_start, period_end, period_type::text AS period_type,
    calculation_method::text AS calculation_method, license_id, customer_id, user_id,
    dimensions, time_zone, metric_id, ingested_at, identity_hash
FROM business_metric_versions
WHERE period_end >= $1 AND period_end <= $2 AND flush_id = $3;

-- name: span_rows
-- Spans of one flush.
-- $1 start timestamptz, $2 last timestamptz, inclusive, $3 flush_id int8
SELECT trace_id, span_id, parent_span_id, service_name, operation_name, kind::text AS kind,
    start_time, duration_ms, status::text AS status, error_message, http_method, http_url,
    http_status_code, user_id, license_id, tags, events, links, session_id, host_name,
    instance_id, service_version, trace_state, ingested_at, flush_id, ordinal
FROM traces
WHERE start_time >= $1 AND start_time <= $2 AND flush_id = $3;
