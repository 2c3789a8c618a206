"""The cache of series in front of the columns: bounded in bytes, whatever the labels."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime

import numpy as np

from fernando.telemetry.v1 import SystemMetric, TelemetryRecords
from fernando_telemetry.domain.retention import Retention
from fernando_telemetry.ingest.checks.context import RecordDefaults, context_for
from fernando_telemetry.ingest.checks.system_metric import series_identity
from fernando_telemetry.ingest.columnar import twin
from fernando_telemetry.ingest.columnar.identities import Identities
from fernando_telemetry.ingest.columnar.owners import Owners
from fernando_telemetry.ingest.columnar.texts import list_lengths

CONTEXT = context_for(datetime.now(UTC), RecordDefaults(), Retention.of_days(0, 0, 0, 0))
MIB = 1024 * 1024


def metrics(first: int, count: int, labels: int) -> list[SystemMetric]:
    return [
        SystemMetric(
            metric_name="m",
            metric_type=2,  # type: ignore[arg-type]
            metric_value=1,
            labels={f"key-{n:050}": f"value-{first + number}-{n:0100}" for n in range(labels)},
        )
        for number in range(count)
    ]


def find(identities: Identities, given: list[SystemMetric]) -> int:
    """Look the series of samples up; gives how many had to be checked."""
    looks = 0

    def look(row: int):  # type: ignore[no-untyped-def]
        nonlocal looks
        looks += 1
        return series_identity(given[row], CONTEXT)

    data = TelemetryRecords(system_metrics=given).SerializeToString()
    lists = twin.decode([data]).column("system_metrics")
    owners = Owners([CONTEXT], list_lengths(lists))
    suspects = np.zeros(len(given), bool)
    places, found = identities.find(lists.flatten(), owners, look, suspects)
    assert not suspects.any()
    assert [found[place].labels for place in places] == [
        tuple(sorted(one.labels.items())) for one in given
    ]
    return looks


def test_what_is_in_use_stays_and_what_is_not_goes() -> None:
    identities = Identities(capacity_bytes=100_000)
    used = metrics(0, 10, 1)
    assert find(identities, used) == 10
    for round_ in range(1, 30):
        assert find(identities, used) == 0
        assert find(identities, metrics(round_ * 100, 20, 1)) == 20
    # Not looked up for long enough, so gone.
    assert find(identities, metrics(100, 20, 1)) == 20


def test_a_flood_of_series_with_many_labels_stays_within_bounds() -> None:
    identities = Identities(capacity_bytes=MIB)
    tracemalloc.start()
    try:
        for round_ in range(20):
            find(identities, metrics(round_ * 100, 100, 64))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Two generations of a megabyte; without a bound it would be 60.
    assert kept < 4 * MIB
