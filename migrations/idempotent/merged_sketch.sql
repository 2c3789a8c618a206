-- Two sketches of users as one: words in their order, and the bits of each. Like merged_histogram.
CREATE OR REPLACE FUNCTION merged_sketch(
    IN words_1 smallint[], IN bits_1 bigint[], IN words_2 smallint[], IN bits_2 bigint[],
    OUT words smallint[], OUT bits bigint[]
) RETURNS SETOF record
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT array_agg(word), array_agg(merged.bits)
    FROM (
        SELECT word, bit_or(entries.bits) AS bits
        FROM (
            SELECT unnest(words_1) AS word, unnest(bits_1) AS bits
            UNION ALL
            SELECT unnest(words_2), unnest(bits_2)
        ) AS entries
        GROUP BY word
        ORDER BY word
    ) AS merged
$$;
