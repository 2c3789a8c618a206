-- name: known_series
-- Ids of series that exist.
-- $1 identity_hashes uuid[]
SELECT identity_hash, series_id, seen_on FROM metric_series WHERE identity_hash = ANY ($1::uuid[]);

-- name: hold_known_series
-- The same, and keeps them from being deleted until the transaction ends.
-- $1 identity_hashes uuid[]
SELECT identity_hash, series_id, seen_on FROM metric_series WHERE identity_hash = ANY ($1::uuid[])
ORDER BY series_id
FOR NO KEY UPDATE;

-- name: insert_series
-- Makes series in the order of their hashes; those another server made meanwhile do not come back.
-- $1 hashes uuid[], $2 names text[], $3 types text[], $4 units text[], $5 services text[]
-- $6 hosts text[], $7 instances text[], $8 labels text[], $9 licenses text[], $10 temporalities text[]
-- $11 seen_on date
INSERT INTO metric_series (identity_hash, metric_name, metric_type, metric_unit, service_name,
    host_name, instance_id, labels, license_id, temporality, seen_on)
SELECT hash, name, type::metric_type, nullif(unit, ''), nullif(service, ''), nullif(host, ''),
    nullif(instance, ''), labels::jsonb, nullif(license, ''), nullif(temporality, '')::temporality,
    $11::date
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
    $8::text[], $9::text[], $10::text[])
    AS given (hash, name, type, unit, service, host, instance, labels, license, temporality)
ORDER BY hash
ON CONFLICT (identity_hash) DO NOTHING;

-- name: raise_seen_on
-- Notes that series are in use today, once a day; locked in one order, since all servers do it.
-- $1 series_ids int4[]
-- $2 today date
WITH stale AS (
    SELECT series_id FROM metric_series WHERE series_id = ANY ($1::int4[]) AND seen_on < $2::date
    ORDER BY series_id
    FOR NO KEY UPDATE
)
UPDATE metric_series s SET seen_on = $2::date FROM stale WHERE s.series_id = stale.series_id;

-- name: seen_since
-- Of these series those that are there and were seen on this day or later.
-- $1 series_ids int4[]
-- $2 day date
SELECT series_id FROM metric_series WHERE series_id = ANY ($1::int4[]) AND seen_on >= $2::date;

-- name: lock_counts
-- Takes the counts of metrics, made where they are missing, in the order of their keys.
-- $1 metric_names text[]
-- $2 license_ids text[], '' for none
INSERT INTO series_counts (metric_name, license_id, counted_on, series_count)
SELECT name, license, '-infinity'::date, 0
FROM unnest($1::text[], $2::text[]) AS given (name, license)
ORDER BY name COLLATE "C", license COLLATE "C"
ON CONFLICT (metric_name, license_id) DO UPDATE SET series_count = series_counts.series_count
RETURNING metric_name, license_id, counted_on, series_count, label_ranking, ranked_on, ranked_count;

-- name: count_series
-- Series of metrics that were seen after a day.
-- $1 metric_names text[]
-- $2 license_ids text[], '' for none
-- $3 day date
SELECT name, license,
    (SELECT count(*) FROM metric_series
        WHERE metric_name = name AND license_id = license AND seen_on > $3::date)
    + CASE WHEN license = '' THEN (SELECT count(*) FROM metric_series
        WHERE metric_name = name AND license_id IS NULL AND seen_on > $3::date) ELSE 0 END AS count
FROM unnest($1::text[], $2::text[]) AS given (name, license);

-- name: save_counts
-- Notes counts; their rows are locked by lock_counts.
-- $1 metric_names text[]
-- $2 license_ids text[]
-- $3 counts int4[]
-- $4 today date
UPDATE series_counts c
SET series_count = given.count, counted_on = greatest(c.counted_on, $4::date)
FROM unnest($1::text[], $2::text[], $3::int4[]) AS given (name, license, count)
WHERE c.metric_name = given.name AND c.license_id = given.license;

-- name: rank_labels
-- Label keys of a metric, the one with most distinct values first: of its series seen after a day
-- and of those that want to be made.
-- $1 metric_name text
-- $2 license_id text, '' for none
-- $3 day date
-- $4 labels text[], JSON objects of those that want to be made
SELECT label.key
FROM (
    SELECT labels FROM metric_series
    WHERE metric_name = $1::text AND seen_on > $3::date
        AND (license_id = $2::text OR ($2::text = '' AND license_id IS NULL))
    UNION ALL SELECT labels::jsonb FROM unnest($4::text[]) AS wanted (labels)
) series CROSS JOIN LATERAL jsonb_each_text(series.labels) AS label (key, value)
GROUP BY label.key
ORDER BY count(DISTINCT label.value) DESC, label.key COLLATE "C"
LIMIT 64;

-- name: save_ranking
-- Notes a metric's ranking; its row is locked by lock_counts.
-- $1 metric_name text
-- $2 license_id text, '' for none
-- $3 label_ranking text[]
-- $4 today date
-- $5 series_count int4
UPDATE series_counts SET label_ranking = $3::text[], ranked_on = $4::date, ranked_count = $5::int4
WHERE metric_name = $1::text AND license_id = $2::text;

-- name: next_series_id
-- Last id of the next stretch of series, by id; NULL at the end.
-- $1 after int4
-- $2 stretch int4
SELECT max(series_id) FROM (
    SELECT series_id FROM metric_series WHERE series_id > $1::int4
    ORDER BY series_id LIMIT $2::int4
) stretch;

-- name: delete_series
-- Deletes series of a stretch that were last seen before a day; those in use right now stay.
-- $1 after int4
-- $2 last int4
-- $3 day date
DELETE FROM metric_series WHERE series_id IN (
    SELECT series_id FROM metric_series
    WHERE series_id > $1::int4 AND series_id <= $2::int4 AND seen_on < $3::date
    FOR UPDATE SKIP LOCKED
);

-- name: delete_counts
-- Deletes counts not needed since a day, some at a time.
-- $1 day date
-- $2 stretch int4
DELETE FROM series_counts WHERE (metric_name, license_id) IN (
    SELECT metric_name, license_id FROM series_counts WHERE counted_on < $1::date
    LIMIT $2::int4
    FOR UPDATE SKIP LOCKED
);

-- name: try_expiry
-- Lets one server at a time delete series; ends with the transaction.
SELECT pg_try_advisory_xact_lock({expiring_series_lock});
