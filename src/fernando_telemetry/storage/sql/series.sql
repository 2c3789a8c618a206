-- name: known_series
-- Ids of series that exist.
-- $1 identity_hashes uuid[]
SELECT identity_hash, series_id, seen_on FROM metric_series WHERE identity_hash = ANY ($1::uuid[]);

-- name: insert_series
-- Makes series in the order of their hashes; those another server made meanwhile do not come back.
-- $1 hashes uuid[], $2 names text[], $3 types text[], $4 units text[], $5 services text[]
-- $6 hosts text[], $7 instances text[], $8 labels text[], $9 licenses text[], $10 temporalities text[]
INSERT INTO metric_series (identity_hash, metric_name, metric_type, metric_unit, service_name,
    host_name, instance_id, labels, license_id, temporality)
SELECT hash, name, type::metric_type, nullif(unit, ''), nullif(service, ''), nullif(host, ''),
    nullif(instance, ''), labels::jsonb, nullif(license, ''), nullif(temporality, '')::temporality
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
    $8::text[], $9::text[], $10::text[])
    AS given (hash, name, type, unit, service, host, instance, labels, license, temporality)
ORDER BY hash
ON CONFLICT (identity_hash) DO NOTHING;

-- name: raise_seen_on
-- Notes that series are in use today, once a day.
-- $1 series_ids int4[]
UPDATE metric_series SET seen_on = CURRENT_DATE
WHERE series_id = ANY ($1::int4[]) AND seen_on < CURRENT_DATE;
