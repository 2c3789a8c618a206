-- name: events
-- Events of a time range for tails; conditions on their flushes and filters are added, and `takers`
-- is made to say which of several filters takes the event.
-- $1 start timestamptz
-- $2 end timestamptz, exclusive
SELECT event_timestamp, event_type::text AS event_type, event_name, event_category, user_id,
    license_id, session_id, event_data, tags, duration_ms, source, host(source_ip) AS source_ip,
    trace_id, span_id, user_agent, source_version, event_id, ingested_at, flush_id,
    NULL::boolean[] AS takers
FROM telemetry_events
WHERE event_timestamp >= $1 AND event_timestamp < $2

-- name: count_events
-- Counts events of a time range; conditions on their flushes are added, and a count for each filter.
-- $1 start timestamptz
-- $2 end timestamptz, exclusive
SELECT ARRAY[count(*)] AS counts FROM telemetry_events
WHERE event_timestamp >= $1 AND event_timestamp < $2

-- name: partitions
-- Name and bounds of the partitions of events.
SELECT quote_ident(c.relname) AS partition, pg_get_expr(c.relpartbound, 0) AS bounds
FROM pg_inherits i
JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = to_regclass('telemetry_events') AND c.relpartbound IS NOT NULL;
