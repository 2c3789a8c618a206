-- Takes records older than midnight UTC so many days ago: a row per table, with the partitions it
-- dropped and the rows it deleted singly (those of dropped partitions are not counted). KPIs have
-- the days of metrics and go by period_end. Roll-ups stay.
-- It is one transaction, and all or nothing: DETACH CONCURRENTLY cannot be had in one, so dropping
-- locks the tables against writers and readers until it commits. Hence the deletes come first,
-- the drops last, in the order in which a flush writes the tables; and a lock that is not given
-- within lock_timeout, which is shorter than PostgreSQL's deadlock_timeout so that no flush is
-- chosen as a victim, ends it with 55P03.
CREATE OR REPLACE FUNCTION cleanup_old_telemetry_data(
    events_retention_days integer DEFAULT 90,
    metrics_retention_days integer DEFAULT 180,
    traces_retention_days integer DEFAULT 30
) RETURNS TABLE (table_name text, partitions_dropped bigint, rows_deleted bigint)
LANGUAGE plpgsql SET datestyle = 'ISO' SET timezone = 'UTC' SET lock_timeout = '500ms' AS $$
DECLARE
    names CONSTANT text[] := ARRAY['telemetry_events', 'metric_samples', 'metric_distributions',
        'business_metric_versions', 'traces'];
    times CONSTANT text[] := ARRAY['event_timestamp', 'time', 'time', 'period_end', 'start_time'];
    days CONSTANT integer[] := ARRAY[events_retention_days, metrics_retention_days,
        metrics_retention_days, metrics_retention_days, traces_retention_days];
    today CONSTANT timestamptz := date_trunc('day', now(), 'UTC');
    deleted bigint[] := ARRAY[]::bigint[];
    dropped bigint[] := ARRAY[]::bigint[];
    cutoff timestamptz;
    gone text[];
    rows_gone bigint;
    kept_from timestamptz;
BEGIN
    FOR place IN 1 .. cardinality(names) LOOP
        -- The most that a policy can have; so many days ago a timestamp is still one.
        IF days[place] IS NULL OR days[place] NOT BETWEEN 1 AND 36500 THEN
            RAISE EXCEPTION 'retention of % has to be 1 to 36500 days, not %',
                names[place], coalesce(days[place]::text, 'NULL')
                USING ERRCODE = 'invalid_parameter_value';
        END IF;
    END LOOP;
    FOR place IN 1 .. cardinality(names) LOOP
        cutoff := today - make_interval(days => days[place]);
        -- From where the partitions that are to be dropped end; before it nothing is deleted.
        SELECT coalesce(max(bounds[1]::timestamptz), '-infinity') INTO kept_from
        FROM pg_inherits i
        JOIN pg_class c ON c.oid = i.inhrelid
        CROSS JOIN regexp_match(
            pg_get_expr(c.relpartbound, c.oid), 'TO \(''(.+)''\)') AS bounds
        WHERE i.inhparent = names[place]::regclass AND NOT i.inhdetachpending
            AND bounds[1]::timestamptz <= cutoff;
        -- Literals, so that planning leaves out, and does not lock, the partitions of other times.
        EXECUTE format('DELETE FROM %I WHERE %I >= %L AND %I < %L',
            names[place], times[place], kept_from, times[place], cutoff);
        GET DIAGNOSTICS rows_gone = ROW_COUNT;
        deleted := deleted || rows_gone;
    END LOOP;
    FOR place IN 1 .. cardinality(names) LOOP
        cutoff := today - make_interval(days => days[place]);
        SELECT coalesce(array_agg(c.oid::regclass::text ORDER BY c.oid), '{}') INTO gone
        FROM pg_inherits i
        JOIN pg_class c ON c.oid = i.inhrelid
        CROSS JOIN regexp_match(
            pg_get_expr(c.relpartbound, c.oid), 'TO \(''(.+)''\)') AS bounds
        WHERE i.inhparent = names[place]::regclass AND NOT i.inhdetachpending
            AND bounds[1]::timestamptz <= cutoff;
        FOR number IN 1 .. cardinality(gone) LOOP
            EXECUTE 'DROP TABLE ' || gone[number];
        END LOOP;
        dropped := dropped || cardinality(gone)::bigint;
    END LOOP;
    RETURN QUERY SELECT * FROM unnest(names, dropped, deleted);
END
$$;
