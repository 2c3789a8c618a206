-- name: insert_batch_marks
-- Marks batches in key order; what does not come back is a repeat.
-- $1 shards int2[], $2 license_ids text[], $3 producer_ids text[], $4 sequences int8[]
-- $5 accepted int4[], $6 rejected int4[], $7 adjusted int4[], $8 refusals int2[], $9 flush_id int8
INSERT INTO batch_marks (shard, license_id, producer_id, sequence,
    accepted_count, rejected_count, adjusted_count, refusal, flush_id)
SELECT shard, license_id, producer_id, sequence, accepted, rejected, adjusted, refusal, $9::int8
FROM unnest($1::int2[], $2::text[], $3::text[], $4::int8[],
    $5::int4[], $6::int4[], $7::int4[], $8::int2[])
    AS given (shard, license_id, producer_id, sequence, accepted, rejected, adjusted, refusal)
ORDER BY shard, license_id, producer_id, sequence
ON CONFLICT DO NOTHING
RETURNING shard, license_id, producer_id, sequence;

-- name: insert_request_marks
-- Marks unary requests in key order; what does not come back is a repeat.
-- $1 shards int2[], $2 license_ids text[], $3 request_ids uuid[]
-- $4 accepted int4[], $5 rejected int4[], $6 adjusted int4[], $7 flush_id int8, $8 now timestamptz
INSERT INTO request_marks (shard, license_id, request_id,
    accepted_count, rejected_count, adjusted_count, flush_id, created_at)
SELECT shard, license_id, request_id, accepted, rejected, adjusted, $7::int8, $8::timestamptz
FROM unnest($1::int2[], $2::text[], $3::uuid[], $4::int4[], $5::int4[], $6::int4[])
    AS given (shard, license_id, request_id, accepted, rejected, adjusted)
ORDER BY shard, license_id, request_id
ON CONFLICT DO NOTHING
RETURNING shard, license_id, request_id;

-- name: batch_marks
-- The first answers to repeated batches; trimmed ones do not come back.
-- $1 shards int2[], $2 license_ids text[], $3 producer_ids text[], $4 sequences int8[]
SELECT m.shard, m.license_id, m.producer_id, m.sequence,
    m.accepted_count, m.rejected_count, m.adjusted_count, m.refusal, m.flush_id
FROM unnest($1::int2[], $2::text[], $3::text[], $4::int8[])
    AS given (shard, license_id, producer_id, sequence)
JOIN batch_marks m USING (shard, license_id, producer_id, sequence);

-- name: request_marks
-- The first answers to repeated requests.
-- $1 shards int2[], $2 license_ids text[], $3 request_ids uuid[]
SELECT m.shard, m.license_id, m.request_id,
    m.accepted_count, m.rejected_count, m.adjusted_count, NULL::int2 AS refusal, m.flush_id
FROM unnest($1::int2[], $2::text[], $3::uuid[]) AS given (shard, license_id, request_id)
JOIN request_marks m USING (shard, license_id, request_id);

-- name: progress_of
-- How far marks were trimmed: a fresh mark at or below it is a repeat too. Read in a later
-- statement than the marks: trimming raises progress and deletes marks in one transaction, so
-- one of the two always shows.
-- $1 shards int2[], $2 license_ids text[], $3 producer_ids text[]
SELECT p.shard, p.license_id, p.producer_id, p.contiguous_through
FROM unnest($1::int2[], $2::text[], $3::text[]) AS given (shard, license_id, producer_id)
JOIN progress p USING (shard, license_id, producer_id);

-- name: delete_batch_marks
-- Takes marks back that turned out to be below the trimmed run.
-- $1 shards int2[], $2 license_ids text[], $3 producer_ids text[], $4 sequences int8[]
DELETE FROM batch_marks m
USING unnest($1::int2[], $2::text[], $3::text[], $4::int8[])
    AS given (shard, license_id, producer_id, sequence)
WHERE m.shard = given.shard AND m.license_id = given.license_id
    AND m.producer_id = given.producer_id AND m.sequence = given.sequence;
