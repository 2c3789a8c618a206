-- name: raise_epoch
-- Registers a hello and gives the producer's new epoch.
-- $1 shard int2, $2 license_id text, $3 producer_id text, $4 now timestamptz
INSERT INTO producers AS p (shard, license_id, producer_id, epoch, updated_at)
VALUES ($1::int2, $2::text, $3::text, 1, $4::timestamptz)
ON CONFLICT (shard, license_id, producer_id)
DO UPDATE SET epoch = p.epoch + 1, updated_at = excluded.updated_at
RETURNING epoch;

-- name: known_numbers
-- What is known of a producer's numbers: the trimmed run, the end of the run that goes on from
-- it, and the highest number of all (NULL where nothing is known).
-- $1 shard int2, $2 license_id text, $3 producer_id text
WITH start AS (
    SELECT coalesce(max(contiguous_through), 0) AS through, count(*) > 0 AS known
    FROM progress WHERE shard = $1::int2 AND license_id = $2::text AND producer_id = $3::text
), numbered AS (
    SELECT sequence, sequence - row_number() OVER (ORDER BY sequence) AS offset_of_run
    FROM batch_marks, start
    WHERE shard = $1::int2 AND license_id = $2::text AND producer_id = $3::text
        AND sequence > start.through
)
SELECT start.known, start.through,
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
