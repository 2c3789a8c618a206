"""What the columnar checks of events and of spans do alike with their fields."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from fernando_telemetry.domain import limits
from fernando_telemetry.ingest.columnar.owners import Owners
from fernando_telemetry.ingest.columnar.stamps import stamps
from fernando_telemetry.ingest.columnar.texts import Integers, Mask, Texts, numbers


class RecordFields:
    """Takes the fields of records, and marks the records whose fields are not plainly good.

    Args:
        rows: Struct column of twin.py.
        owners: Their batches.

    Attributes:
        suspects: Rows that the record checks have to look at.
    """

    def __init__(self, rows: Any, owners: Owners) -> None:
        self._rows = rows
        self._owners = owners
        self.suspects: Mask = np.zeros(len(rows), bool)

    def column(self, name: str) -> Any:
        """Give a field as it is."""
        return self._rows.field(name)

    def texts(self, name: str, limit: int = limits.INDEXED_TEXT_BYTES) -> Texts:
        """Give a text field taken apart."""
        found = Texts.of(self.column(name))
        found.mark_bad(self.suspects, limit)
        return found

    def text(self, name: str, limit: int = limits.INDEXED_TEXT_BYTES) -> pa.Array:
        """Give a text field with NULL for ""."""
        return self.texts(name, limit).nullable()

    def defaulted(self, name: str) -> pa.Array:
        """Give a text field with the default of the record's batch for ""."""
        return self._owners.filled(
            self.column(name), self.texts(name), lambda given: getattr(given, name)
        )

    def micros(self, name: str, oldest: int) -> Integers:
        """Give a time as Unix microseconds, the receive time where it is absent.

        Args:
            name: Of the field.
            oldest: Unix seconds that are still accepted.
        """
        received, newest = self._owners.received_micros, self._owners.contexts[0].newest
        return stamps(self.column(name), received, oldest, newest, self.suspects)

    def durations(self, name: str) -> pa.Array:
        """Give milliseconds, which are 0 to 1e12 where they are set."""
        values, present = numbers(self.column(name))
        self.suspects |= present & ~((values >= 0) & (values <= limits.DURATION_MS))
        return self.column(name)
