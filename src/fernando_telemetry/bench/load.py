"""The benchmark's side of a load generator."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from fernando_telemetry.bench.child import Child, child
from fernando_telemetry.bench.figures import median, percentile
from fernando_telemetry.bench.load_generator import LoadPlan

# Beyond a slice's seconds: 16 batches of each stream are still to be acknowledged.
PATIENCE_SECONDS: Final = 180.0


@dataclass(frozen=True, slots=True)
class LoadSlice:
    """What a slice of load came to.

    Attributes:
        records: Acknowledged records.
        seconds: From the first byte sent to the last ack.
        cpu_seconds: What the generator itself took.
        latencies_ms: Of each ack, from the write of its batch on.
        longest_gap_ms: Longest time that a stream with batches in flight got no ack.
    """

    records: int
    seconds: float
    cpu_seconds: float
    latencies_ms: list[float]
    longest_gap_ms: float

    @property
    def rate(self) -> float:
        """Acknowledged records a second."""
        return self.records / self.seconds


def median_rate(slices: Sequence[LoadSlice]) -> float:
    """Give the median of the slices' rates."""
    return median([part.rate for part in slices])


def generator_cpu(slices: Sequence[LoadSlice]) -> float:
    """Give the share of a core that the generator took."""
    return round(median([part.cpu_seconds / part.seconds for part in slices]), 3)


def ack_latency_ms(slices: Sequence[LoadSlice], percent: float) -> float:
    """Give a percentile over the acks of all slices."""
    return round(percentile([ms for part in slices for ms in part.latencies_ms], percent), 2)


class Load:
    """A running generator; one slice at a time.

    Attributes:
        batch_bytes: Mean size of its batches.
        acknowledged: Records of all slices.
    """

    def __init__(self, generator: Child) -> None:
        self._generator = generator
        self.batch_bytes = 0
        self.acknowledged = 0

    async def start(self, plan: LoadPlan) -> None:
        """Give the plan, and wait until all batches are made and all streams are open."""
        await self._generator.say(asdict(plan))
        ready = await self._generator.answer(PATIENCE_SECONDS)
        self.batch_bytes = int(ready["batch_bytes"])

    async def run(self, seconds: float, rate: float | None = None) -> LoadSlice:
        """Send for some seconds and wait for all acks.

        Args:
            seconds: How long to send.
            rate: Records a second, of all streams; None: as fast as it goes.

        Raises:
            BenchFailed: The server did not take the load as it should.
        """
        await self._generator.say({"seconds": seconds, "rate": rate})
        fields = await self._generator.answer(seconds + PATIENCE_SECONDS)
        done = LoadSlice(**fields)
        self.acknowledged += done.records
        return done


@contextlib.asynccontextmanager
async def generating(plan: LoadPlan) -> AsyncIterator[Load]:
    """Run a generator; it is ready when this is entered and ended when it is left."""
    async with child("load generator", "load_generator") as generator:
        load = Load(generator)
        await load.start(plan)
        yield load
