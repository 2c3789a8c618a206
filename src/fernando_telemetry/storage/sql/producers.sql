-- name: claim
-- Claims the next epoch for a hello; no row: another hello took it, try again. From its commit on
-- flushes leave batches of older epochs out, so that raise_epoch need not wait for new ones.
-- Locks the producer's row against expiry, not against flushes.
-- $1 shard int2, $2 license_id text, $3 producer_id text, $4 now timestamptz
WITH known AS MATERIALIZED (
    SELECT epoch FROM producers
    WHERE shard = $1::int2 AND license_id = $2::text AND producer_id = $3::text
    FOR KEY SHARE
)
INSERT INTO claims (shard, license_id, producer_id, epoch, created_at)
SELECT $1::int2, $2::text, $3::text,
    greatest(coalesce((SELECT epoch FROM known), 0), coalesce((SELECT max(epoch) FROM claims
        WHERE shard = $1::int2 AND license_id = $2::text AND producer_id = $3::text), 0)) + 1,
    $4::timestamptz
ON CONFLICT DO NOTHING
RETURNING epoch;

-- name: raise_epoch
-- Makes a claimed epoch the producer's; waits for the flushes that hold its row. No row: a newer
-- hello came first, and this one is fenced.
-- $1 shard int2, $2 license_id text, $3 producer_id text, $4 epoch int8, $5 now timestamptz
INSERT INTO producers AS p (shard, license_id, producer_id, epoch, updated_at)
VALUES ($1::int2, $2::text, $3::text, $4::int8, $5::timestamptz)
ON CONFLICT (shard, license_id, producer_id)
DO UPDATE SET epoch = excluded.epoch, updated_at = excluded.updated_at
WHERE p.epoch < excluded.epoch
RETURNING epoch;

-- name: drop_claims
-- Drops the claims that an epoch has settled, those of hellos that came to nothing included.
-- $1 shard int2, $2 license_id text, $3 producer_id text, $4 epoch int8
DELETE FROM claims
WHERE shard = $1::int2 AND license_id = $2::text AND producer_id = $3::text
    AND epoch <= $4::int8;

-- name: hold_epoch
-- Locks a producer's row against newer hellos while its epoch is this one; no row: fenced.
-- $1 shard int2, $2 license_id text, $3 producer_id text, $4 epoch int8
SELECT epoch FROM producers
WHERE shard = $1::int2 AND license_id = $2::text AND producer_id = $3::text AND epoch = $4::int8
FOR SHARE;

-- name: known_numbers
-- What is known of a producer's numbers: the trimmed run, the end of the run that goes on from
-- it, and the highest number of all (NULL where nothing is known).
-- $1 shard int2, $2 license_id text, $3 producer_id text
WITH start AS (
    SELECT coalesce(max(contiguous_through), 0) AS through
    FROM progress WHERE shard = $1::int2 AND license_id = $2::text AND producer_id = $3::text
), numbered AS (
    SELECT sequence, sequence - row_number() OVER (ORDER BY sequence) AS offset_of_run
    FROM batch_marks, start
    WHERE shard = $1::int2 AND license_id = $2::text AND producer_id = $3::text
        AND sequence > start.through
)
SELECT start.through,
    greatest(start.through, (SELECT max(sequence) FROM numbered, start s
        WHERE offset_of_run = s.through)) AS last_sequence,
    (SELECT max(sequence) FROM numbered) AS highest_mark
FROM start;

-- name: raise_progress
-- Lets all numbers at or below `through` count as repeats; never lowers it.
-- $1 shard int2, $2 license_id text, $3 producer_id text, $4 through int8, $5 now timestamptz
INSERT INTO progress AS p (shard, license_id, producer_id, contiguous_through, updated_at)
VALUES ($1::int2, $2::text, $3::text, $4::int8, $5::timestamptz)
ON CONFLICT (shard, license_id, producer_id) DO UPDATE
SET contiguous_through = greatest(p.contiguous_through, excluded.contiguous_through),
    updated_at = excluded.updated_at;

-- name: trim_marks
-- Deletes marks at or below a number.
-- $1 shard int2, $2 license_id text, $3 producer_id text, $4 through int8
DELETE FROM batch_marks
WHERE shard = $1::int2 AND license_id = $2::text AND producer_id = $3::text
    AND sequence <= $4::int8;
