"""Encodes column slices for COPY … (FORMAT binary).

Tables with texts are encoded by pgpq from Arrow; samples, five fixed-width columns, are laid out
by numpy. The format: PostgreSQL's documentation, COPY, "Binary Format": a header, per row an
int16 count of fields and per field an int32 length before its bytes, an int16 -1 at the end.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final

import numpy as np
import pyarrow as pa

from fernando_telemetry.domain.series import SeriesIdentity
from fernando_telemetry.storage.columns import ColumnBlock, ColumnSlice, Integers
from fernando_telemetry.storage.rows import EVENTS, SAMPLES, SPANS, RawTable

HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER: Final = b"\xff\xff"
# 2000-01-01, where PostgreSQL's timestamps count from, in Unix microseconds.
POSTGRES_EPOCH_MICROS: Final = 946_684_800_000_000
# Encoding holds the GIL; after so many rows the event loop gets its turn.
SLICE_ROWS: Final = 2048
SAMPLE_SLICE_ROWS: Final = 32_768

UUID_BYTES: Final = 16
COUNTER_LOW_BITS: Final = 62


@dataclass(frozen=True, slots=True)
class Added:
    """What the flush adds to the rows of one table.

    Attributes:
        flush_id: The flush.
        ingested_at: Its time, by the database's clock.
        first: How many rows of the table the flush has put in front of these: ids and ordinals
            go on from there.
        id_counter: Counter of the table's first UUIDv7 (domain/identifiers.uuid7_run).
    """

    flush_id: int
    ingested_at: datetime
    first: int = 0
    id_counter: int = 0


def uuid7_column(unix_millis: int, counter: int, count: int) -> pa.Array:
    """Give `count` UUIDs of a run as 16-byte values.

    Args:
        unix_millis: Their time.
        counter: As `random_bits` of uuid7_run, whose run this is. Its low 62 bits must not
            overflow within the run.
        count: Length of the run.
    """
    low_mask = (1 << COUNTER_LOW_BITS) - 1
    head = (unix_millis & (1 << 48) - 1) << 16 | 7 << 12 | counter >> COUNTER_LOW_BITS & 0xFFF
    halves = np.empty((count, 2), ">u8")
    halves[:, 0] = head
    halves[:, 1] = np.arange(count, dtype=np.uint64) + np.uint64(2 << 62 | counter & low_mask)
    return pa.Array.from_buffers(
        pa.binary(UUID_BYTES), count, [None, pa.py_buffer(halves.tobytes())]
    )


def merged(
    slices: Sequence[tuple[ColumnSlice, int]],
) -> list[tuple[ColumnSlice, list[int], list[int]]]:
    """Join slices that follow each other in one block.

    Args:
        slices: Each with its batch's shard; none is empty.

    Returns:
        Longer slices, each with the shards and lengths of its parts.
    """
    joined: list[tuple[ColumnSlice, list[int], list[int]]] = []
    for part, shard in slices:
        if joined and joined[-1][0].block is part.block and joined[-1][0].stop == part.start:
            before, shards, lengths = joined[-1]
            shards.append(shard)
            lengths.append(len(part))
            joined[-1] = (ColumnSlice(part.block, before.start, part.stop), shards, lengths)
        else:
            joined.append((part, [shard], [len(part)]))
    return joined


def encode_rows(
    table: RawTable, slices: Sequence[tuple[ColumnSlice, int]], added: Added
) -> Iterator[bytes]:
    """Encode rows of a table with texts.

    Args:
        table: Events or spans.
        slices: The rows, each slice with its batch's shard.
        added: What goes with them.

    Yields:
        Pieces of the COPY data.
    """
    encoder: Any = None
    millis = int(added.ingested_at.timestamp() * 1000)
    done = added.first
    for part, shards, lengths in merged(slices):
        shard_column = np.repeat(np.array(shards, np.int16), lengths)
        for start in range(0, len(part), SLICE_ROWS):
            stop = min(start + SLICE_ROWS, len(part))
            count = stop - start
            given = part.block.columns.slice(part.start + start, count)
            columns = list(given.columns)
            if table is EVENTS:
                columns.insert(0, uuid7_column(millis, added.id_counter + done, count))
            columns.append(_constant(added.ingested_at, pa.timestamp("us", "UTC"), count))
            if table is SPANS:
                columns.append(pa.array(np.arange(done, done + count, dtype=np.int32)))
            columns.append(pa.array(shard_column[start:stop]))
            columns.append(_constant(added.flush_id, pa.int64(), count))
            batch = pa.RecordBatch.from_arrays(columns, names=table.columns)
            if encoder is None:
                encoder = _encoder(table, batch.schema)
                yield _encoded(encoder.write_header)
            # It may keep a part for later; an empty piece would be a message of its own.
            if piece := _encoded(encoder.write_batch, batch):
                yield piece
            done += count
    yield _encoded(encoder.finish)


def can_encode() -> bool:
    """Tell whether there is pgpq: it has no wheel for every machine."""
    return importlib.util.find_spec("pgpq") is not None


def encode_batch(batch: pa.RecordBatch) -> Iterator[bytes]:
    """Encode rows as they are; types that PostgreSQL reads from the same bytes will do."""
    from pgpq import ArrowToPostgresBinaryEncoder

    encoder = ArrowToPostgresBinaryEncoder(batch.schema)
    piece = _encoded(encoder.write_header)
    for start in range(0, len(batch), SLICE_ROWS):
        if start and piece:
            yield piece
            piece = b""
        piece += _encoded(encoder.write_batch, batch.slice(start, SLICE_ROWS))
    # Few rows are one message: each costs the event loop a turn.
    yield piece + _encoded(encoder.finish)


def _encoded(step: Callable[..., bytes], *arguments: Any) -> bytes:
    """Take a step of pgpq's encoder.

    Raises:
        ValueError: It cannot encode a value; the rows are then told from each other as tuples.
    """
    try:
        return step(*arguments)
    except Exception as error:
        raise ValueError(f"pgpq: {error}") from error
    except BaseException as error:
        # A panic of Rust comes as a BaseException of its own.
        if type(error).__name__ == "PanicException":
            raise ValueError(f"pgpq: {error}") from None
        raise


def encode_samples(
    slices: Sequence[tuple[ColumnSlice, int]], ids: Mapping[SeriesIdentity, int], flush_id: int
) -> Iterator[bytes]:
    """Encode samples, sorted by series and time: BRIN over (series_id, time) then finds them."""
    series_parts: list[Any] = []
    micros_parts: list[Integers] = []
    value_parts: list[Any] = []
    shards: list[int] = []
    lengths: list[int] = []
    for part, part_shards, part_lengths in merged(slices):
        columns = part.block.columns
        places = columns.column(0).to_numpy()[part.start : part.stop]
        series_parts.append(series_ids_of(part.block, ids)[places])
        micros_parts.append(part.micros)
        value_parts.append(columns.column(2).to_numpy()[part.start : part.stop])
        shards += part_shards
        lengths += part_lengths
    series = np.concatenate(series_parts)
    micros = np.concatenate(micros_parts)
    order = np.lexsort((micros, series))
    rows = _sample_rows(len(order))
    rows["series"] = series[order]
    rows["time"] = micros[order] - POSTGRES_EPOCH_MICROS
    rows["value"] = np.concatenate(value_parts)[order]
    rows["shard"] = np.repeat(np.array(shards, np.int16), lengths)[order]
    rows["flush"] = flush_id
    yield HEADER
    for start in range(0, len(rows), SAMPLE_SLICE_ROWS):
        yield rows[start : start + SAMPLE_SLICE_ROWS].tobytes()
    yield TRAILER


def series_ids_of(block: ColumnBlock, ids: Mapping[SeriesIdentity, int]) -> Any:
    """Give the id of each of the block's identities; 0 where no row of these batches has it."""
    return np.array([ids.get(identity, 0) for identity in block.identities], np.int32)


_SAMPLE_LAYOUT: Final = np.dtype(
    [
        ("fields", ">i2"),
        ("series_bytes", ">i4"),
        ("series", ">i4"),
        ("time_bytes", ">i4"),
        ("time", ">i8"),
        ("value_bytes", ">i4"),
        ("value", ">f8"),
        ("shard_bytes", ">i4"),
        ("shard", ">i2"),
        ("flush_bytes", ">i4"),
        ("flush", ">i8"),
    ]
)


def _sample_rows(count: int) -> Any:
    rows = np.empty(count, _SAMPLE_LAYOUT)
    rows["fields"] = len(SAMPLES.columns)
    for name in ("series", "time", "value", "shard", "flush"):
        rows[f"{name}_bytes"] = _SAMPLE_LAYOUT[name].itemsize
    return rows


def _constant(value: Any, kind: pa.DataType, count: int) -> pa.Array:
    return pa.repeat(pa.scalar(value, kind), count)


_JSON_COLUMNS: Final = {EVENTS.name: ("event_data",), SPANS.name: ("tags", "events", "links")}


def _encoder(table: RawTable, schema: pa.Schema) -> Any:
    """Make an encoder for one COPY."""
    from pgpq import ArrowToPostgresBinaryEncoder

    return ArrowToPostgresBinaryEncoder.new_with_encoders(schema, _builders(table, schema))


@cache
def _builders(table: RawTable, schema: pa.Schema) -> dict[str, Any]:
    from pgpq import ArrowToPostgresBinaryEncoder
    from pgpq.encoders import StringEncoderBuilder
    from pgpq.schema import Jsonb

    return {
        field.name: (
            StringEncoderBuilder.new_with_output(field, Jsonb())
            if field.name in _JSON_COLUMNS[table.name]
            else ArrowToPostgresBinaryEncoder.infer_encoder(field)
        )
        for field in schema
    }
