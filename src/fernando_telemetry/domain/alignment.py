"""Time series out of samples: which buckets a range has, and which aggregations make sense.

align    the samples of a series in a bucket become one value
reduce   the values of the series of a group become one
fill     what stands in buckets without a value
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

from fernando_telemetry.domain.calendar import EPOCH, MICROSECOND
from fernando_telemetry.domain.errors import (
    AggregationNotApplicable,
    InvalidField,
    QueryTooExpensive,
)
from fernando_telemetry.domain.event_summary import LONGEST_BUCKET
from fernando_telemetry.domain.limits import QUERY_BUCKETS
from fernando_telemetry.domain.time_range import TimeRange

Aggregation = str
GapFill = Literal["none", "nan", "previous", "zero"]

PERCENTILES: Final = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
GROWTHS: Final = ("rate", "delta")
_SECOND: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Buckets:
    """The buckets of a range, counted from 1970-01-01 UTC.

    Args:
        first_micros: First moment of the first one, in Unix microseconds; it may lie before the
            range.
        period: Length of each.
        count: How many touch the range.
    """

    first_micros: int
    period: timedelta
    count: int

    @property
    def period_micros(self) -> int:
        """Length of each in microseconds."""
        return self.period // MICROSECOND


def buckets_of(time_range: TimeRange, period: timedelta | None) -> Buckets:
    """Give the buckets of a range.

    Raises:
        InvalidField: The period is missing, not positive, or longer than ten years.
        QueryTooExpensive: There would be too many.
    """
    if period is None or not timedelta(0) < period <= LONGEST_BUCKET:
        raise InvalidField(
            "alignment_period", "required: a length above 0 and of at most 3,653 days."
        )
    count = _count(time_range, period)
    if count > QUERY_BUCKETS:
        smallest = _smallest_period(time_range)
        raise QueryTooExpensive(
            f"The range has {count:,} buckets of this alignment_period and at most "
            f"{QUERY_BUCKETS:,} are allowed; the smallest that fits is "
            f"{smallest.total_seconds():.6g} s."
        )
    since = time_range.start - EPOCH
    return Buckets((since - since % period) // MICROSECOND, period, count)


def _count(time_range: TimeRange, period: timedelta) -> int:
    first, last = time_range.start - EPOCH, time_range.end - MICROSECOND - EPOCH
    return last // period - first // period + 1


def _smallest_period(time_range: TimeRange) -> timedelta:
    """Give the smallest period that fits: in whole seconds, below a second in milliseconds."""
    length = time_range.end - time_range.start
    for unit in (timedelta(milliseconds=1), _SECOND):
        units = math.ceil(length / unit / QUERY_BUCKETS)
        # One more bucket where the range's sides lie within buckets.
        while _count(time_range, units * unit) > QUERY_BUCKETS:
            units += 1
        if units * unit < _SECOND:
            break
    return units * unit


def check_aggregations(
    align: Aggregation, reduce: Aggregation | None, group_by: Sequence[str]
) -> None:
    """Check what does not depend on the metric.

    Args:
        align: How samples of a bucket become one value.
        reduce: How series of a group become one; None: they do not.
        group_by: The fields that groups differ in.

    Raises:
        InvalidField: Groups without a reduction, or growth across series.
        AggregationNotApplicable: A mean or another figure of percentiles that says nothing.
    """
    if reduce is None:
        if group_by:
            raise InvalidField("group_by", "it needs a reduce: unset, every series is kept.")
        return
    if reduce in GROWTHS:
        raise InvalidField("reduce", f"{reduce} is of one series; use it as align.")
    if align in PERCENTILES and reduce not in (align, "min", "max", "count", "last"):
        raise AggregationNotApplicable(
            reduce,
            "",
            f"{reduce} of percentiles of several series says nothing about their values; "
            f"reduce by {align} merges the series and gives theirs.",
        )


def check_types(
    align: Aggregation, reduce: Aggregation | None, metric_types: Collection[str]
) -> None:
    """Check that the aggregations make sense for the types of the series.

    Raises:
        AggregationNotApplicable: Percentiles of counters, or growth of what is no counter.
    """
    for metric_type in sorted(metric_types):
        if align in GROWTHS:
            if metric_type != "counter":
                raise AggregationNotApplicable(
                    align, metric_type, f"{align} is the growth of a counter."
                )
            continue
        for one in (align, reduce):
            if one in PERCENTILES and metric_type == "counter" and align != "count":
                raise AggregationNotApplicable(
                    one,
                    metric_type,
                    f"A counter's values are how far it has come, so {one} says nothing; align by "
                    "rate or delta, and reduce their values by a percentile.",
                )


def filled(
    buckets: Buckets,
    gap_fill: GapFill,
    micros: Sequence[int],
    values: Sequence[float],
    counts: Sequence[int],
) -> tuple[Sequence[int], Sequence[float], Sequence[int]]:
    """Fill the buckets of a line that have no value; their count is 0.

    Args:
        buckets: All of the range.
        gap_fill: What stands in them. The value before begins with the first one there is.
        micros: First moment of each bucket that has a value, in order.
        values: One a bucket.
        counts: Samples of each bucket.
    """
    if gap_fill == "none":
        return micros, values, counts
    known = dict(zip(micros, zip(values, counts, strict=True), strict=True))
    first = micros[0] if gap_fill == "previous" else buckets.first_micros
    end = buckets.first_micros + buckets.count * buckets.period_micros
    every = range(first, end, buckets.period_micros)
    absent = math.nan if gap_fill == "nan" else 0.0
    all_values: list[float] = []
    for one in every:
        value, _ = known.get(one, (absent, 0))
        if gap_fill == "previous" and one not in known:
            value = all_values[-1]
        all_values.append(value)
    return every, all_values, [known.get(one, (0.0, 0))[1] for one in every]
