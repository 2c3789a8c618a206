-- name: matching_spans
-- Spans of a time range, of which one that matches finds its trace; the search adds the filter.
-- $1 start timestamptz
-- $2 end timestamptz, exclusive
SELECT trace_id FROM traces WHERE start_time >= $1 AND start_time < $2

-- name: span_places
-- Places of the spans of a time range; the list adds its filter, place and order.
-- $1 start timestamptz
-- $2 end timestamptz, exclusive
SELECT start_time, trace_id, span_id, flush_id, ordinal FROM traces
WHERE start_time >= $1 AND start_time < $2

-- name: earliest_starts
-- Start of the earliest span in a time range, of each of some traces.
-- $1 start timestamptz
-- $2 end timestamptz, exclusive
-- $3 trace_ids text[]
SELECT trace_id, min(start_time) AS start_time FROM traces
WHERE start_time >= $1 AND start_time < $2 AND trace_id = ANY ($3::text[])
GROUP BY trace_id;

-- name: trace_starts
-- Start of the earliest span in a time range, by trace; the search adds which traces, how they are
-- grouped, its place and its order. min(trace_id) is the group's trace_id.
-- $1 start timestamptz
-- $2 end timestamptz, exclusive
SELECT min(trace_id) AS trace_id, min(start_time) AS start_time FROM traces
WHERE start_time >= $1 AND start_time < $2

-- name: summaries
-- Each of some traces in one line. A span without a duration ends where it starts; one whose parent
-- is not among the trace's spans of the range is an orphan, but for the receiving side of a call
-- that shares the calling side's id: that one is its parent.
-- $1 start timestamptz
-- $2 end timestamptz, exclusive
-- $3 trace_ids text[]
WITH spans AS MATERIALIZED (
    SELECT trace_id, span_id, parent_span_id, service_name, operation_name, start_time, end_time,
        kind, status, flush_id, ordinal
    FROM traces
    WHERE start_time >= $1 AND start_time < $2 AND trace_id = ANY ($3::text[])
), extents AS (
    SELECT trace_id, min(start_time) AS start_time,
        max(coalesce(end_time, start_time)) AS end_time,
        count(*) AS span_count,
        count(*) FILTER (WHERE status = 'error') AS error_count
    FROM spans GROUP BY trace_id
), orphans AS (
    SELECT child.trace_id, count(*) AS orphan_count
    FROM spans child
    WHERE child.parent_span_id IS NOT NULL AND NOT EXISTS (
        SELECT FROM spans parent
        WHERE parent.trace_id = child.trace_id AND parent.span_id = child.parent_span_id
    ) AND NOT EXISTS (
        SELECT FROM spans caller
        WHERE child.kind IN ('server', 'consumer') AND caller.kind IN ('client', 'producer')
            AND caller.trace_id = child.trace_id AND caller.span_id = child.span_id
    )
    GROUP BY child.trace_id
), counted AS (
    SELECT trace_id, service_name, count(*) AS span_count
    FROM spans GROUP BY trace_id, service_name
), services AS (
    SELECT trace_id, array_agg(service_name) AS service_names, array_agg(span_count) AS span_counts
    FROM counted GROUP BY trace_id
), roots AS (
    SELECT DISTINCT ON (trace_id) trace_id, service_name, operation_name
    FROM spans WHERE parent_span_id IS NULL
    ORDER BY trace_id, start_time, span_id COLLATE "C", flush_id, ordinal
)
SELECT extents.trace_id, extents.start_time, extents.end_time, extents.span_count,
    extents.error_count, coalesce(orphans.orphan_count, 0) AS orphan_count,
    services.service_names, services.span_counts,
    coalesce(roots.service_name, '') AS root_service_name,
    coalesce(roots.operation_name, '') AS root_operation_name
FROM extents
JOIN services USING (trace_id)
LEFT JOIN orphans USING (trace_id)
LEFT JOIN roots USING (trace_id);
