-- name: lock_lanes
-- Lane numbers become visible in their order: an identity column's do not.
LOCK TABLE lanes IN SHARE ROW EXCLUSIVE MODE;

-- name: next_lane
-- Takes the next lane number.
INSERT INTO lanes (lane) SELECT coalesce(max(lane), 0) + 1 FROM lanes RETURNING lane;

-- name: hold_lane
-- Holds the lane for the life of this session; who obtains it later knows the session is gone.
-- $1 lane int4
SELECT pg_advisory_lock(1179603534, $1::int4);

-- name: await_lane_end
-- Waits until the session that held a lane is gone, its last transaction included.
-- $1 lane int4
SELECT pg_advisory_xact_lock(1179603534, $1::int4);

-- name: ping
-- Tells that the session answers.
SELECT 1;

-- name: clock
-- The database's clock: ingested_at of every row of the flush.
SELECT clock_timestamp();

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

-- name: insert_flush
-- Notes the flush: rows and time range per kind. A token is reached when this row shows.
-- $1 committed_on date, $2 flush_id int8, $3 ingested_at timestamptz
-- then count int4, min timestamptz, max timestamptz for each kind of table
INSERT INTO flushes (committed_on, shard, flush_id, ingested_at,
    event_count, event_min_time, event_max_time,
    sample_count, sample_min_time, sample_max_time,
    distribution_count, distribution_min_time, distribution_max_time,
    business_metric_count, business_metric_min_time, business_metric_max_time,
    span_count, span_min_time, span_max_time)
VALUES ($1::date, 0, $2::int8, $3::timestamptz,
    $4::int4, $5::timestamptz, $6::timestamptz,
    $7::int4, $8::timestamptz, $9::timestamptz,
    $10::int4, $11::timestamptz, $12::timestamptz,
    $13::int4, $14::timestamptz, $15::timestamptz,
    $16::int4, $17::timestamptz, $18::timestamptz);

-- name: flush_exists
-- Tells whether a flush was committed; decisive once its lane's session is gone.
-- $1 flush_id int8
SELECT EXISTS (SELECT FROM flushes
    WHERE committed_on >= CURRENT_DATE - 2 AND flush_id = $1::int8);
