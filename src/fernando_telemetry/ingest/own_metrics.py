"""The server's own health, written as system metrics through its own write path.

service_name is `fernando_telemetry`, instance_id the server's address (of
worker k: `address#k`). Counters start at 0 with
the process: a fall is a reset, as for every cumulative counter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import structlog

from fernando.telemetry.v1 import SystemMetric, TelemetryRecords
from fernando.telemetry.v1.system_metric_pb2 import MetricType
from fernando_telemetry.domain.errors import TelemetryError
from fernando_telemetry.ingest.checks.context import RecordDefaults
from fernando_telemetry.ingest.service import IngestService

log = structlog.get_logger(__name__)

SERVICE_NAME: Final = "fernando_telemetry"


class OwnMetrics:
    """Records the server's health at an interval.

    Args:
        ingest: The write path: what is measured and where it goes.
        database_bytes: Measures the database.
        unsealed_partitions: Counts partitions that wait for their final indexes.
        fold_lag: Tells how far the roll-ups' fold is behind, in seconds.
        duty_faults: Faults by duty since the start (storage/duties.py).
        host_name: Goes into every metric.
        interval_seconds: Time between two records.
    """

    def __init__(
        self,
        ingest: IngestService,
        database_bytes: Callable[[], Awaitable[int]],
        unsealed_partitions: Callable[[], Awaitable[int]],
        fold_lag: Callable[[], Awaitable[float]],
        duty_faults: Mapping[str, int],
        host_name: str,
        interval_seconds: float,
    ) -> None:
        self._ingest = ingest
        self._asked: tuple[tuple[str, str, Callable[[], Awaitable[float]]], ...] = (
            ("database_bytes", "bytes", database_bytes),
            ("unsealed_partitions", "count", unsealed_partitions),
            ("fold_lag", "seconds", fold_lag),
        )
        self._unknown: set[str] = set()
        self._duty_faults = duty_faults
        self._host_name = host_name
        self._interval_seconds = interval_seconds

    async def run(self, instance_id: str) -> None:
        """Record until cancelled; a failed turn is logged and the next one comes."""
        defaults = RecordDefaults(
            service_name=SERVICE_NAME, host_name=self._host_name, instance_id=instance_id
        )
        while True:
            await asyncio.sleep(self._interval_seconds)
            try:
                records = await self.collect()
                await self._ingest.submit(records.SerializeToString(), defaults, None, 0)
            except TelemetryError as error:
                log.warning("own_metrics_not_recorded", cause=str(error))

    async def collect(self) -> TelemetryRecords:
        """Measure everything once.

        Raises:
            DatabaseUnavailable: The database could not be asked.
        """
        counters = self._ingest.counters
        records = TelemetryRecords()
        for name, total in (
            ("records_accepted", counters.accepted),
            ("records_rejected", counters.rejected),
            ("records_repeated", counters.repeated_records),
            ("batches_repeated", counters.repeated),
            ("batches_refused", counters.refused),
            ("records_refused_by_database", counters.database_refusals),
            ("rejected_records_not_kept", counters.rejected_not_kept),
            ("samples_overflowed", counters.overflowed),
            ("refused_for_room", counters.refused_for_room),
        ):
            _add(records, name, MetricType.METRIC_TYPE_COUNTER, total, "count")
        _add(
            records, "queue_bytes", MetricType.METRIC_TYPE_GAUGE, self._ingest.queued_bytes, "bytes"
        )
        _add(records, "open_streams", MetricType.METRIC_TYPE_GAUGE, counters.open_streams, "count")
        if counters.disk_free_bytes is not None:
            free = counters.disk_free_bytes
            _add(records, "disk_free_bytes", MetricType.METRIC_TYPE_GAUGE, free, "bytes")
        for duty, total in sorted(self._duty_faults.items()):
            metric = _add(records, "duty_failures", MetricType.METRIC_TYPE_COUNTER, total, "count")
            metric.labels["duty"] = duty
        await self._ask_database(records)
        latencies = sorted(counters.commit_seconds)
        counters.commit_seconds.clear()
        if latencies:
            metric = _add(
                records,
                "commit_latency",
                MetricType.METRIC_TYPE_TIMER,
                1000 * sum(latencies) / len(latencies),
                "milliseconds",
            )
            metric.percentile_50 = 1000 * latencies[len(latencies) // 2]
            metric.percentile_90 = 1000 * latencies[len(latencies) * 9 // 10]
            metric.percentile_95 = 1000 * latencies[len(latencies) * 95 // 100]
            metric.percentile_99 = 1000 * latencies[len(latencies) * 99 // 100]
        return records

    async def _ask_database(self, records: TelemetryRecords) -> None:
        """Measure what the database knows; what cannot be had costs its own metric only."""
        for name, unit, ask in self._asked:
            try:
                value = await ask()
            except TelemetryError:
                raise
            except Exception:
                # The others are wanted all the more.
                if name not in self._unknown:
                    log.exception("own_metric_unknown", metric=name)
                self._unknown.add(name)
            else:
                self._unknown.discard(name)
                _add(records, name, MetricType.METRIC_TYPE_GAUGE, value, unit)


def _add(
    records: TelemetryRecords, name: str, kind: MetricType.ValueType, value: float, unit: str
) -> SystemMetric:
    return records.system_metrics.add(
        metric_name=name, metric_type=kind, metric_value=value, metric_unit=unit
    )
