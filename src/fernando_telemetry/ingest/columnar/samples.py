"""Checks columns of samples: messages of their own, and the packed form."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa

from fernando_telemetry.domain.series import SeriesIdentity
from fernando_telemetry.ingest.checks.system_metric import PERCENTILES
from fernando_telemetry.ingest.columnar.identities import Identities, Look
from fernando_telemetry.ingest.columnar.owners import Owners
from fernando_telemetry.ingest.columnar.stamps import stamps, timestamps
from fernando_telemetry.ingest.columnar.texts import Integers, Mask, list_lengths, numbers
from fernando_telemetry.storage.rows import SAMPLES

MICROS_PER_SECOND: Final = 1_000_000


def _batch(series: Integers, micros: Integers, values: Any) -> pa.RecordBatch:
    columns = [pa.array(series.astype(np.int32)), timestamps(micros), pa.array(values)]
    return pa.RecordBatch.from_arrays(columns, names=list(SAMPLES.given))


def check_system_metrics(
    metrics: Any, owners: Owners, identities: Identities, look: Look
) -> tuple[pa.RecordBatch, Integers, Mask, list[SeriesIdentity]]:
    """Check samples with a value alone; distributions and percentiles are suspects.

    Returns:
        Columns of metric_samples, whose series_id is a place in the list of identities; Unix
        microseconds, suspects, and the identities.
    """
    suspects = np.zeros(len(metrics), bool)
    context = owners.contexts[0]
    values, present = numbers(metrics.field("metric_value"))
    suspects |= ~present | ~np.isfinite(values)
    for name in PERCENTILES:
        column = metrics.field(name)
        if column.null_count < len(column):
            suspects |= numbers(column)[1]
    suspects |= list_lengths(metrics.field("distribution")) > 0
    micros = stamps(
        metrics.field("metric_timestamp"),
        owners.received_micros,
        context.oldest_metric.of_all,
        context.newest,
        suspects,
    )
    places, found = identities.find(metrics, owners, look, suspects)
    return _batch(places, micros, values), micros, suspects, found


def check_points(
    columns: Any, owners: Owners, identities: Identities, look: Look
) -> tuple[pa.RecordBatch, Integers, Mask, list[SeriesIdentity]]:
    """Check packed columns of samples.

    Args:
        columns: Struct column of twin.py, one row a batch.
        owners: The batches of the samples.
        identities: The cache.
        look: Checks the identity of one series, by its place among those of all batches.

    Returns:
        As check_system_metrics.
    """
    series_lengths = list_lengths(columns.field("series"))
    series = columns.field("series").flatten()
    series_owners = Owners(owners.contexts, series_lengths)
    unusable = np.zeros(len(series), bool)
    places_of_series, found = identities.find(series, series_owners, look, unusable)
    places_of_series[unusable] = -1
    given = columns.field("series_index").flatten().to_numpy().astype(np.int64)
    micros = columns.field("time_unix_micros").flatten().to_numpy()
    values = columns.field("value").flatten().to_numpy()
    batches = owners.batches
    suspects = given >= series_lengths[batches]
    places = np.where(suspects, 0, given + series_owners.starts[batches])
    # One entry more, so that a batch without series has something to look at.
    places = np.append(places_of_series, -1)[places]
    suspects |= places < 0
    context = owners.contexts[0]
    suspects |= ~np.isfinite(values)
    suspects |= micros < context.oldest_metric.of_all * MICROS_PER_SECOND
    suspects |= micros > context.newest * MICROS_PER_SECOND
    return _batch(places, micros, values), micros, suspects, found
