"""Puts the statement of a summary by type together, whose arrays are merged outside of PostgreSQL.

An hour has a row for each type, so a day has some 170, each with a histogram and a sketch. To
unnest and group these took PostgreSQL eight times as long as to send them. Where a group is one row
alone, as by hour and type, they are not even sent: the row has what comes of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from fernando_telemetry.storage.list_statement import filtered
from fernando_telemetry.storage.statements import load

sql = load("event_summary")

# Arrays of longer ranges are merged by PostgreSQL: a week's are some 16 MB.
LONGEST_SENT: Final = timedelta(days=7)


def license_counts(rows: str, select: str, keys: str, conditions: Sequence[str]) -> str:
    """Give the statement for the number of licences of each group, where hours are kept by type.

    Args:
        rows: A table with keys and license_id of what is not in whole hours.
        select: Expressions of the groups' keys, over columns of events.
        keys: Names of the keys.
        conditions: The request's filter, which names the type alone.
    """
    # Made of fixed expressions and parameters only.
    return f"""    SELECT {keys}, count(license_id) AS unique_licenses
    FROM (
        SELECT {keys}, license_id FROM {rows}
        UNION
        SELECT {select}, license_id FROM ({filtered(sql.rolled_licenses, conditions)}) AS events
    ) AS every
    GROUP BY {keys}"""  # noqa: S608


def hourly_license_counts(rows: str, select: str, keys: str, conditions: Sequence[str]) -> str:
    """Give the same of groups that are an hour and a type: no hour lies in two of them.

    Args:
        rows: As above; of other hours than the whole ones.
        select: As above.
        keys: As above.
        conditions: As above.
    """
    # Made of fixed expressions and parameters only.
    return f"""    SELECT {keys}, count(DISTINCT license_id) AS unique_licenses
    FROM {rows} GROUP BY {keys}
    UNION ALL
    SELECT {select}, unique_licenses FROM ({filtered(sql.license_counts, conditions)}) AS events"""  # noqa: S608


def type_summary(
    select: str,
    keys: str,
    conditions: Sequence[str],
    raw: Sequence[str],
    raw_users: Sequence[str],
    behind: str,
    ordered: str,
    *,
    is_hourly: bool,
) -> str:
    """Give the statement: keys, sums, unique_licenses, and what p95 and users come of.

    `p95_bucket` and `set_bits` are of groups that are one row alone; else they are NULL, and
    `histograms` and `sketches` have the arrays as sent.

    Args:
        select: Expressions of the groups' keys, over columns of events.
        keys: Names of the keys.
        conditions: The request's filter, which names the type alone.
        raw: The statements of events from raw rows, filtered.
        raw_users: Those of their users.
        behind: The WHERE clause of the page's place, or "".
        ordered: The ORDER BY and LIMIT clauses of the page.
        is_hourly: The groups are by hour and type, and no raw row lies in a whole hour.
    """
    rolled, sketches = (
        filtered(one, conditions) for one in (sql.parts_by_type, sql.sketches_by_type)
    )
    licenses = (hourly_license_counts if is_hourly else license_counts)(
        "raw", select, keys, conditions
    )
    # Made of fixed expressions and parameters only.
    return f"""
WITH raw AS MATERIALIZED (
    SELECT {select}, event_type, license_id, duration_count, duration_sum, duration_buckets
    FROM ({" UNION ALL ".join(raw)}) AS events
), rolled AS MATERIALIZED (
    SELECT {select}, event_type, event_count, duration_count, duration_sum, duration_buckets,
        duration_counts, p95_bucket
    FROM ({rolled}) AS events
), sums AS (
    SELECT {keys}, event_type, count(*) AS event_count, sum(duration_count) AS duration_count,
        sum(duration_sum) AS duration_sum
    FROM raw GROUP BY {keys}, event_type
    UNION ALL
    SELECT {keys}, event_type, event_count, duration_count, duration_sum FROM rolled
), page AS (
    SELECT {keys}, sum(event_count)::int8 AS event_count,
        coalesce(sum(event_count) FILTER (WHERE event_type = 'error_event'), 0)::int8
            AS error_count,
        sum(duration_sum) / nullif(sum(duration_count), 0)::float8 AS avg_duration_ms
    FROM sums {behind} GROUP BY {keys}
    {ordered}
), raw_buckets AS (
    SELECT {keys}, duration_buckets[1] AS bucket, count(*) AS amount
    FROM raw WHERE duration_count > 0 GROUP BY {keys}, duration_buckets[1]
), histograms AS (
    SELECT {keys}, min(p95_bucket) FILTER (WHERE parts = 1) AS p95_bucket,
        string_agg(array_send(buckets) || array_send(amounts), '')
            FILTER (WHERE parts > 1 OR p95_bucket IS NULL) AS histograms
    FROM (
        SELECT *, count(*) OVER (PARTITION BY {keys}) AS parts
        FROM (
            SELECT {keys}, duration_buckets AS buckets, duration_counts AS amounts, p95_bucket
            FROM rolled WHERE duration_count > 0
            UNION ALL
            SELECT {keys}, array_agg(bucket), array_agg(amount), NULL
            FROM raw_buckets GROUP BY {keys}
        ) AS every
    ) AS counted
    GROUP BY {keys}
), licenses AS (
{licenses}
), raw_words AS (
    SELECT {keys}, word, bit_or(bits) AS bits
    FROM (SELECT {select}, word, bits FROM ({" UNION ALL ".join(raw_users)}) AS events) AS users
    GROUP BY {keys}, word
), sketches AS (
    SELECT {keys}, min(set_bits) FILTER (WHERE parts = 1) AS set_bits,
        string_agg(array_send(user_words) || array_send(user_bits), '')
            FILTER (WHERE parts > 1 OR set_bits IS NULL) AS sketches
    FROM (
        SELECT *, count(*) OVER (PARTITION BY {keys}) AS parts
        FROM (
            SELECT {select}, user_words, user_bits, set_bits FROM ({sketches}) AS events
            WHERE cardinality(user_words) > 0
            UNION ALL
            SELECT {keys}, array_agg(word), array_agg(bits), NULL FROM raw_words GROUP BY {keys}
        ) AS every
    ) AS counted
    GROUP BY {keys}
)
SELECT {keys}, event_count, error_count, coalesce(unique_licenses, 0) AS unique_licenses,
    avg_duration_ms, p95_bucket, coalesce(histograms, '') AS histograms, set_bits,
    coalesce(sketches, '') AS sketches
FROM page LEFT JOIN histograms USING ({keys}) LEFT JOIN licenses USING ({keys})
    LEFT JOIN sketches USING ({keys})
"""  # noqa: S608
