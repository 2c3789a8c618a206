-- The trace of a span as a key to join by; of a licence by itself, where its calls are counted so.
CREATE OR REPLACE FUNCTION service_calls_trace(trace_id text, license_id text, by_license boolean)
RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN by_license THEN md5(trace_id || license_id)::uuid ELSE trace_id::uuid END
$$;

-- Services and the calls between them, counted with log-spaced histograms of durations, of the spans
-- that start in a range, by steps of time from its start. A call is of the time of the called span.
-- A row whose client is '' is of a service's own spans.
--
-- What a span's parent is follows domain/trace_tree.py: of a shared id the side of the span's own
-- service, else the calling side, else the earliest. A parent of the same service is no call to
-- another. A consumer is also called by the producers it links to. Who called is looked for among the
-- spans of the ten minutes before the called span's minute, of that minute, and of the one after it:
-- so the answer does not depend on where the range ends, and the parts of a range add up to it.
--
-- of_license: only its spans; '': all. by_license: the spans of each licence by themselves, where
-- nothing is a call between two licences; else license_id is ''. Ids are joined as numbers, not as
-- texts.
CREATE OR REPLACE FUNCTION service_calls(
    range_start timestamptz, range_end timestamptz, of_license text, by_license boolean,
    step interval
) RETURNS TABLE (
    step_start timestamptz, license_id text, client_service_name text, server_service_name text,
    call_count bigint, error_count bigint, duration_buckets smallint[], duration_counts bigint[]
) LANGUAGE sql STABLE ROWS 1000 AS $$
WITH met AS MATERIALIZED (
    SELECT service_calls_trace(t.trace_id, t.license_id, by_license) AS trace,
        ('x' || t.span_id)::bit(64)::bigint AS span,
        ('x' || t.parent_span_id)::bit(64)::bigint AS parent, t.service_name AS service,
        coalesce(t.kind, 'internal') AS kind, coalesce(t.status = 'error', false) AS is_error,
        CASE WHEN t.duration_ms > 0 THEN ceil(ln(t.duration_ms) / ln(1.04::float8))::smallint
            WHEN t.duration_ms IS NOT NULL THEN (-32768)::smallint END AS bucket,
        t.start_time, t.flush_id, t.ordinal, CASE WHEN by_license THEN t.license_id END AS license,
        CASE WHEN t.kind = 'consumer' THEN t.links END AS links
    FROM traces t
    WHERE t.start_time >= range_start AND t.start_time < range_end
        AND (of_license = '' OR t.license_id = of_license)
        AND (NOT by_license OR t.license_id IS NOT NULL)
), linked AS MATERIALIZED (
    SELECT DISTINCT met.trace, met.span, met.parent, met.service, met.is_error, met.bucket,
        met.start_time, met.flush_id, met.ordinal, met.license,
        service_calls_trace(link ->> 'trace_id', met.license, by_license) AS linked_trace,
        ('x' || (link ->> 'span_id'))::bit(64)::bigint AS linked_span
    FROM met, jsonb_array_elements(met.links) AS link
    WHERE met.links IS NOT NULL
), near AS MATERIALIZED (
    SELECT service_calls_trace(t.trace_id, t.license_id, by_license) AS trace,
        ('x' || t.span_id)::bit(64)::bigint AS span, t.service_name AS service,
        coalesce(t.kind, 'internal') AS kind, coalesce(t.status = 'error', false) AS is_error,
        t.start_time, t.flush_id, t.ordinal
    FROM traces t
    WHERE (t.start_time >= date_bin('1 minute', range_start, timestamptz 'epoch')
                - interval '10 minutes' AND t.start_time < range_start
            OR t.start_time >= range_end
                AND t.start_time < date_bin('1 minute', range_end - interval '1 microsecond',
                    timestamptz 'epoch') + interval '2 minutes')
        AND (of_license = '' OR t.license_id = of_license)
        AND (NOT by_license OR t.license_id IS NOT NULL)
        AND service_calls_trace(t.trace_id, t.license_id, by_license) IN (
            SELECT met.trace FROM met UNION ALL SELECT linked.linked_trace FROM linked)
), spans AS NOT MATERIALIZED (
    SELECT trace, span, parent, service, kind, is_error, bucket, start_time, flush_id, ordinal,
        license, true AS is_called
    FROM met
    UNION ALL
    SELECT trace, span, NULL, service, kind, is_error, NULL, start_time, flush_id, ordinal,
        NULL, false
    FROM near
), shared AS MATERIALIZED (
    SELECT trace, span, date_bin('1 minute', min(start_time), timestamptz 'epoch')
            = date_bin('1 minute', max(start_time), timestamptz 'epoch') AS is_of_one_minute
    FROM spans GROUP BY trace, span HAVING count(*) > 1
), sides AS MATERIALIZED (
    SELECT spans.*, is_of_one_minute FROM spans JOIN shared USING (trace, span)
), first_sides AS MATERIALIZED (
    -- Which one is first depends on the minute of who asks, where they are not of one minute.
    SELECT DISTINCT ON (trace, span, from_time) trace, span, service, kind, is_error, from_time,
        to_time
    FROM sides
    CROSS JOIN LATERAL (
        SELECT date_bin('1 minute', start_time, timestamptz 'epoch') AS minute) AS m
    CROSS JOIN LATERAL (
        SELECT minute - interval '1 minute' AS from_time, minute + interval '11 minutes' AS to_time
        WHERE is_of_one_minute
        UNION ALL
        SELECT asking, asking + interval '1 minute'
        FROM generate_series(minute - interval '1 minute', minute + interval '10 minutes',
            interval '1 minute') AS asking
        WHERE NOT is_of_one_minute
    ) AS minutes
    ORDER BY trace, span, from_time, kind IN ('client', 'producer') DESC, start_time, flush_id,
        ordinal
), parents AS NOT MATERIALIZED (
    SELECT trace, span, service, kind, is_error,
        date_bin('1 minute', start_time, timestamptz 'epoch') - interval '1 minute' AS from_time,
        date_bin('1 minute', start_time, timestamptz 'epoch') + interval '11 minutes' AS to_time
    FROM spans
    WHERE NOT EXISTS (SELECT FROM shared
        WHERE shared.trace = spans.trace AND shared.span = spans.span)
    UNION ALL
    SELECT trace, span, service, kind, is_error, from_time, to_time
    FROM first_sides
), counted AS (
    SELECT license, '' AS client, service AS server, is_error, bucket, start_time FROM met
    UNION ALL
    SELECT child.license, caller.service, child.service,
        child.is_error OR caller.kind = 'client' AND caller.is_error, child.bucket,
        child.start_time
    FROM sides child
    JOIN first_sides caller USING (trace, span)
    WHERE child.is_called
        AND child.start_time >= caller.from_time AND child.start_time < caller.to_time
        AND child.kind IN ('server', 'consumer') AND caller.kind IN ('client', 'producer')
        AND caller.service <> child.service
    UNION ALL
    SELECT child.license, parent.service, child.service,
        child.is_error OR parent.kind = 'client' AND parent.is_error, child.bucket,
        child.start_time
    FROM met child
    JOIN parents parent ON parent.trace = child.trace AND parent.span = child.parent
    WHERE child.start_time >= parent.from_time AND child.start_time < parent.to_time
        AND child.parent <> child.span AND parent.service <> child.service
        AND NOT EXISTS (SELECT FROM first_sides caller
            WHERE caller.trace = child.trace AND caller.span = child.span
                AND child.start_time >= caller.from_time AND child.start_time < caller.to_time
                AND child.kind IN ('server', 'consumer')
                AND caller.kind IN ('client', 'producer'))
        AND NOT EXISTS (SELECT FROM sides own
            WHERE own.trace = child.trace AND own.span = child.parent
                AND own.service = child.service
                AND child.start_time >= date_bin('1 minute', own.start_time, timestamptz 'epoch')
                    - interval '1 minute'
                AND child.start_time < date_bin('1 minute', own.start_time, timestamptz 'epoch')
                    + interval '11 minutes')
    UNION ALL
    SELECT child.license, producer.service, child.service, child.is_error, child.bucket,
        child.start_time
    FROM linked child
    JOIN parents producer ON producer.trace = child.linked_trace
        AND producer.span = child.linked_span
    WHERE child.start_time >= producer.from_time AND child.start_time < producer.to_time
        AND producer.kind = 'producer' AND producer.service <> child.service
        AND NOT (child.linked_trace = child.trace
            AND (child.linked_span = child.span
                OR child.linked_span IS NOT DISTINCT FROM child.parent))
), histograms AS (
    SELECT date_bin(step, start_time, range_start) AS step_start, license, client, server, bucket,
        count(*) AS amount, count(*) FILTER (WHERE is_error) AS errors
    FROM counted
    GROUP BY 1, license, client, server, bucket
)
SELECT step_start, coalesce(license, ''), client, server, sum(amount)::bigint,
    sum(errors)::bigint,
    coalesce(array_agg(bucket ORDER BY bucket) FILTER (WHERE bucket IS NOT NULL), '{}'),
    coalesce(array_agg(amount ORDER BY bucket) FILTER (WHERE bucket IS NOT NULL), '{}')
FROM histograms
GROUP BY step_start, license, client, server
$$;
