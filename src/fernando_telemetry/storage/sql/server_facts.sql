-- name: facts
-- Version, and the settings without which a committed row may be lost.
SELECT current_setting('server_version') AS version, current_setting('fsync') AS fsync,
    current_setting('full_page_writes') AS full_page_writes;

-- name: database_bytes
-- Size of the database on disk.
SELECT pg_database_size(current_database());
