-- Two sparse histograms as one: buckets in their order, and how many lie in each. In the fold it is
-- put into the statement as if it stood there, which it is as long as it is IMMUTABLE and no more.
CREATE OR REPLACE FUNCTION merged_histogram(
    IN buckets_1 smallint[], IN counts_1 bigint[], IN buckets_2 smallint[], IN counts_2 bigint[],
    OUT buckets smallint[], OUT counts bigint[]
) RETURNS SETOF record
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(array_agg(bucket), '{}'), coalesce(array_agg(amount), '{}')
    FROM (
        SELECT bucket, sum(amount)::bigint AS amount
        FROM (
            SELECT unnest(buckets_1) AS bucket, unnest(counts_1) AS amount
            UNION ALL
            SELECT unnest(buckets_2), unnest(counts_2)
        ) AS entries
        GROUP BY bucket
        ORDER BY bucket
    ) AS merged
$$;
