-- name: rejected_records
-- Kept rejected records of a time range; the list adds its filter, place and order. A record
-- above the size that any record may have comes without its bytes: no message could carry it.
-- $1 start timestamptz
-- $2 end timestamptz, exclusive
-- $3 greatest record to give, in bytes int4
SELECT shard, rejected_id, rejected_at, kind, index, reason, field_path, detail, producer_id,
    sequence, license_id, defaults,
    CASE WHEN octet_length(record) <= $3::int4 THEN record END AS record
FROM rejected_records
WHERE rejected_at >= $1 AND rejected_at < $2

-- name: hold_replayed
-- Locks records about to be replayed, in key order; what does not come back is gone.
-- $1 shards int2[], $2 rejected_ids uuid[]
SELECT r.shard, r.rejected_id
FROM unnest($1::int2[], $2::uuid[]) AS given (shard, rejected_id)
JOIN rejected_records r USING (shard, rejected_id)
ORDER BY r.shard, r.rejected_id
FOR UPDATE OF r;

-- name: delete_replayed
-- Takes away records that this flush stores.
-- $1 shards int2[], $2 rejected_ids uuid[]
DELETE FROM rejected_records r
USING unnest($1::int2[], $2::uuid[]) AS given (shard, rejected_id)
WHERE r.shard = given.shard AND r.rejected_id = given.rejected_id;

-- name: judge_again
-- Gives records that are rejected again their new verdict; the place in the first batch stays.
-- $1 shards int2[], $2 rejected_ids uuid[], $3 reasons text[], $4 field_paths text[]
-- $5 details text[]
UPDATE rejected_records r
SET reason = given.reason, field_path = given.field_path, detail = given.detail
FROM unnest($1::int2[], $2::uuid[], $3::text[], $4::text[], $5::text[])
    AS given (shard, rejected_id, reason, field_path, detail)
WHERE r.shard = given.shard AND r.rejected_id = given.rejected_id;

-- name: kept_bytes
-- What all kept records take: their bytes, and an allowance for the row and its index entries.
-- $1 allowance per record, in bytes int4
SELECT coalesce(sum(octet_length(record)::int8 + $1::int4), 0)::int8 FROM rejected_records;

-- name: try_clean
-- Lets one server at a time clean; false where another does. Ends with the transaction.
SELECT pg_try_advisory_xact_lock({cleaning_rejected_lock});

-- name: clean
-- Deletes some of the records rejected before a time, the oldest first, leaving out those that a
-- replay holds.
-- $1 before timestamptz, $2 most rows int4
WITH old AS (
    SELECT shard, rejected_id FROM rejected_records
    WHERE rejected_at < $1::timestamptz
    ORDER BY rejected_at, rejected_id
    LIMIT $2::int4
    FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM rejected_records r USING old
    WHERE r.shard = old.shard AND r.rejected_id = old.rejected_id
    RETURNING 1
)
SELECT count(*) FROM gone;
