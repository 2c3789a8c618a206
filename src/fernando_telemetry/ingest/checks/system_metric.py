"""Checks a sample, a distribution, and the packed columns of samples."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from itertools import pairwise

from fernando.telemetry.v1 import Distribution, MetricSeries, SystemMetric
from fernando_telemetry.domain import limits
from fernando_telemetry.domain.calendar import EPOCH
from fernando_telemetry.domain.series import SeriesIdentity
from fernando_telemetry.domain.verdicts import Rejection
from fernando_telemetry.domain.vocabulary import METRIC_TYPES, TEMPORALITIES
from fernando_telemetry.ingest.checks import values
from fernando_telemetry.ingest.checks.context import CheckContext
from fernando_telemetry.storage.rows import DISTRIBUTIONS, SAMPLES, RawTable, Row

INT8_MAXIMUM = (1 << 63) - 1
PERCENTILES = ("percentile_50", "percentile_90", "percentile_95", "percentile_99")


def series_identity(source: SystemMetric | MetricSeries, context: CheckContext) -> SeriesIdentity:
    """Check the identity fields of a sample or of a series of columns.

    A counter without temporality is cumulative, so that both spellings are one series.

    Raises:
        Rejection: A field is missing, unknown or too long.
    """
    defaults = context.defaults
    text = values.text
    metric_type = values.required_word(source.metric_type, METRIC_TYPES, "metric_type")
    temporality = values.word(source.temporality, TEMPORALITIES, "temporality")
    if temporality is None and metric_type == "counter":
        temporality = "cumulative"
    labels = values.string_map(source.labels, "labels")
    return SeriesIdentity(
        metric_name=values.required_text(source.metric_name, "metric_name"),
        metric_type=metric_type,
        metric_unit=text(source.metric_unit, "metric_unit") or "",
        service_name=text(source.service_name, "service_name") or defaults.service_name,
        host_name=text(source.host_name, "host_name") or defaults.host_name,
        instance_id=text(source.instance_id, "instance_id") or defaults.instance_id,
        labels=tuple(sorted(labels.items())),
        license_id=text(source.license_id, "license_id") or defaults.license_id,
        temporality=temporality or "",
    )


def distribution_columns(given: Distribution) -> Row:
    """Check a distribution and give its six columns.

    Raises:
        Rejection: invalid_distribution, too_many_items, value_not_finite, value_out_of_range.
    """
    bounds, counts = list(given.upper_bounds), list(given.bucket_counts)
    if len(counts) > limits.DISTRIBUTION_BUCKETS:
        raise Rejection(
            "too_many_items",
            "distribution.bucket_counts",
            f"at most {limits.DISTRIBUTION_BUCKETS} buckets",
        )
    if given.count > INT8_MAXIMUM:
        raise Rejection("value_out_of_range", "distribution.count", "at most 2^63 - 1")
    if (counts or bounds) and len(counts) != len(bounds) + 1:
        raise Rejection(
            "invalid_distribution",
            "distribution.bucket_counts",
            "one count more than upper_bounds: the last bucket has no bound",
        )
    for bound in bounds:
        values.finite(bound, "distribution.upper_bounds")
    if any(low >= high for low, high in pairwise(bounds)):
        raise Rejection("invalid_distribution", "distribution.upper_bounds", "bounds must rise")
    if counts and sum(counts) != given.count:
        raise Rejection(
            "invalid_distribution", "distribution.count", "must be the sum of bucket_counts"
        )
    for name in ("sum", "min", "max"):
        values.finite(getattr(given, name), f"distribution.{name}")
    if given.min > given.max:
        raise Rejection("invalid_distribution", "distribution.min", "must not exceed max")
    return (given.count, given.sum, given.min, given.max, bounds or None, counts or None)


def system_metric_row(metric: SystemMetric, context: CheckContext) -> tuple[RawTable, Row]:
    """Check one sample.

    Returns:
        metric_samples and a narrow row where it has a value alone, else metric_distributions.

    Raises:
        Rejection: It cannot be stored.
    """
    identity = series_identity(metric, context)
    time = (
        values.time_of(
            metric.metric_timestamp,
            "metric_timestamp",
            context.oldest_metric.of(identity.license_id),
            context.newest,
        )
        if metric.HasField("metric_timestamp")
        else context.received_at
    )
    value = (
        values.finite(metric.metric_value, "metric_value")
        if metric.HasField("metric_value")
        else None
    )
    percentiles = tuple(
        values.finite(getattr(metric, name), name) if metric.HasField(name) else None  # type: ignore[arg-type]
        for name in PERCENTILES
    )
    if metric.HasField("distribution"):
        columns = distribution_columns(metric.distribution)
    elif value is not None and percentiles == (None, None, None, None):
        return SAMPLES, (identity, time, value)
    elif value is None and percentiles == (None, None, None, None):
        raise Rejection(
            "field_missing", "metric_value", "a value, a percentile or a distribution is needed"
        )
    else:
        columns = (None,) * 6
    return DISTRIBUTIONS, (identity, time, value, *percentiles, *columns)


def column_series(
    given: Iterable[MetricSeries | Rejection], context: CheckContext
) -> list[SeriesIdentity | Rejection]:
    """Check the series table of packed columns; a bad series costs its own samples only."""
    series: list[SeriesIdentity | Rejection] = []
    for place, one in enumerate(given):
        if isinstance(one, Rejection):
            series.append(one)
            continue
        try:
            series.append(series_identity(one, context))
        except Rejection as rejection:
            path = f"metric_columns.series[{place}].{rejection.field_path}"
            series.append(Rejection(rejection.reason, path, rejection.detail))
    return series


def sample_row(
    sample: tuple[int, int, float], series: list[SeriesIdentity | Rejection], context: CheckContext
) -> Row:
    """Check one sample (series_index, time_unix_micros, value) of packed columns.

    Raises:
        Rejection: It cannot be stored.
    """
    place, micros, value = sample
    if place >= len(series):
        raise Rejection(
            "unknown_series_index",
            "metric_columns.series_index",
            f"{place} where there are {len(series)} series",
        )
    identity = series[place]
    if isinstance(identity, Rejection):
        raise identity
    values.finite(value, "metric_columns.value")
    if micros < context.oldest_metric.of(identity.license_id) * 1_000_000:
        raise Rejection(
            "time_too_old", "metric_columns.time_unix_micros", "older than the retention"
        )
    if micros > context.newest * 1_000_000:
        raise Rejection("time_in_future", "metric_columns.time_unix_micros", "too far ahead")
    return (identity, EPOCH + timedelta(microseconds=micros), value)
