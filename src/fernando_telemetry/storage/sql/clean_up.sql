-- name: try_lock
-- Lets one clean-up run at a time; held by the session.
SELECT pg_try_advisory_lock(1179603533, 10);

-- name: need_no_sync
-- For a session that only deletes: what a crash brings back goes with the next clean-up.
SET synchronous_commit = off;
