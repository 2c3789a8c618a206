-- name: tell
-- Wakes whoever listens to a channel. By itself it writes no WAL that a commit would wait for.
-- $1 channel text
SELECT pg_notify($1, '');
