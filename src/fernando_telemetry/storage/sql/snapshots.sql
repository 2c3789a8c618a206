-- name: reached
-- Which of these flushes show: their row does, or it has left the table already. One that never
-- was does not show; nor does one of a lane that has not come here yet.
-- $1 flush_ids int8[]
SELECT given.flush_id
FROM unnest($1::int8[]) AS given (flush_id)
WHERE EXISTS (SELECT FROM flushes f WHERE f.flush_id = given.flush_id)
    OR EXISTS (SELECT FROM lanes l WHERE l.lane = (given.flush_id >> 40)::int4
        AND l.pruned_through >= given.flush_id & ((1::int8 << 40) - 1));
