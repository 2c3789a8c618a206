-- name: columns_of
-- Columns of a table that COPY takes, generated ones left out, in their order.
-- $1 table text
SELECT attname::text
FROM pg_attribute
WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
ORDER BY attnum;

-- name: checkpoint
-- Lets every slice begin with the same distance to the next checkpoint.
CHECKPOINT;
