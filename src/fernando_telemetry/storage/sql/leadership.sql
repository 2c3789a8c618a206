-- name: try_lead
-- Becomes the leader for the life of this session, or gives false at once.
SELECT pg_try_advisory_lock(1179603535, 1);

-- name: still_leads
-- Tells whether this session holds the leader's lock; also a sign of life.
SELECT EXISTS (SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND granted
        AND classid = 1179603535 AND objid = 1);

-- name: notice_dead_peer
-- Lets PostgreSQL notice within about ten seconds that this server's machine is gone; over a
-- unix socket it is told at once, and this does nothing.
SELECT set_config('tcp_keepalives_idle', '4', false),
    set_config('tcp_keepalives_interval', '2', false),
    set_config('tcp_keepalives_count', '3', false);
