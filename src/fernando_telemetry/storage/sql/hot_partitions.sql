-- name: unsealed
-- Name, bounds and size of a table's partitions that have rows and carry no mark of sealing (storage/sealing.py).
-- $1 table text
-- $2 mark text: how a mark begins
SELECT c.oid::regclass::text AS partition, pg_get_expr(c.relpartbound, 0) AS bounds,
    pg_relation_size(c.oid) AS bytes
FROM pg_inherits i
JOIN pg_class c ON c.oid = i.inhrelid
LEFT JOIN pg_description d
    ON d.objoid = c.oid AND d.classoid = 'pg_class'::regclass AND d.objsubid = 0
WHERE i.inhparent = to_regclass($1::text) AND c.relpartbound IS NOT NULL
    AND (d.description IS NULL OR NOT starts_with(d.description, $2::text))
    AND pg_relation_size(c.oid) > 0;

-- name: plan_by
-- Says which scans the transaction's next statements are planned with, on or off, and the time.
-- Workers are not: to start them takes longer than what is left to read.
-- $1 index_scans text
-- $2 bitmap_scans text
-- $3 sequential_scans text
SELECT set_config('enable_indexscan', $1::text, true),
    set_config('enable_bitmapscan', $2::text, true),
    set_config('enable_seqscan', $3::text, true),
    set_config('max_parallel_workers_per_gather', '0', true), now() AS now;
