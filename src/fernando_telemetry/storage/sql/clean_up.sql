-- name: try_lock
-- Lets one clean-up run at a time; held by the session.
SELECT pg_try_advisory_lock({cleaning_up_lock});

-- name: unlock
-- Lets the next clean-up begin at once; this session's end does so a little later.
SELECT pg_advisory_unlock({cleaning_up_lock});

-- name: need_no_sync
-- For a session that only deletes: what a crash brings back goes with the next clean-up.
SET synchronous_commit = off;
