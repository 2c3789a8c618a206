-- name: try_hold_expiry
-- One server expires at a time; the lock goes with the transaction.
SELECT pg_try_advisory_xact_lock({expiring_requests_lock});

-- name: expire_requests
-- Forgets the oldest unary requests, a step at a time; gives how many.
-- $1 before timestamptz, $2 limit int4
WITH old AS (
    SELECT shard, license_id, request_id FROM request_marks
    WHERE created_at < $1::timestamptz ORDER BY created_at LIMIT $2::int4
), gone AS (
    DELETE FROM request_marks m USING old
    WHERE m.shard = old.shard AND m.license_id = old.license_id
        AND m.request_id = old.request_id
    RETURNING 1
)
SELECT count(*) FROM gone;

-- name: lock_unused_producers
-- Takes producers that were not used for long, against hellos and flushes: those that hold one
-- now are using it, so it is passed over.
-- $1 before timestamptz, $2 limit int4
SELECT p.shard, p.license_id, p.producer_id
FROM producers p
WHERE p.updated_at < $1::timestamptz
    AND NOT EXISTS (SELECT FROM progress g
        WHERE g.shard = p.shard AND g.license_id = p.license_id
            AND g.producer_id = p.producer_id AND g.updated_at >= $1::timestamptz)
    AND NOT EXISTS (SELECT FROM claims c
        WHERE c.shard = p.shard AND c.license_id = p.license_id
            AND c.producer_id = p.producer_id AND c.created_at >= $1::timestamptz)
ORDER BY p.updated_at
LIMIT $2::int4
FOR UPDATE OF p SKIP LOCKED;

-- name: still_unused
-- Looks again behind the locks, with a snapshot of its own: what was noted just before them, by a
-- stream that is open or a hello that has only claimed, counts as use.
-- $1 before timestamptz, $2 shards int2[], $3 license_ids text[], $4 producer_ids text[]
SELECT given.shard, given.license_id, given.producer_id
FROM unnest($2::int2[], $3::text[], $4::text[]) AS given (shard, license_id, producer_id)
WHERE NOT EXISTS (SELECT FROM progress g
        WHERE g.shard = given.shard AND g.license_id = given.license_id
            AND g.producer_id = given.producer_id AND g.updated_at >= $1::timestamptz)
    AND NOT EXISTS (SELECT FROM claims c
        WHERE c.shard = given.shard AND c.license_id = given.license_id
            AND c.producer_id = given.producer_id AND c.created_at >= $1::timestamptz);

-- name: expire_marks
-- Forgets the marks of expired producers.
-- $1 shards int2[], $2 license_ids text[], $3 producer_ids text[]
DELETE FROM batch_marks m
USING unnest($1::int2[], $2::text[], $3::text[]) AS given (shard, license_id, producer_id)
WHERE m.shard = given.shard AND m.license_id = given.license_id
    AND m.producer_id = given.producer_id;

-- name: expire_progress
-- Forgets how far expired producers had come.
-- $1 shards int2[], $2 license_ids text[], $3 producer_ids text[]
DELETE FROM progress g
USING unnest($1::int2[], $2::text[], $3::text[]) AS given (shard, license_id, producer_id)
WHERE g.shard = given.shard AND g.license_id = given.license_id
    AND g.producer_id = given.producer_id;

-- name: expire_claims
-- Forgets claims of expired producers that came to nothing.
-- $1 shards int2[], $2 license_ids text[], $3 producer_ids text[]
DELETE FROM claims c
USING unnest($1::int2[], $2::text[], $3::text[]) AS given (shard, license_id, producer_id)
WHERE c.shard = given.shard AND c.license_id = given.license_id
    AND c.producer_id = given.producer_id;

-- name: expire_producers
-- Forgets expired producers themselves.
-- $1 shards int2[], $2 license_ids text[], $3 producer_ids text[]
DELETE FROM producers p
USING unnest($1::int2[], $2::text[], $3::text[]) AS given (shard, license_id, producer_id)
WHERE p.shard = given.shard AND p.license_id = given.license_id
    AND p.producer_id = given.producer_id;

-- name: expire_lone_claims
-- Forgets claims of first hellos that came to nothing, a step at a time; gives how many.
-- $1 before timestamptz, $2 limit int4
WITH old AS (
    SELECT shard, license_id, producer_id, epoch FROM claims c
    WHERE created_at < $1::timestamptz AND NOT EXISTS (SELECT FROM producers p
        WHERE p.shard = c.shard AND p.license_id = c.license_id
            AND p.producer_id = c.producer_id)
    LIMIT $2::int4
), gone AS (
    DELETE FROM claims c USING old
    WHERE c.shard = old.shard AND c.license_id = old.license_id
        AND c.producer_id = old.producer_id AND c.epoch = old.epoch
    RETURNING 1
)
SELECT count(*) FROM gone;
