-- The UTC hours that the partitions of a table cover, but for the partition without a lower end.
-- The hourly views take each hour by itself, so that a condition on `hour` reads what it names:
-- one on date_trunc(time) would neither prune partitions nor use an index on time.
CREATE OR REPLACE FUNCTION partition_hours(parent regclass) RETURNS SETOF timestamptz
LANGUAGE sql STABLE ROWS 100 SET datestyle = 'ISO' SET timezone = 'UTC' AS $$
    SELECT DISTINCT generate_series(
        date_trunc('hour', bounds[1]::timestamptz, 'UTC'),
        bounds[2]::timestamptz - interval '1 microsecond',
        interval '1 hour')
    FROM pg_inherits i
    JOIN pg_class c ON c.oid = i.inhrelid
    CROSS JOIN regexp_match(
        pg_get_expr(c.relpartbound, c.oid), 'FROM \(''(.+)''\) TO \(''(.+)''\)') AS bounds
    WHERE i.inhparent = parent AND NOT i.inhdetachpending AND bounds IS NOT NULL
$$;

-- Where the partition without a lower end stops; -infinity where there is none.
CREATE OR REPLACE FUNCTION partitions_begin(parent regclass) RETURNS timestamptz
LANGUAGE sql STABLE SET datestyle = 'ISO' SET timezone = 'UTC' AS $$
    SELECT coalesce(max(bounds[1]::timestamptz), '-infinity')
    FROM pg_inherits i
    JOIN pg_class c ON c.oid = i.inhrelid
    CROSS JOIN regexp_match(
        pg_get_expr(c.relpartbound, c.oid), 'FROM \(MINVALUE\) TO \(''(.+)''\)') AS bounds
    WHERE i.inhparent = parent AND NOT i.inhdetachpending AND bounds IS NOT NULL
$$;
