"""Reads the hourly cost per click of an ad exchange: one CSV of `timestamp,value` (UTC, USD)."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

from recording import chunks, shift_to

from fernando.telemetry.client.records import business_metric
from fernando.telemetry.v1 import TelemetryRecords

_HOUR: Final = timedelta(hours=1)


def batches(path: Path, last_day: date | None) -> Iterator[TelemetryRecords]:
    """Read one file; its newest row moves to `last_day`.

    A period is the hour that begins at the row's timestamp. Values stay the text they are, up to
    13 fractional digits. One file repeats a timestamp: the later row corrects the earlier one.

    Raises:
        ValueError: A row is not as expected.
    """
    exchange = path.stem.removesuffix("_cpc_results")
    with path.open(newline="") as file:
        rows = [
            (datetime.fromisoformat(row["timestamp"]).replace(tzinfo=UTC), row["value"])
            for row in csv.DictReader(file)
        ]
    shift = shift_to(max(at for at, _ in rows), last_day)
    for chunk in chunks(rows):
        yield TelemetryRecords(
            business_metrics=[
                business_metric(
                    "cost_per_click",
                    value,
                    at + shift,
                    at + shift + _HOUR,
                    period_type="hourly",
                    calculation_method="ratio",
                    metric_category="advertising",
                    currency="USD",
                    dimensions={"exchange": exchange},
                )
                for at, value in chunk
            ]
        )
