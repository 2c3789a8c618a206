-- name: all
-- The policies that were set; what has none goes by the settings.
SELECT kind, license_id, days FROM retention_policies;

-- name: hold
-- Keeps others from setting policies until the transaction ends; readers go on.
LOCK TABLE retention_policies IN SHARE ROW EXCLUSIVE MODE;

-- name: has_room
-- Whether a policy may be set: it is there already, or there are not yet too many.
-- $1 kind text
-- $2 license_id text
-- $3 most int8
SELECT EXISTS (SELECT FROM retention_policies WHERE kind = $1 AND license_id = $2)
    OR (SELECT count(*) FROM retention_policies) < $3::int8;

-- name: put
-- Sets a policy.
-- $1 kind text
-- $2 license_id text
-- $3 days int4
INSERT INTO retention_policies (kind, license_id, days, updated_at) VALUES ($1, $2, $3, now())
ON CONFLICT (kind, license_id)
DO UPDATE SET days = EXCLUDED.days, updated_at = EXCLUDED.updated_at;

-- name: remove
-- Removes a policy, if it is there.
-- $1 kind text
-- $2 license_id text
DELETE FROM retention_policies WHERE kind = $1 AND license_id = $2;
