"""Puts the statements of QuerySystemMetrics together: samples to aligned values to lines.

    samples    plain ones and distributions in one shape
    aligned    a value for each series (or group) and bucket
    lines      all buckets of a series or group as arrays

Made of fixed expressions and parameters only. Parameters are always

    $1 series_ids         int4[]
    $2 keys               int4[]: the number of each series' line
    $3 are_cumulative     bool[]: whether its values count on from sample to sample
    $4 from               timestamptz: earlier samples only tell where counters stood
    $5 period             interval
    $6 most_rows          int8
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from fernando_telemetry.domain.alignment import GROWTHS, PERCENTILES, Aggregation
from fernando_telemetry.domain.filters import Filter
from fernando_telemetry.domain.rollup_cover import Cover
from fernando_telemetry.domain.time_range import TimeRange
from fernando_telemetry.storage.list_samples import DISTRIBUTIONS, SAMPLES
from fernando_telemetry.storage.list_statement import Parameters, compiled, filtered
from fernando_telemetry.storage.rollup_gaps import Gaps
from fernando_telemetry.storage.statements import load

sql = load("time_series")

ASKED: Final = """asked AS (
    SELECT * FROM unnest($1::int4[], $2::int4[], $3::bool[]) AS a (series_id, key, is_cumulative)
)"""
_BUCKET: Final = """CASE WHEN time >= $4::timestamptz
    THEN date_bin($5::interval, time, timestamptz '1970-01-01 00:00:00+00') END"""
_BUCKET_MICROS: Final = "(extract(epoch FROM bucket) * 1000000)::int8"
_COUNTED: Final = "distribution_count"
# A cumulative distribution holds all since its sender began: what came in since the sample before
# is what counts, and all of it where the sender began anew. The first one tells nothing.
_GROWN: Final = f"""
SELECT series_id, time, flush_id, ordinal, value, percentile_50, percentile_90, percentile_95,
    percentile_99, upper_bounds,
    CASE WHEN NOT is_cumulative THEN {_COUNTED}
        WHEN has_begun THEN 0 WHEN is_anew THEN {_COUNTED}
        ELSE {_COUNTED} - count_before END AS distribution_count,
    CASE WHEN NOT is_cumulative OR is_anew THEN distribution_sum
        WHEN NOT has_begun THEN distribution_sum - sum_before END AS distribution_sum,
    CASE WHEN NOT is_cumulative THEN distribution_min END AS distribution_min,
    CASE WHEN NOT is_cumulative THEN distribution_max END AS distribution_max,
    bucket_counts,
    CASE WHEN is_cumulative AND NOT is_anew THEN counts_before ELSE '{{{{}}}}' END AS counts_before
FROM (
    SELECT *, count_before IS NULL AS has_begun,
        coalesce({_COUNTED} < count_before OR upper_bounds <> bounds_before, false) AS is_anew
    FROM (
        SELECT *, lag({_COUNTED}) OVER w AS count_before,
            lag(distribution_sum) OVER w AS sum_before, lag(upper_bounds) OVER w AS bounds_before,
            lag(bucket_counts) OVER w AS counts_before
        FROM ({{distributions}}) AS d JOIN asked USING (series_id)
        WINDOW w AS (PARTITION BY series_id ORDER BY time, flush_id, ordinal)
    ) AS with_before
) AS told"""  # noqa: S608
# As plain samples are shaped: `given` is the value that was sent, `value` stands for the sample.
_SHAPED: Final = """
SELECT series_id, time, time AS last_time, 1::int8 AS samples, value AS given,
    CASE WHEN value IS NOT NULL THEN value
        WHEN distribution_count > 0 AND abs(distribution_sum) < 1e-280 THEN 0
        WHEN distribution_count > 0 THEN distribution_sum / distribution_count END AS value,
    CASE WHEN value IS NOT NULL THEN value
        WHEN distribution_count > 0 THEN distribution_sum END AS total,
    CASE WHEN value IS NOT NULL THEN 1
        ELSE coalesce(distribution_count, 0) END::float8 AS weight,
    CASE WHEN value IS NOT NULL THEN value
        WHEN distribution_count > 0 THEN distribution_min END AS low,
    CASE WHEN value IS NOT NULL THEN value
        WHEN distribution_count > 0 THEN distribution_max END AS high,
    percentile_50, percentile_90, percentile_95, percentile_99
FROM ({distributions}) AS d"""


def _bounded(value: str) -> str:
    """Give an expression that sums cannot run over with, which PostgreSQL makes an error of."""
    return f"CASE WHEN abs({value}) < 1e290 THEN {value} ELSE sign({value}) * float8 'Infinity' END"


def _divided(value: str, divisor: str) -> str:
    """Give a quotient that cannot run under, which PostgreSQL makes an error of, too."""
    return f"CASE WHEN abs({value}) < 1e-280 THEN 0 ELSE {value} / nullif({divisor}, 0) END"


def lines_statement(
    align: Aggregation,
    reduce: Aggregation | None,
    conditions: Filter,
    cover: Cover,
    gaps: Gaps,
    parameters: Parameters,
    *,
    flushed_before: datetime,
    differences: bool,
) -> str:
    """Give the statement for lines: key, buckets, values, samples, last_times.

    All but the key are arrays; the last ones are of percentiles only. Each row also has
    `rows_read`; where there are no lines, one row has nothing else.

    Args:
        align: How the samples of a bucket become one value. A percentile is that of all series of
            a key together, of what was given; distributions come by `merged_statement`.
        reduce: How values of one key's series become one; None: a key has one series.
        conditions: On samples.
        cover: Which parts of the time range are read from where.
        gaps: What the roll-ups lack of it.
        parameters: As above; those of times and conditions are added.
        flushed_before: After any flush: leaves out partitions of deltas that are made ahead.
        differences: Whether a series has cumulative distributions.
    """
    last_times = "NULL::int8[]"
    if align in PERCENTILES:
        aligned, kept = _percentiles(align), "SELECT * FROM aligned WHERE bucket IS NOT NULL"
        last_times = "array_agg((extract(epoch FROM last_time) * 1000000)::int8 ORDER BY bucket)"
    else:
        if align in GROWTHS:
            aligned = _growths(align)
        else:
            aligned = _LAST if align == "last" else _simple(align)
        value = "max(value)" if reduce is None else _reduced(reduce)
        kept = f"""SELECT key, bucket, {value} AS value, sum(samples)::int8 AS samples
    FROM aligned JOIN asked USING (series_id) WHERE bucket IS NOT NULL AND value IS NOT NULL
    GROUP BY key, bucket"""  # noqa: S608
    samples = _samples(
        conditions, cover, gaps, parameters, flushed_before=flushed_before, differences=differences
    )
    return f"""
WITH {ASKED}, samples AS (
    SELECT * FROM ({samples}) AS every LIMIT $6::int8
), aligned AS MATERIALIZED (
{aligned}
), kept AS (
    {kept}
), lines AS (
    SELECT key, array_agg({_BUCKET_MICROS} ORDER BY bucket) AS buckets,
        array_agg(value ORDER BY bucket) AS values, array_agg(samples ORDER BY bucket) AS samples,
        {last_times} AS last_times
    FROM kept GROUP BY key
)
SELECT rows_read, lines.*
FROM (SELECT coalesce(sum(rows), 0)::int8 AS rows_read FROM aligned) AS whole
LEFT JOIN lines ON true
ORDER BY key"""  # noqa: S608


def merged_statement(
    conditions: Filter, time_range: TimeRange, parameters: Parameters, *, differences: bool
) -> str:
    """Give the statement for distributions of each key and bucket, added up by their bounds.

    In the order of key and bucket: key, micros, upper_bounds, counts, low, high.
    """
    distributions = filtered(
        _distributions(conditions, time_range, parameters), ["distribution_count IS NOT NULL"]
    )
    counts_before = "counts_before" if differences else "'{}'::int8[]"
    source = _GROWN.format(distributions=distributions) if differences else distributions
    return f"""
WITH {ASKED}, told AS (
    SELECT key, {_BUCKET} AS bucket, upper_bounds, {counts_before} AS counts_before,
        CASE WHEN cardinality(bucket_counts) = 0 THEN ARRAY[distribution_count]
            ELSE bucket_counts END AS bucket_counts,
        distribution_min, distribution_max
    FROM (SELECT * FROM ({source}) AS every LIMIT $6::int8) AS d JOIN asked USING (series_id)
    WHERE distribution_count > 0
), counts AS (
    SELECT key, bucket, upper_bounds, place,
        sum(greatest(amount - coalesce(before, 0), 0))::float8 AS amount,
        min(distribution_min) AS low, max(distribution_max) AS high
    FROM told, unnest(bucket_counts, counts_before) WITH ORDINALITY AS u (amount, before, place)
    WHERE bucket IS NOT NULL AND amount IS NOT NULL
    GROUP BY key, bucket, upper_bounds, place
)
SELECT key, {_BUCKET_MICROS} AS micros, upper_bounds,
    array_agg(amount ORDER BY place) AS counts, min(low) AS low, max(high) AS high
FROM counts GROUP BY key, bucket, upper_bounds
ORDER BY key, bucket"""  # noqa: S608


def _within(base: str, column: str, time_range: TimeRange, parameters: Parameters) -> str:
    start = parameters.add(time_range.start, "timestamptz")
    end = parameters.add(time_range.end, "timestamptz")
    return filtered(base, [f"{column} >= {start}", f"{column} < {end}"])


def _distributions(conditions: Filter, time_range: TimeRange, parameters: Parameters) -> str:
    base = _within(sql.distributions, "time", time_range, parameters)
    return filtered(base, compiled(conditions, DISTRIBUTIONS, parameters))


def _samples(
    conditions: Filter,
    cover: Cover,
    gaps: Gaps,
    parameters: Parameters,
    *,
    flushed_before: datetime,
    differences: bool,
) -> str:
    """Give all parts of the range in one shape; distributions are in no roll-up."""
    ids = parameters.values[0]
    # A BRIN index takes a range of ids along with that of times, and none of a list.
    between = [
        f"series_id >= {parameters.add(min(ids), 'int4')}",
        f"series_id <= {parameters.add(max(ids), 'int4')}",
    ]
    parts: list[str] = []
    for part in cover.raw:
        base = filtered(_within(sql.samples, "time", part, parameters), between)
        parts.append(filtered(base, compiled(conditions, SAMPLES, parameters)))
    for base, unit, ranges in (
        (sql.minutes, "minute", cover.minutes),
        (sql.hours, "hour", cover.hours),
    ):
        for part in ranges:
            parts.append(_within(base, unit, part, parameters))
            flushed = f"flushed_at < {parameters.add(flushed_before, 'timestamptz')}"
            deltas = _within(sql.deltas, "minute", part, parameters)
            parts.append(filtered(deltas, [flushed, *between]))
    left_out = gaps.statements(sql.samples, "time", (*cover.minutes, *cover.hours), parameters)
    parts += [filtered(one, between) for one in left_out]
    distributions = _distributions(conditions, cover.whole, parameters)
    if differences:
        distributions = _GROWN.format(distributions=distributions)
    return " UNION ALL ".join([*parts, _SHAPED.format(distributions=distributions)])


def _simple(align: Aggregation) -> str:
    match align:
        case "average":
            value = _divided(f"sum({_bounded('total')})", "sum(weight)")
        case "sum":
            value = f"sum({_bounded('total')})"
        case "min":
            value = "min(low)"
        case "max":
            value = "max(high)"
        case "count":
            value = "sum(samples)::float8"
        case _:
            raise AssertionError(align)
    return f"""    SELECT series_id, {_BUCKET} AS bucket, {value} AS value,
        sum(samples)::int8 AS samples, count(*) AS rows, max(last_time) AS last_time
    FROM samples GROUP BY 1, 2"""  # noqa: S608


# Rows without a value come last, so that they count and do not decide. Of two samples at one moment
# the larger one decides, as in the roll-ups: they do not know which came in first.
_LAST: Final = f"""    SELECT series_id, bucket, value, samples, rows, last_time
    FROM (
        SELECT series_id, bucket, value, last_time, (sum(samples) OVER b)::int8 AS samples,
            count(*) OVER b AS rows, row_number() OVER (
                b ORDER BY value IS NULL, last_time DESC, value DESC) AS place
        FROM (SELECT *, {_BUCKET} AS bucket FROM samples) AS placed
        WINDOW b AS (PARTITION BY series_id, bucket)
    ) AS numbered
    WHERE place = 1"""  # noqa: S608


def _growths(align: Aggregation) -> str:
    value = "sum(growth)"
    if align == "rate":
        # By the time it grew in: from the sample before the first one to the last one. What a first
        # sample sends grew in a time that nobody knows.
        value = f"{value} FILTER (WHERE time_before IS NOT NULL)"
        value = _divided(value, "extract(epoch FROM max(time) - min(time_before))::float8")
    now, before = _bounded("value"), _bounded("value_before")
    return f"""    SELECT series_id, {_BUCKET} AS bucket, {value} AS value, count(*) AS samples,
        count(*) AS rows, max(time) AS last_time
    FROM (
        SELECT series_id, time, time_before, is_cumulative,
            CASE WHEN NOT is_cumulative THEN {now} WHEN value >= value_before THEN {now} - {before}
                WHEN value < value_before THEN {now} END AS growth
        FROM (
            SELECT series_id, time, value, is_cumulative, lag(value) OVER w AS value_before,
                lag(time) OVER w AS time_before
            FROM samples JOIN asked USING (series_id)
            WINDOW w AS (PARTITION BY series_id ORDER BY time, value)
        ) AS with_before
    ) AS grown
    GROUP BY 1, 2"""  # noqa: S608


def _percentiles(align: Aggregation) -> str:
    column = f"percentile_{align.removeprefix('p')}"
    of_values = f"percentile_disc({PERCENTILES[align]}) WITHIN GROUP (ORDER BY given)"
    return f"""    SELECT key, {_BUCKET} AS bucket, coalesce(max({column}), {of_values}) AS value,
        count(*) AS samples, count(*) AS rows, max(time) AS last_time
    FROM samples JOIN asked USING (series_id) GROUP BY 1, 2"""  # noqa: S608


def _reduced(reduce: Aggregation) -> str:
    match reduce:
        case "average":
            return _divided(f"sum({_bounded('value')})", "count(*)")
        case "sum":
            return f"sum({_bounded('value')})"
        case "min" | "max":
            return f"{reduce}(value)"
        case "count":
            return "count(*)::float8"
        case "last":
            return "(array_agg(value ORDER BY last_time DESC, series_id DESC))[1]"
        case "p50" | "p90" | "p95" | "p99":
            return f"percentile_disc({PERCENTILES[reduce]}) WITHIN GROUP (ORDER BY value)"
        case _:
            raise AssertionError(reduce)
