"""The columns of exported records: their Arrow types, and how COPY's text becomes Arrow.

PostgreSQL writes text and Arrow reads it, both in C; rows of the binary format would have to be
gone through one by one here. Arrow knows CSV only, but without quotes and escapes that is COPY's
text format, whose values have no tab and no line end: what stands for one is put back afterwards.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv


class Form(Enum):
    """What a column holds."""

    TEXT = "text"
    # An object or a list of objects; its text.
    JSON = "json"
    TIME = "time"
    NUMBER = "number"
    INTEGER = "integer"
    COUNT = "count"
    MONEY = "money"
    # Lists, which PostgreSQL writes in braces.
    TEXTS = "texts"
    NUMBERS = "numbers"
    COUNTS = "counts"


ARROW_TYPES: Final = {
    Form.TEXT: pa.string(),
    Form.JSON: pa.string(),
    Form.TIME: pa.timestamp("us", "UTC"),
    Form.NUMBER: pa.float64(),
    Form.INTEGER: pa.int32(),
    Form.COUNT: pa.int64(),
    # 20 digits before and 18 behind the point: what the verdicts allow.
    Form.MONEY: pa.decimal128(38, 18),
    Form.TEXTS: pa.list_(pa.string()),
    Form.NUMBERS: pa.list_(pa.float64()),
    Form.COUNTS: pa.list_(pa.int64()),
}
# Of the columns and what they hold: a column that is added, changed or taken away raises it.
SCHEMA_VERSION: Final = 1
LISTS: Final = frozenset({Form.TEXTS, Form.NUMBERS, Form.COUNTS})
FIGURES: Final = frozenset({Form.NUMBER, Form.INTEGER, Form.COUNT, Form.MONEY})

# COPY writes a backspace of a value as an escape, so that a bare one is none's.
NULL: Final = "\b"
_BACKSLASH: Final = "\\"
# What COPY writes behind a backslash; a backslash itself is doubled.
_ESCAPES: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
# PostgreSQL's text has none.
_HELD: Final = "\0"

_ELEMENT: Final = re.compile(r'("(?:[^"\\]|\\.)*")|([^,"]+)', re.DOTALL)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True)
class ExportColumns:
    """Columns of one kind of record.

    Attributes:
        shown: What is given away: form by name, in its order.
        hidden: What follows it in a line: keys of the order that are not shown.
    """

    shown: dict[str, Form]
    hidden: dict[str, Form]

    @cached_property
    def schema(self) -> pa.Schema:
        """The schema of what is given away."""
        return pa.schema(
            [(name, ARROW_TYPES[form]) for name, form in self.shown.items()],
            {"fernando_telemetry.schema_version": str(SCHEMA_VERSION)},
        )

    def parse(self, data: bytes, *, as_text: bool) -> pa.RecordBatch:
        """Read whole lines of COPY's text format, NULL written as `NULL` says.

        Args:
            data: As COPY wrote them.
            as_text: Leave figures as they were written.

        Returns:
            Shown and hidden columns; lists are texts in braces still.
        """
        types = {
            name: pa.string()
            if form in LISTS or (as_text and form in FIGURES)
            else ARROW_TYPES[form]
            for name, form in self.shown.items()
        } | {name: ARROW_TYPES[form] for name, form in self.hidden.items()}
        table = csv.read_csv(
            pa.py_buffer(data),
            # One block: no record is cut, and what is read comes as one batch.
            csv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=list(types)),
            csv.ParseOptions(
                delimiter="\t", quote_char=False, double_quote=False, escape_char=False
            ),
            csv.ConvertOptions(
                column_types=types,
                null_values=[NULL],
                strings_can_be_null=True,
                # PostgreSQL has looked, and looking again is a tenth of the time.
                check_utf8=False,
            ),
        )
        batch = as_one(table)
        return _unescaped(batch) if _BACKSLASH.encode() in data else batch

    def given_away(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Give the shown columns of a batch that was not parsed as text, in their types."""
        columns = [
            lists_of(batch.column(place), ARROW_TYPES[form])
            if form in LISTS
            else batch.column(place)
            for place, form in enumerate(self.shown.values())
        ]
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)


def as_one(table: pa.Table) -> pa.RecordBatch:
    """Give a table as one batch."""
    columns = [column.combine_chunks() for column in table.columns]
    return pa.RecordBatch.from_arrays(columns, schema=table.schema)


def _unescaped(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Put back what COPY wrote as escapes."""
    columns = [
        _plain(column)
        if column.type == pa.string() and pc.any(pc.match_substring(column, _BACKSLASH)).as_py()
        else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _plain(texts: pa.Array) -> pa.Array:
    """Give texts without escapes. Backslashes are held back until what they would begin is read."""
    texts = pc.replace_substring(texts, _BACKSLASH * 2, _HELD)
    for letter, character in _ESCAPES.items():
        texts = pc.replace_substring(texts, _BACKSLASH + letter, character)
    return pc.replace_substring(texts, _HELD, _BACKSLASH)


def lists_of(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    """Read arrays as PostgreSQL writes them."""
    if texts.null_count == len(texts):
        return pa.nulls(len(texts), kind)
    # Elements that need no quotes have no comma either.
    if pc.any(pc.match_substring(texts, '"')).as_py():
        found = [None if text is None else _elements(text) for text in texts.to_pylist()]
        return pa.array(found, kind)
    inner = pc.utf8_slice_codeunits(texts, 1, -1)
    parts = pc.split_pattern(inner, ",")
    empty = pc.equal(inner, "")
    if pc.any(empty).as_py():
        parts = pc.if_else(empty, pa.scalar([], parts.type), parts)
    return parts.cast(kind)


def _elements(text: str) -> list[str]:
    """Read one array of texts, none of them NULL."""
    elements = _ELEMENT.findall(text[1:-1])
    return [_ESCAPED.sub(r"\1", quoted[1:-1]) if quoted else plain for quoted, plain in elements]
