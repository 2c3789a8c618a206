"""What the load consists of: batches of records of one kind, serialised ahead of the clock.

Values are drawn from a seeded generator, so two runs send the same but for the time. An event
has 13 filled fields and about 290 bytes, a span tags, a sample one of 2,000 series.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

from fernando.telemetry.v1 import (
    Event,
    MetricColumns,
    MetricSeries,
    MetricType,
    Span,
    SpanKind,
    SpanStatus,
    SystemMetric,
    TelemetryRecords,
)

KINDS: Final = ("events", "samples", "points", "spans")
SERIES: Final = 2_000
LEAST_SAMPLES_PER_SERIES: Final = 10
BATCH_BYTES: Final = 1_000_000
# Batches differ, up to this much; then they come again under new numbers.
POOL_BYTES: Final = 48_000_000
STEP_MICROS: Final = 10
# The pool's times lie within it, all in one partition.
SPAN_SECONDS: Final = 30
_SEED: Final = 20_260_517
# Any moment of these years: it has as many bytes as now.
_SOME_MICROS: Final = 1_780_000_000_654_321
_USERS: Final = 100_000
_LICENSES: Final = 200
_SERVICES: Final = 20


@dataclass(frozen=True, slots=True)
class Batch:
    """The bytes of one TelemetryRecords."""

    records: bytes
    count: int


def base_micros(now: datetime) -> int:
    """Give the time of the first record: now, or earlier where the day is about to end."""
    at = now.astimezone(UTC)
    if (at + timedelta(seconds=SPAN_SECONDS)).date() != at.date():
        at -= timedelta(seconds=SPAN_SECONDS)
    return int(at.timestamp() * 1_000_000)


def default_batch_records(kind: str) -> int:
    """Give how many records of a kind have about 1 MB."""
    if kind == "points":
        return SERIES * 2 * LEAST_SAMPLES_PER_SERIES
    sample = _messages(kind, 100, _SOME_MICROS)
    return BATCH_BYTES * 100 // len(sample.records)


def make_batches(
    kind: str,
    batch_records: int,
    first_micros: int | None,
    pool_bytes: int = POOL_BYTES,
    groups: int = 0,
) -> list[Batch]:
    """Serialise different batches of a kind.

    Args:
        kind: One of KINDS.
        batch_records: Records of each.
        first_micros: Time of the first record; None: unset, so that the server's receive time
            counts (not for points, which have no default).
        pool_bytes: About how much to make in all.
        groups: Of events and spans: into how many groups of a roll-up they fall; 0: nearly
            each into its own.
    """
    batches: list[Batch] = []
    total = 0
    while not batches or total + len(batches[-1].records) <= pool_bytes:
        number = len(batches)
        if kind == "points":
            assert first_micros is not None, "packed samples have their own times"
            batches.append(_points(number, batch_records, first_micros))
        else:
            begin = (
                None
                if first_micros is None
                else first_micros + number * batch_records * STEP_MICROS
            )
            batches.append(_messages(kind, batch_records, begin, number, groups))
        total += len(batches[-1].records)
    return batches


def _messages(
    kind: str, count: int, first_micros: int | None, number: int = 0, groups: int = 0
) -> Batch:
    make, field = _MAKERS[kind]
    if groups:
        make = partial(_GROUPED_MAKERS[kind], groups)
    draw = random.Random(_SEED + number)  # noqa: S311 - load, not secrets
    records = TelemetryRecords(record_count=count)
    getattr(records, field).extend(
        make(
            draw,
            number * count + place,
            None if first_micros is None else first_micros + place * STEP_MICROS,
        )
        for place in range(count)
    )
    return Batch(records.SerializeToString(), count)


def _event(draw: random.Random, _place: int, micros: int | None) -> Event:
    event = Event(
        event_type=draw.randint(1, 6),  # type: ignore[arg-type]
        event_name=f"page_view_{draw.randrange(40)}",
        event_category="navigation",
        user_id=f"user-{draw.randrange(_USERS):06d}",
        license_id=f"license-{draw.randrange(_LICENSES):03d}",
        session_id=f"{draw.getrandbits(64):016x}",
        event_data=json.dumps(
            {
                "path": f"/orders/{draw.randrange(10_000)}/items",
                "referrer": "https://search.example/results",
                "items": draw.randrange(9),
                "amount": draw.randrange(100_000) / 100,
                "mobile": draw.random() < 0.5,
            }
        ),
        tags=["web", f"region-{draw.randrange(6)}", "checkout"],
        duration_ms=draw.randrange(1, 400_000) / 1000,
        source="shop-frontend",
        source_ip=f"192.0.2.{draw.randrange(1, 255)}",
        source_version="1.24.3",
    )
    if micros is not None:
        event.event_timestamp.FromMicroseconds(micros)
    return event


def _grouped_event(groups: int, draw: random.Random, place: int, micros: int | None) -> Event:
    event = _event(draw, place, micros)
    group = draw.randrange(groups)
    event.event_type = 1 + group % 6  # type: ignore[assignment]
    event.event_name = f"page_view_{group}"
    event.license_id = f"license-{group % 10:03d}"
    return event


def _grouped_span(groups: int, draw: random.Random, place: int, micros: int | None) -> Span:
    span = _span(draw, place, micros)
    group = draw.randrange(groups)
    span.service_name = f"service-{group % _SERVICES:02d}"
    span.operation_name = f"GET /orders/{group}"
    span.license_id = f"license-{group % 10:03d}"
    return span


def _labels(series: int) -> dict[str, str]:
    return {"core": str(series % 16), "zone": f"zone-{series % 3}"}


def _series_fields(series: int) -> dict[str, Any]:
    return {
        "metric_name": f"cpu_usage_{series % 10}",
        "metric_type": MetricType.METRIC_TYPE_GAUGE,
        "metric_unit": "percentage",
        "service_name": f"service-{series % _SERVICES:02d}",
        "host_name": f"host-{series // 16:04d}",
        "labels": _labels(series),
        "license_id": f"license-{series % _LICENSES:03d}",
    }


def _sample(draw: random.Random, place: int, micros: int | None) -> SystemMetric:
    sample = SystemMetric(metric_value=draw.random() * 100, **_series_fields(place % SERIES))
    if micros is not None:
        sample.metric_timestamp.FromMicroseconds(micros)
    return sample


def _span(draw: random.Random, _place: int, micros: int | None) -> Span:
    status = draw.randrange(200, 205) if draw.random() < 0.95 else 500
    span = Span(
        trace_id=f"{draw.getrandbits(128) | 1:032x}",
        span_id=f"{draw.getrandbits(64) | 1:016x}",
        parent_span_id=f"{draw.getrandbits(64) | 1:016x}",
        service_name=f"service-{draw.randrange(_SERVICES):02d}",
        operation_name=f"GET /orders/{draw.randrange(30)}",
        kind=SpanKind.SPAN_KIND_SERVER,
        duration_ms=draw.randrange(1, 400_000) / 1000,
        status=SpanStatus.SPAN_STATUS_ERROR if status == 500 else SpanStatus.SPAN_STATUS_OK,
        http_method="GET",
        http_url="/orders/{order}",
        http_status_code=status,
        user_id=f"user-{draw.randrange(_USERS):06d}",
        license_id=f"license-{draw.randrange(_LICENSES):03d}",
        host_name=f"host-{draw.randrange(64):04d}",
        tags={"region": f"region-{draw.randrange(6)}", "plan": "pro", "release": "2026.5"},
    )
    if micros is not None:
        span.start_time.FromMicroseconds(micros)
    return span


_MAKERS: Final[dict[str, tuple[Callable[[random.Random, int, int | None], Any], str]]] = {
    "events": (_event, "events"),
    "samples": (_sample, "system_metrics"),
    "spans": (_span, "spans"),
}
# Those that can be made to fall into a number of groups of a roll-up.
_GROUPED_MAKERS: Final[dict[str, Any]] = {"events": _grouped_event, "spans": _grouped_span}
GROUPED_KINDS: Final = tuple(_GROUPED_MAKERS)


def _points(number: int, count: int, first_micros: int) -> Batch:
    """Pack samples: at least 10 of each series, over 2,000 series where the batch has room."""
    draw = random.Random(_SEED + number)  # noqa: S311 - load, not secrets
    per_series = max(LEAST_SAMPLES_PER_SERIES, count // SERIES)
    series = max(1, count // per_series)
    columns = MetricColumns()
    # Smaller batches take turns, so that all series come.
    first = number * series % SERIES
    columns.series.extend(
        MetricSeries(**_series_fields((first + place) % SERIES)) for place in range(series)
    )
    for place, micros in _grid(series, count, first_micros + number * per_series * 1000):
        columns.series_index.append(place)
        columns.time_unix_micros.append(micros)
    columns.value.extend(draw.random() * 100 for _ in range(count))
    return Batch(
        TelemetryRecords(metric_columns=columns, record_count=count).SerializeToString(), count
    )


def _grid(series: int, count: int, first_micros: int) -> Iterator[tuple[int, int]]:
    """Give (series, time) as a collector sends them: all series at one time, then the next."""
    for place in range(count):
        yield place % series, first_micros + place // series * 1000
