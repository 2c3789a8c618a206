"""Makes chunks of pieces of COPY's text, and keeps account of what was given."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from fernando_telemetry.domain.export_place import Last
from fernando_telemetry.domain.limits import EXPORT_CHUNK_BYTES
from fernando_telemetry.domain.paging import KeyType
from fernando_telemetry.queries.export_formats import ExportFormat
from fernando_telemetry.storage.export_kinds import Exported

# For the head in front of the first one.
_RESERVED_BYTES: Final = 16 * 1024
# Of Arrow's buffers; what they come to on the wire is a little more, and rows are not alike.
_AIMED_BYTES: Final = EXPORT_CHUNK_BYTES * 9 // 10


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of the data.

    Args:
        data: Whole messages or lines, at most 1 MiB; a record is never cut.
        row_count: Records in it.
        next_token: The export goes on behind it.
    """

    data: bytes
    row_count: int
    next_token: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk whose token is not written yet.

    Args:
        data: As in a chunk.
        row_count: Records in it.
        last: Its last record.
        last_flush_rows: Records in it of the flush of its last one; by time 0.
    """

    data: bytes
    row_count: int
    last: Last
    last_flush_rows: int


class Chunks:
    """Makes the chunks of one export. Its methods may run in another thread, one at a time.

    Args:
        exported: The kind of records.
        form: Their format.
    """

    def __init__(self, exported: Exported, form: ExportFormat) -> None:
        self._exported = exported
        self._form = form
        self._head = form.head
        self._digest = hashlib.sha256()
        self._keys: tuple[tuple[str, KeyType], ...] = ()
        self._last: Last | None = None
        self._to_skip = 0
        self.row_count = 0
        self.min_time: datetime | None = None
        self.max_time: datetime | None = None

    @property
    def piece_bytes(self) -> int:
        """How much text is worth a call of `of`."""
        return self._form.piece_bytes

    def sha256(self) -> str:
        """Give the digest of all data so far, as hex."""
        return self._digest.hexdigest()

    def begin(self, keys: tuple[tuple[str, KeyType], ...], last: Last | None) -> None:
        """Begin with the rows of a statement.

        Args:
            keys: Their order.
            last: They begin behind it, or with records equal to it that were given.
        """
        self._keys = keys
        self._last = last
        self._to_skip = last.count if last is not None and self._exported.has_equals else 0

    def of(self, data: bytes) -> list[Piece]:
        """Give the chunks of whole lines."""
        batch = self._exported.columns.parse(data, as_text=self._form.as_text)
        if self._to_skip:
            batch = self._without_given(batch)
        if not len(batch):
            return []
        found = pc.min_max(batch.column(self._exported.time_column)).as_py()
        self.min_time = min(found["min"], self.min_time or found["min"])
        self.max_time = max(found["max"], self.max_time or found["max"])
        self.row_count += len(batch)
        prepared = self._form.prepared(batch)
        parts = -(-prepared.nbytes // _AIMED_BYTES)
        rows = -(-len(batch) // parts)
        return [
            piece
            for start in range(0, len(batch), rows)
            for piece in self._cut(batch.slice(start, rows), prepared.slice(start, rows))
        ]

    def end(self) -> bytes:
        """Give what comes behind the last record."""
        return self._counted(self._form.tail)

    def _cut(self, batch: pa.RecordBatch, prepared: Any) -> Iterator[Piece]:
        data = self._form.encoded(prepared)
        rows = len(batch)
        if rows > 1 and len(data) > EXPORT_CHUNK_BYTES - _RESERVED_BYTES:
            half = rows // 2
            yield from self._cut(batch.slice(0, half), prepared.slice(0, half))
            yield from self._cut(batch.slice(half), prepared.slice(half))
            return
        self._last = self._last_of(batch)
        yield Piece(self._counted(data), rows, self._last, self._last_flush_rows(batch))

    def _counted(self, data: bytes) -> bytes:
        data, self._head = self._head + data, b""
        self._digest.update(data)
        return data

    # The place of the last record -----------------------------------------------------------

    def _last_of(self, batch: pa.RecordBatch) -> Last:
        keys = tuple(_value(batch, name, kind, len(batch) - 1) for name, kind in self._keys)
        if not self._exported.has_equals:
            return Last(keys)
        run = _run(self._equal(batch, keys)[::-1])
        if run == len(batch) and self._last is not None and self._last.keys == keys:
            run += self._last.count
        return Last(keys, run)

    def _last_flush_rows(self, batch: pa.RecordBatch) -> int:
        if self._keys[0][0] != "flush_id":
            return 0
        flush_ids = batch.column("flush_id")
        return int(pc.sum(pc.equal(flush_ids, flush_ids[len(batch) - 1])).as_py())

    def _without_given(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Leave out what the export before this one gave of records equal to its last."""
        assert self._last is not None
        run = _run(self._equal(batch, self._last.keys))
        skipped = min(run, self._to_skip)
        self._to_skip = self._to_skip - skipped if run == len(batch) else 0
        return batch.slice(skipped)

    def _equal(self, batch: pa.RecordBatch, keys: tuple[Any, ...]) -> Any:
        """Tell of each record whether it has these keys."""
        found = None
        for (name, _), key in zip(self._keys, keys, strict=True):
            column = batch.column(name)
            same = pc.equal(column, pa.scalar(key, column.type))
            found = same if found is None else pc.and_(found, same)
        return pc.fill_null(found, fill_value=False).to_numpy(zero_copy_only=False)


def _run(equal: Any) -> int:
    """Give how many of them hold before the first that does not."""
    return len(equal) if equal.all() else int(equal.argmin())


def _value(batch: pa.RecordBatch, name: str, kind: KeyType, row: int) -> Any:
    value = batch.column(name)[row].as_py()
    return UUID(value) if kind == "uuid" else value
