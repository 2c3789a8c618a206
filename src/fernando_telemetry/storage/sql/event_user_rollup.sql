-- name: fold
-- Moves deltas of users into both roll-ups, by type and by type, category and licence, and tells
-- how many. Groups are numbered first, as in the fold of events.
-- $1 most_deltas int8
-- $2 oldest_hour timestamptz: older ones are past the roll-up's term
WITH taken AS (
    DELETE FROM event_user_deltas WHERE (tableoid, ctid) IN (
        SELECT tableoid, ctid FROM event_user_deltas LIMIT $1::int8)
    RETURNING *
), numbered AS MATERIALIZED (
    SELECT *, dense_rank() OVER (ORDER BY shard, hour, event_type, license_id, event_category)
            AS group_number,
        dense_rank() OVER (ORDER BY shard, hour, event_type) AS type_number
    FROM taken
    WHERE hour >= $2::timestamptz
), groups AS (
    SELECT DISTINCT group_number, type_number, shard, hour, license_id, event_type, event_category
    FROM numbered
), words AS (
    SELECT group_number, word, bit_or(bits) AS bits
    FROM (
        SELECT group_number, unnest(user_words) AS word, unnest(user_bits) AS bits FROM numbered
    ) AS entries
    GROUP BY group_number, word
), sketches AS (
    SELECT group_number, array_agg(word) AS user_words, array_agg(bits) AS user_bits
    FROM (SELECT * FROM words ORDER BY group_number, word) AS sorted
    GROUP BY group_number
), type_words AS (
    SELECT type_number, word, bit_or(bits) AS bits
    FROM words JOIN groups USING (group_number)
    GROUP BY type_number, word
), type_sketches AS (
    SELECT type_number, array_agg(word) AS user_words, array_agg(bits) AS user_bits
    FROM (SELECT * FROM type_words ORDER BY type_number, word) AS sorted
    GROUP BY type_number
), added AS (
    INSERT INTO event_user_hours AS h (shard, hour, license_id, event_type, event_category,
        user_words, user_bits)
    SELECT shard, hour, license_id, event_type, event_category, user_words, user_bits
    FROM groups JOIN sketches USING (group_number)
    ON CONFLICT (shard, hour, license_id, event_type, event_category)
    DO UPDATE SET (user_words, user_bits) = (
        SELECT words, bits FROM merged_sketch(h.user_words, h.user_bits,
            excluded.user_words, excluded.user_bits) AS merged
    )
), added_types AS (
    INSERT INTO event_type_user_hours AS h (shard, hour, event_type, user_words, user_bits)
    SELECT shard, hour, event_type, user_words, user_bits
    FROM (SELECT DISTINCT type_number, shard, hour, event_type FROM groups) AS types
        JOIN type_sketches USING (type_number)
    ON CONFLICT (shard, hour, event_type)
    DO UPDATE SET (user_words, user_bits) = (
        SELECT words, bits FROM merged_sketch(h.user_words, h.user_bits,
            excluded.user_words, excluded.user_bits) AS merged
    )
)
SELECT count(*) FROM taken;

-- name: make_up
-- Appends the deltas of raw events that were stored without, as their flushes would have.
-- $1 start timestamptz, $2 end timestamptz, exclusive
-- $3 firsts int8[], $4 lasts int8[]: of flushes, pair by pair
WITH places AS (
    SELECT DISTINCT date_trunc('hour', event_timestamp, 'UTC') AS hour, event_type,
        coalesce(event_category, '') AS event_category, coalesce(license_id, '') AS license_id,
        user_place(user_id) AS place
    FROM telemetry_events
    WHERE event_timestamp >= $1::timestamptz AND event_timestamp < $2::timestamptz
        AND user_id IS NOT NULL
        AND EXISTS (SELECT FROM unnest($3::int8[], $4::int8[]) AS gap (first, last)
            WHERE flush_id >= gap.first AND flush_id <= gap.last)
), words AS (
    SELECT hour, event_type, event_category, license_id, (place / 64)::int2 AS word,
        bit_or(1::int8 << (place % 64)) AS bits
    FROM places
    GROUP BY hour, event_type, event_category, license_id, place / 64
)
INSERT INTO event_user_deltas (flushed_at, shard, hour, event_type, event_category, license_id,
    user_words, user_bits)
SELECT clock_timestamp(), 0, hour, event_type, event_category, license_id,
    array_agg(word ORDER BY word), array_agg(bits ORDER BY word)
FROM words
GROUP BY hour, event_type, event_category, license_id;

-- name: expire_hours
-- Forgets hours past the roll-up's term; $2 at most.
-- $1 before timestamptz, $2 limit int8
WITH gone AS (
    DELETE FROM event_user_hours WHERE ctid IN (
        SELECT ctid FROM event_user_hours WHERE hour < $1::timestamptz LIMIT $2::int8)
    RETURNING 1
)
SELECT count(*) FROM gone;

-- name: expire_type_hours
-- Forgets those by type alone.
-- $1 before timestamptz, $2 limit int8
WITH gone AS (
    DELETE FROM event_type_user_hours WHERE ctid IN (
        SELECT ctid FROM event_type_user_hours WHERE hour < $1::timestamptz LIMIT $2::int8)
    RETURNING 1
)
SELECT count(*) FROM gone;

-- name: compare_hours
-- Whole hours of users by type, category and licence, deltas included, against raw events.
-- $1 start timestamptz, $2 end timestamptz, exclusive
-- $3 aside text[]: licences that are left out
WITH raw AS (
    SELECT date_trunc('hour', event_timestamp, 'UTC') AS hour,
        coalesce(license_id, '') AS license_id, event_type,
        coalesce(event_category, '') AS event_category, user_place(user_id) AS place,
        count(*) AS event_count
    FROM telemetry_events
    WHERE event_timestamp >= $1::timestamptz AND event_timestamp < $2::timestamptz
        AND user_id IS NOT NULL AND coalesce(license_id, '') <> ALL ($3::text[])
    GROUP BY 1, 2, 3, 4, 5
), parts AS (
    SELECT true AS is_raw, hour, license_id, event_type, event_category,
        (place / 64)::int2 AS word, 1::int8 << (place % 64) AS bits
    FROM raw
    UNION ALL
    SELECT false, hour, license_id, event_type, event_category, word, bits
    FROM (
        SELECT hour, license_id, event_type, event_category, user_words, user_bits
        FROM event_user_hours
        UNION ALL
        SELECT hour, license_id, event_type, event_category, user_words, user_bits
        FROM event_user_deltas
    ) AS kept, unnest(user_words, user_bits) AS u (word, bits)
    WHERE hour >= $1::timestamptz AND hour < $2::timestamptz AND license_id <> ALL ($3::text[])
), words AS (
    SELECT hour, license_id, event_type, event_category, word,
        bit_or(bits) FILTER (WHERE is_raw) IS DISTINCT FROM bit_or(bits) FILTER (WHERE NOT is_raw)
            AS differs
    FROM parts
    GROUP BY hour, license_id, event_type, event_category, word
), groups AS (
    SELECT bool_or(differs) AS differs FROM words
    GROUP BY hour, license_id, event_type, event_category
)
SELECT (SELECT coalesce(sum(event_count), 0) FROM raw)::int8 AS raw_rows,
    count(*) AS groups, count(*) FILTER (WHERE differs) AS differences
FROM groups;

-- name: compare_type_hours
-- Whole hours of users by type alone against those by type, category and licence, which
-- compare_hours proves. Deltas go into both alike.
-- $1 start timestamptz, $2 end timestamptz, exclusive
-- $3 aside text[]: not used, both sides have all licences
WITH parts AS (
    SELECT true AS is_whole, hour, event_type, word, bits
    FROM event_type_user_hours, unnest(user_words, user_bits) AS u (word, bits)
    WHERE hour >= $1::timestamptz AND hour < $2::timestamptz
    UNION ALL
    SELECT false, hour, event_type, word, bits
    FROM event_user_hours, unnest(user_words, user_bits) AS u (word, bits)
    WHERE hour >= $1::timestamptz AND hour < $2::timestamptz AND $3::text[] IS NOT NULL
), words AS (
    SELECT hour, event_type, word,
        bit_or(bits) FILTER (WHERE is_whole)
            IS DISTINCT FROM bit_or(bits) FILTER (WHERE NOT is_whole) AS differs
    FROM parts
    GROUP BY hour, event_type, word
), groups AS (
    SELECT bool_or(differs) AS differs FROM words GROUP BY hour, event_type
)
SELECT 0::int8 AS raw_rows, count(*) AS groups, count(*) FILTER (WHERE differs) AS differences
FROM groups;

-- name: forget_deltas
-- Deletes what is not folded of whole hours, before they are written anew.
-- $1 start timestamptz, $2 end timestamptz, exclusive, $3 aside text[]: licences that stay
DELETE FROM event_user_deltas
WHERE hour >= $1::timestamptz AND hour < $2::timestamptz AND license_id <> ALL ($3::text[]);

-- name: forget_hours
-- Deletes whole hours.
-- $1 start timestamptz, $2 end timestamptz, exclusive, $3 aside text[]: licences that stay
DELETE FROM event_user_hours
WHERE hour >= $1::timestamptz AND hour < $2::timestamptz AND license_id <> ALL ($3::text[]);

-- name: forget_type_hours
-- Deletes those by type alone, of all licences: they are put together anew.
-- $1 start timestamptz, $2 end timestamptz, exclusive, $3 aside text[]: not used
DELETE FROM event_type_user_hours
WHERE hour >= $1::timestamptz AND hour < $2::timestamptz AND $3::text[] IS NOT NULL;

-- name: fill_hours
-- Writes whole hours anew from raw events.
-- $1 start timestamptz, $2 end timestamptz, exclusive, $3 aside text[]: licences left out
WITH places AS (
    SELECT DISTINCT date_trunc('hour', event_timestamp, 'UTC') AS hour,
        coalesce(license_id, '') AS license_id, event_type,
        coalesce(event_category, '') AS event_category, user_place(user_id) AS place
    FROM telemetry_events
    WHERE event_timestamp >= $1::timestamptz AND event_timestamp < $2::timestamptz
        AND user_id IS NOT NULL AND coalesce(license_id, '') <> ALL ($3::text[])
), words AS (
    SELECT hour, license_id, event_type, event_category, (place / 64)::int2 AS word,
        bit_or(1::int8 << (place % 64)) AS bits
    FROM places
    GROUP BY hour, license_id, event_type, event_category, place / 64
)
INSERT INTO event_user_hours (shard, hour, license_id, event_type, event_category, user_words,
    user_bits)
SELECT 0, hour, license_id, event_type, event_category, array_agg(word ORDER BY word),
    array_agg(bits ORDER BY word)
FROM words
GROUP BY hour, license_id, event_type, event_category;

-- name: fill_type_hours
-- Puts whole hours by type alone together from those by type, category and licence.
-- $1 start timestamptz, $2 end timestamptz, exclusive, $3 aside text[]: not used
WITH words AS (
    SELECT hour, event_type, word, bit_or(bits) AS bits
    FROM event_user_hours, unnest(user_words, user_bits) AS u (word, bits)
    WHERE hour >= $1::timestamptz AND hour < $2::timestamptz AND $3::text[] IS NOT NULL
    GROUP BY hour, event_type, word
)
INSERT INTO event_type_user_hours (shard, hour, event_type, user_words, user_bits)
SELECT 0, hour, event_type, array_agg(word ORDER BY word), array_agg(bits ORDER BY word)
FROM words
GROUP BY hour, event_type;
