-- name: has_version_table
-- Tells whether Alembic's table exists: NULL when not.
SELECT to_regclass('alembic_version')::text;

-- name: revision
-- The schema's revision.
SELECT version_num FROM alembic_version;

-- name: idempotent_digest
-- Digest of the functions and views applied last.
SELECT idempotent_digest FROM installation;

-- name: set_idempotent_digest
-- Remembers what was applied; the first call installs the row.
-- $1 digest text
INSERT INTO installation (idempotent_digest) VALUES ($1)
ON CONFLICT (only_row) DO UPDATE SET idempotent_digest = excluded.idempotent_digest;

-- name: try_lock
-- Takes the migration lock for this session, or gives false at once.
SELECT pg_try_advisory_lock({migrating_lock});
