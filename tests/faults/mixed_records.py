"""Batches of all kinds of records whose rows can be told apart: who, which batch, which record."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from fernando.telemetry.v1 import (
    EventType,
    MetricType,
    StreamTelemetryRequest,
    TelemetryBatch,
    TelemetryRecords,
)

NAME: Final = "torture"
KINDS: Final = 5
# A number says batch and record where there is one field for both.
STEP: Final = 1000

# The rows of all kinds of those producers whose name the condition allows; see stored_once.
MIXED_ROWS: Final = """
SELECT session_id AS producer, (event_data ->> 'sequence')::int8 AS sequence,
    (event_data ->> 'record')::int8 AS record, flush_id
FROM telemetry_events WHERE event_name = 'torture' AND session_id {condition}
UNION ALL
SELECT service_name, value::int8 / 1000, value::int8 % 1000, flush_id
FROM metric_samples JOIN metric_series USING (series_id)
WHERE metric_name LIKE 'torture%' AND service_name {condition}
UNION ALL
SELECT metric_category, metric_value::int8 / 1000, metric_value::int8 % 1000, flush_id
FROM business_metric_versions WHERE metric_name = 'torture' AND metric_category {condition}
UNION ALL
SELECT service_name, duration_ms::int8 / 1000, duration_ms::int8 % 1000, flush_id
FROM traces WHERE operation_name = 'torture' AND service_name {condition}
"""


def mixed_records(at: datetime, producer: str, sequence: int, size: int) -> TelemetryRecords:
    """Make `size` records, of each kind a fifth; the same ones for the same arguments."""
    assert size < STEP
    records = TelemetryRecords(record_count=size)
    for index in range(size):
        number = sequence * STEP + index
        match (sequence + index) % KINDS:
            case 0:
                event = records.events.add(
                    event_type=EventType.EVENT_TYPE_SYSTEM_EVENT,
                    event_name=NAME,
                    session_id=producer,
                    event_data=f'{{"sequence": {sequence}, "record": {index}}}',
                    tags=["a", f"batch-{sequence}"],
                )
                event.event_timestamp.FromDatetime(at)
            case 1:
                metric = records.system_metrics.add(
                    metric_name=NAME,
                    metric_type=MetricType.METRIC_TYPE_GAUGE,
                    service_name=producer,
                    metric_value=number,
                    labels={"core": str(index % 2)},
                )
                metric.metric_timestamp.FromDatetime(at)
            case 2:
                columns = records.metric_columns
                if not columns.series:
                    columns.series.add(
                        metric_name=f"{NAME}_columns",
                        metric_type=MetricType.METRIC_TYPE_GAUGE,
                        service_name=producer,
                    )
                columns.series_index.append(0)
                columns.time_unix_micros.append(int(at.timestamp()) * 1_000_000 + index)
                columns.value.append(number)
            case 3:
                kpi = records.business_metrics.add(
                    metric_name=NAME, metric_category=producer, metric_value=str(number)
                )
                kpi.period_start.FromDatetime(at - timedelta(days=1))
                kpi.period_end.FromDatetime(at)
            case _:
                span = records.spans.add(
                    trace_id=hashlib.md5(producer.encode(), usedforsecurity=False).hexdigest(),
                    span_id=f"{number + 1:016x}",
                    service_name=producer,
                    operation_name=NAME,
                    duration_ms=number,
                    tags={"batch": str(sequence)},
                )
                span.start_time.FromDatetime(at)
    return records


def mixed_batches(at: datetime) -> Callable[[str, int, int], StreamTelemetryRequest]:
    """Give what makes a NumberedProducer's batches; all records are of the time `at`."""

    def make(producer: str, sequence: int, size: int) -> StreamTelemetryRequest:
        records = mixed_records(at, producer, sequence, size)
        return StreamTelemetryRequest(batch=TelemetryBatch(sequence=sequence, records=records))

    return make
