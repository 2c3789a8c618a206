"""Which batch a row belongs to, and what batches give to rows that leave a field empty."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fernando_telemetry.domain.calendar import EPOCH, MICROSECOND
from fernando_telemetry.ingest.checks.context import CheckContext, RecordDefaults
from fernando_telemetry.ingest.columnar.texts import Integers, Texts, nullable


@dataclass(frozen=True)
class Owners:
    """The batches behind the rows of one kind.

    Attributes:
        contexts: One a batch; they differ in defaults and receive time only.
        lengths: Rows of each batch, in order.
    """

    contexts: Sequence[CheckContext]
    lengths: np.ndarray[Any, Any]

    @cached_property
    def batches(self) -> Integers:
        """The batch of each row."""
        return np.repeat(np.arange(len(self.contexts)), self.lengths)

    @cached_property
    def starts(self) -> Integers:
        """The first row of each batch, and behind it the number of all rows."""
        return np.concatenate(([0], np.cumsum(self.lengths))).astype(np.int64)

    @cached_property
    def received_micros(self) -> Integers:
        """The receive time of each row's batch, in Unix microseconds."""
        micros = [(context.received_at - EPOCH) // MICROSECOND for context in self.contexts]
        return np.array(micros, np.int64)[self.batches]

    def part(self, start: int, stop: int) -> Owners:
        """Give the owners of the rows from `start` to `stop` alone."""
        bounds = np.clip(self.starts, start, stop)
        return Owners(self.contexts, np.diff(bounds))

    def filled(
        self, array: pa.Array, texts: Texts, default: Callable[[RecordDefaults], str]
    ) -> pa.Array:
        """Give a text column with the batch's default for "", and NULL where that is "" too."""
        values = [default(context.defaults) for context in self.contexts]
        present = texts.lengths > 0
        if not any(values) or present.all():
            return nullable(array, present)
        of_rows = pa.array([value or None for value in values], pa.string()).take(
            pa.array(self.batches)
        )
        return pc.if_else(pa.array(present), array, of_rows)
