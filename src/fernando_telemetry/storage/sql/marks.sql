-- name: clock
-- The database's clock, for a group without numbered batches.
SELECT clock_timestamp();

-- name: mark_batches
-- Steps 1 and 2 of the flush in one round trip: locks the producers whose epoch is still the
-- batches' own, in key order, against the UPDATE of a newer hello; reads the clock behind the
-- locks; marks the batches of locked producers, in key order. One row a batch. `held` is false where the producer is fenced, `fresh` where the number is
-- known. A claim fences as well: without it a hello's UPDATE starved behind overlapping flushes.
-- $1 shards int2[], $2 license_ids text[], $3 producer_ids text[], $4 epochs int8[]
-- $5 sequences int8[], $6 digests bytea[], $7 accepted int4[], $8 rejected int4[]
-- $9 adjusted int4[], $10 refusals int2[], $11 flush_id int8
WITH given AS (
    SELECT * FROM unnest($1::int2[], $2::text[], $3::text[], $4::int8[], $5::int8[], $6::bytea[],
        $7::int4[], $8::int4[], $9::int4[], $10::int2[]) WITH ORDINALITY
        AS one (shard, license_id, producer_id, epoch, sequence, digest,
            accepted, rejected, adjusted, refusal, place)
), locked AS MATERIALIZED (
    SELECT p.shard, p.license_id, p.producer_id, p.epoch
    FROM producers p
    JOIN (SELECT DISTINCT shard, license_id, producer_id, epoch FROM given) AS one
        USING (shard, license_id, producer_id, epoch)
    WHERE NOT EXISTS (SELECT FROM claims c
        WHERE c.shard = p.shard AND c.license_id = p.license_id
            AND c.producer_id = p.producer_id AND c.epoch > p.epoch)
    ORDER BY p.shard, p.license_id, p.producer_id
    FOR SHARE OF p
), clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now FROM (SELECT count(*) FROM locked) AS behind_the_locks
), marked AS (
    INSERT INTO batch_marks (shard, license_id, producer_id, sequence, digest,
        accepted_count, rejected_count, adjusted_count, refusal, flush_id)
    SELECT shard, license_id, producer_id, sequence, digest,
        accepted, rejected, adjusted, refusal, $11::int8
    FROM given JOIN locked USING (shard, license_id, producer_id, epoch)
    ORDER BY shard, license_id, producer_id, sequence
    ON CONFLICT DO NOTHING
    RETURNING shard, license_id, producer_id, sequence
)
SELECT clock.now, given.place - 1 AS place,
    locked.epoch IS NOT NULL AS held, marked.sequence IS NOT NULL AS fresh
FROM given CROSS JOIN clock
    LEFT JOIN locked USING (shard, license_id, producer_id, epoch)
    LEFT JOIN marked USING (shard, license_id, producer_id, sequence);

-- name: insert_request_marks
-- Marks unary requests in key order; what does not come back is a repeat.
-- $1 shards int2[], $2 license_ids text[], $3 request_ids uuid[], $4 digests bytea[]
-- $5 accepted int4[], $6 rejected int4[], $7 adjusted int4[], $8 flush_id int8, $9 now timestamptz
INSERT INTO request_marks (shard, license_id, request_id, digest,
    accepted_count, rejected_count, adjusted_count, flush_id, created_at)
SELECT shard, license_id, request_id, digest, accepted, rejected, adjusted,
    $8::int8, $9::timestamptz
FROM unnest($1::int2[], $2::text[], $3::uuid[], $4::bytea[], $5::int4[], $6::int4[], $7::int4[])
    AS given (shard, license_id, request_id, digest, accepted, rejected, adjusted)
ORDER BY shard, license_id, request_id
ON CONFLICT DO NOTHING
RETURNING shard, license_id, request_id;

-- name: batch_marks
-- The first answers to repeated batches; trimmed ones do not come back.
-- $1 shards int2[], $2 license_ids text[], $3 producer_ids text[], $4 sequences int8[]
SELECT m.shard, m.license_id, m.producer_id, m.sequence, m.digest,
    m.accepted_count, m.rejected_count, m.adjusted_count, m.refusal, m.flush_id
FROM unnest($1::int2[], $2::text[], $3::text[], $4::int8[])
    AS given (shard, license_id, producer_id, sequence)
JOIN batch_marks m USING (shard, license_id, producer_id, sequence);

-- name: request_marks
-- The first answers to repeated requests.
-- $1 shards int2[], $2 license_ids text[], $3 request_ids uuid[]
SELECT m.shard, m.license_id, m.request_id, m.digest,
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
