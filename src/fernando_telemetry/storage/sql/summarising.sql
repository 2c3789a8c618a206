-- name: try_lead
-- Lets one session at a time summarise; held until the session ends.
SELECT pg_try_advisory_lock({summarising_lock});

-- name: indexes
-- BRIN indexes of the partitions that are not sealed yet.
-- $1 tables text[]
-- $2 prefix text: what the mark of a sealed partition begins with
SELECT c.relname::text AS partition, c.oid::bigint AS partition_oid, x.oid::bigint AS oid,
    coalesce((SELECT option_value::int FROM pg_options_to_table(x.reloptions)
        WHERE option_name = 'pages_per_range'), 128) AS pages_per_range
FROM pg_class p
JOIN pg_inherits i ON i.inhparent = p.oid
JOIN pg_class c ON c.oid = i.inhrelid
JOIN pg_index ci ON ci.indrelid = c.oid
JOIN pg_class x ON x.oid = ci.indexrelid
JOIN pg_am a ON a.oid = x.relam AND a.amname = 'brin'
LEFT JOIN pg_description d
    ON d.objoid = c.oid AND d.classoid = 'pg_class'::regclass AND d.objsubid = 0
WHERE p.relname = ANY ($1::text[]) AND p.relnamespace = current_schema()::regnamespace
    AND NOT starts_with(coalesce(d.description, ''), $2::text)
ORDER BY c.oid, x.oid;

-- name: pages
-- Length of partitions in pages; no row for one that is gone, 0 where it goes right now.
-- $1 partitions int8[]: their oids
SELECT oid::bigint AS oid,
    coalesce(pg_relation_size(oid) / current_setting('block_size')::int, 0)::bigint AS pages
FROM pg_class WHERE oid = ANY ($1::int8[]::oid[]);

-- name: summarise
-- Summarises ranges of pages, and tells how many were not; NULL where the index is gone.
-- $1 index int8: its oid
-- $2 first int8, $3 last int8: first pages of the first and last range
-- $4 pages int8: of a range
SELECT CASE WHEN EXISTS (SELECT FROM pg_class WHERE oid = $1::int8::oid) THEN (
    SELECT coalesce(sum(brin_summarize_range($1::int8::oid::regclass, page)), 0)::bigint
    FROM generate_series($2::int8, $3::int8, $4::int8) AS page
) END;
