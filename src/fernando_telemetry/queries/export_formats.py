"""Formats of an export: batches of records as Arrow IPC or as JSON lines."""

from __future__ import annotations

import json
from typing import Any, Final, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from fernando_telemetry.storage.export_columns import FIGURES, LISTS, ExportColumns, Form, lists_of

# Of an IPC stream, in the words of Arrow's format: a continuation and the length 0.
_END_OF_STREAM: Final = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_NOT_FINITE: Final = pa.array(["NaN", "Infinity", "-Infinity"])
_CONTROLS: Final = "[\x01-\x1f]"


class ExportFormat(Protocol):
    """Makes bytes of batches.

    Attributes:
        as_text: Figures are wanted as PostgreSQL wrote them.
        piece_bytes: How much of COPY's text is worth a call.
        head: What an export begins with.
        tail: What it ends with.
    """

    as_text: bool
    piece_bytes: int
    head: bytes
    tail: bytes

    def prepared(self, batch: pa.RecordBatch) -> Any:
        """Give what `encoded` takes slices of."""

    def encoded(self, prepared: Any) -> bytes:
        """Give the bytes of a slice."""


class ArrowIpc:
    """An Arrow IPC stream: its schema, a message a batch, and its end."""

    as_text = False
    piece_bytes = 3 * 1024 * 1024
    tail = _END_OF_STREAM

    def __init__(self, columns: ExportColumns) -> None:
        self._columns = columns
        self.head: bytes = columns.schema.serialize().to_pybytes()

    def prepared(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Give the batch in its types."""
        return self._columns.given_away(batch)

    def encoded(self, prepared: pa.RecordBatch) -> bytes:
        """Give one message."""
        message: bytes = prepared.serialize().to_pybytes()
        return message


class JsonLines:
    """A JSON object per line, keyed by column names. JSON columns are objects, money is a text."""

    as_text = True
    piece_bytes = 1024 * 1024
    head = b""
    tail = b""

    def __init__(self, columns: ExportColumns) -> None:
        self._columns = columns

    def prepared(self, batch: pa.RecordBatch) -> pa.Array:
        """Give the lines, as one array of texts."""
        parts: list[Any] = []
        lead = "{"
        for place, (name, form) in enumerate(self._columns.shown.items()):
            parts += [f'{lead}"{name}":', _json(batch.column(place), form)]
            lead = ","
        return pc.binary_join_element_wise(*parts, "}\n", "")

    def encoded(self, prepared: pa.Array) -> bytes:
        """Give the lines one behind the other."""
        _, offsets, data = prepared.buffers()
        ends = memoryview(offsets).cast("i")
        first, behind = ends[prepared.offset], ends[prepared.offset + len(prepared)]
        return bytes(memoryview(data)[first:behind])


def _json(column: pa.Array, form: Form) -> pa.Array:
    """Give a column's values as JSON."""
    if form is Form.TIME:
        texts = pc.strftime(column, "%Y-%m-%dT%H:%M:%S")
        texts = pc.binary_join_element_wise('"', texts, 'Z"', "")
    elif form is Form.JSON:
        texts = column
    elif form in LISTS:
        texts = _listed(lists_of(column, pa.list_(pa.string())), form)
    elif form in FIGURES - {Form.MONEY}:
        texts = _finite(column)
    else:
        texts = _quoted(column)
    return pc.fill_null(texts, "null")


def _listed(lists: pa.Array, form: Form) -> pa.Array:
    elements = lists.flatten()
    elements = _quoted(elements) if form is Form.TEXTS else pc.fill_null(_finite(elements), "null")
    parts = pa.ListArray.from_arrays(lists.offsets, elements, mask=lists.is_null())
    return pc.binary_join_element_wise("[", pc.binary_join(parts, ","), "]", "")


def _finite(figures: pa.Array) -> pa.Array:
    """Leave out what JSON has no word for."""
    return pc.if_else(pc.is_in(figures, _NOT_FINITE), None, figures)


def _quoted(column: pa.Array) -> pa.Array:
    if pc.any(pc.match_substring_regex(column, _CONTROLS)).as_py():
        return pa.array(
            [
                None if text is None else json.dumps(text, ensure_ascii=False)
                for text in column.to_pylist()
            ],
            pa.string(),
        )
    escaped = pc.replace_substring(column, "\\", "\\\\")
    escaped = pc.replace_substring(escaped, '"', '\\"')
    return pc.binary_join_element_wise('"', escaped, '"', "")
