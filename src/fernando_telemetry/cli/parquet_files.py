"""Parquet files of one export: a folder for each day of the records, published as a whole.

Files are written under names that no reader of `*.parquet` takes, and renamed when all are done.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

EPOCH: Final = date(1970, 1, 1)
_MICROS_PER_DAY: Final = 86_400_000_000
# Of a day's file before they are encoded, as a row group; and of all files together.
GROUP_BYTES: Final = 32 * 1024 * 1024
BUFFERED_BYTES: Final = 64 * 1024 * 1024
MOST_OPEN: Final = 32
# Values that hardly repeat: a dictionary of them costs time and saves nothing.
_PLAIN: Final = frozenset(
    {
        *("event_id", "event_timestamp", "event_data", "duration_ms", "ingested_at"),
        *("trace_id", "span_id", "parent_span_id", "start_time", "end_time", "events", "links"),
        *("metric_timestamp", "metric_value", "distribution_sum", "metric_id"),
    }
)
# Values whose least and greatest tell a reader nothing: random numbers, and texts of objects.
_UNRANGED: Final = frozenset(
    {
        *("session_id", "trace_id", "span_id", "parent_span_id", "user_agent"),
        *("event_data", "tags", "events", "links", "labels", "dimensions"),
    }
)


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file of an export.

    Args:
        path: Relative to the folder of its kind.
        row_count: Records in it.
        size_bytes: Its length.
        sha256: Of its bytes, as hex.
    """

    path: str
    row_count: int
    size_bytes: int
    sha256: str


@dataclass(slots=True)
class _Part:
    """A file that is being written."""

    hidden: Path
    final: Path
    file: BinaryIO
    writer: Any
    rows: int = 0
    batches: list[pa.RecordBatch] = field(default_factory=list)
    buffered: int = 0


class ParquetFiles:
    """Writes batches into files by day.

    Args:
        folder: Of the kind; it is there.
        run: Number of the export, part of the files' names.
        schema: Of the batches, with the metadata that every file carries.
        time_column: Its day decides.
    """

    def __init__(self, folder: Path, run: int, schema: pa.Schema, time_column: str) -> None:
        self._folder = folder
        self._run = run
        self._schema = schema
        self._time_column = time_column
        self._encoding = _encoding(schema)
        self._open: dict[int, _Part] = {}
        self._done: list[_Part] = []
        self._made: list[Path] = []
        self._count = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Add records.

        Raises:
            OSError: The disk is full, or the folder is not writable.
        """
        if not len(batch):
            return
        days = batch.column(self._time_column).cast(pa.int64()).to_numpy() // _MICROS_PER_DAY
        found = np.unique(days)
        for day in found:
            part = batch if len(found) == 1 else batch.filter(pa.array(days == day))
            self._add(int(day), part)

    def close(self) -> list[WrittenFile]:
        """End all files, on the disk, still under their hidden names.

        Raises:
            OSError: The disk is full, or took no more.
        """
        for day in list(self._open):
            self._end(day)
        return [self._described(part) for part in self._done]

    def publish(self) -> None:
        """Give all files their names.

        Raises:
            OSError: A file could not be renamed.
        """
        for part in self._done:
            part.hidden.rename(part.final)
        for folder in {part.final.parent for part in self._done}:
            sync_folder(folder)

    def discard(self) -> None:
        """Take away all files, published or not, and the folders made for them."""
        for part in [*self._open.values(), *self._done]:
            # What it still holds would be written behind the disk's end.
            with contextlib.suppress(OSError, pa.ArrowException):
                part.writer.close()
            with contextlib.suppress(OSError):
                part.file.close()
            for path in (part.hidden, part.final):
                with contextlib.suppress(OSError):
                    path.unlink()
        for folder in self._made:
            with contextlib.suppress(OSError):
                folder.rmdir()

    # Parts ----------------------------------------------------------------------------------

    def _add(self, day: int, batch: pa.RecordBatch) -> None:
        part = self._open.pop(day, None) or self._begun(day)
        # The last one is the one used last.
        self._open[day] = part
        part.batches.append(batch)
        part.buffered += batch.nbytes
        part.rows += len(batch)
        if part.buffered >= GROUP_BYTES:
            self._encode(part)
        while sum(one.buffered for one in self._open.values()) > BUFFERED_BYTES:
            self._encode(max(self._open.values(), key=lambda one: one.buffered))

    def _begun(self, day: int) -> _Part:
        if len(self._open) >= MOST_OPEN:
            self._end(next(iter(self._open)))
        folder = self._folder / f"day={EPOCH + timedelta(days=day)}"
        if not folder.is_dir():
            folder.mkdir()
            self._made.append(folder)
        self._count += 1
        final = folder / f"part-{self._run:06}-{self._count:04}.parquet"
        hidden = folder / f".{final.name}.tmp"
        file = hidden.open("wb")
        try:
            writer = pq.ParquetWriter(file, self._schema, compression="zstd", **self._encoding)
        except BaseException:
            file.close()
            hidden.unlink()
            raise
        return _Part(hidden, final, file, writer)

    def _encode(self, part: _Part) -> None:
        if part.batches:
            table = pa.Table.from_batches(part.batches).cast(self._schema)
            part.batches, part.buffered = [], 0
            part.writer.write_table(table, row_group_size=len(table))

    def _end(self, day: int) -> None:
        part = self._open[day]
        self._encode(part)
        part.writer.close()
        part.file.flush()
        os.fsync(part.file.fileno())
        part.file.close()
        del self._open[day]
        self._done.append(part)

    def _described(self, part: _Part) -> WrittenFile:
        with part.hidden.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = os.fstat(file.fileno()).st_size
        return WrittenFile(str(part.final.relative_to(self._folder)), part.rows, size, digest)


def _encoding(schema: pa.Schema) -> dict[str, Any]:
    """Give how columns are written: what costs least for what they hold."""
    plain = [column for column in schema if column.name in _PLAIN]
    return {
        "use_dictionary": [name for name in schema.names if name not in _PLAIN],
        "write_statistics": [name for name in schema.names if name not in _UNRANGED],
        # Times of records that follow each other are near each other.
        "column_encoding": {
            column.name: "DELTA_BINARY_PACKED"
            for column in plain
            if pa.types.is_timestamp(column.type)
        },
    }


def sync_folder(folder: Path) -> None:
    """Let the names in a folder survive a loss of power."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
