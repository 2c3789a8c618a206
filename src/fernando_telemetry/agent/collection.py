"""One reading of all collectors, as records of the contract."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
from google.protobuf.timestamp_pb2 import Timestamp

from fernando.telemetry.v1 import MetricType, SystemMetric, TelemetryRecords
from fernando_telemetry.agent.cgroup import CgroupCollector
from fernando_telemetry.agent.cpu import CpuCollector
from fernando_telemetry.agent.disk import DiskSpaceCollector, DiskTrafficCollector
from fernando_telemetry.agent.memory import MemoryCollector
from fernando_telemetry.agent.network import NetworkCollector
from fernando_telemetry.agent.process import ProcessCollector
from fernando_telemetry.agent.samples import Collector, Sample

_log = structlog.get_logger(__name__)

_TYPES = {
    "gauge": MetricType.METRIC_TYPE_GAUGE,
    "counter": MetricType.METRIC_TYPE_COUNTER,
}


def host_collectors() -> tuple[Collector, ...]:
    """Give one of each collector, for this machine."""
    return (
        CpuCollector(),
        MemoryCollector(),
        DiskSpaceCollector(),
        DiskTrafficCollector(),
        NetworkCollector(),
        ProcessCollector(),
        CgroupCollector(),
    )


@dataclass(frozen=True, slots=True)
class Collection:
    """Samples of one reading, taken at `time_unix_nanos` of the host's clock."""

    time_unix_nanos: int
    samples: tuple[Sample, ...]

    def records(self) -> TelemetryRecords:
        """Give the samples as records; service and host come from the hello's defaults."""
        at = Timestamp()
        at.FromNanoseconds(self.time_unix_nanos)
        return TelemetryRecords(
            system_metrics=[
                SystemMetric(
                    metric_timestamp=at,
                    metric_name=sample.metric_name,
                    metric_type=_TYPES[sample.metric_type],
                    metric_value=sample.metric_value,
                    metric_unit=sample.metric_unit,
                    labels={key: _text(value) for key, value in sample.labels.items()},
                )
                for sample in self.samples
            ]
        )


def _text(value: str) -> str:
    """Replace what is no UTF-8: a mount point may be any bytes, a label may not."""
    return value.encode("utf-8", "replace").decode()


class CollectorSet:
    """Reads collectors one after the other; one that fails costs its own samples only.

    A failure is logged when it begins, not at each reading while it lasts.
    """

    def __init__(
        self, collectors: Sequence[Collector], clock: Callable[[], int] = time.time_ns
    ) -> None:
        self._collectors = tuple(collectors)
        self._clock = clock
        self._failing: set[str] = set()

    def collect(self) -> Collection:
        """Read all now. Blocks for as long as the machine takes: call it in a thread."""
        time_unix_nanos, started = self._clock(), time.perf_counter()
        samples: list[Sample] = []
        for collector in self._collectors:
            try:
                samples += collector.collect()
            except Exception as error:  # noqa: BLE001 - whatever /proc, a driver or psutil does
                if collector.name not in self._failing:
                    self._failing.add(collector.name)
                    _log.warning("collector_failed", collector=collector.name, error=repr(error))
            else:
                self._failing.discard(collector.name)
        took = time.perf_counter() - started
        samples.append(Sample("agent_collection_time", took, "seconds"))
        failing = float(len(self._failing))
        samples.append(Sample("agent_failing_collectors", failing, "count"))
        return Collection(time_unix_nanos, tuple(samples))
