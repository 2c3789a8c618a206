"""Puts a list's statement together: a named base, then filter, place, order and limit.

The base stands in sql/*.sql and ends in a WHERE clause that can go on with AND. What is added
here is made of fixed expressions and `$n` parameters only: no text of a caller gets into SQL.
Time is compared on the bare partition column, so that PostgreSQL leaves partitions out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from fernando_telemetry.domain import vocabulary
from fernando_telemetry.domain.filter_columns import ColumnType
from fernando_telemetry.domain.filters import Comparison
from fernando_telemetry.domain.paging import KeyType, Position
from fernando_telemetry.domain.time_range import TimeRange

_KEY_CASTS: Final[Mapping[KeyType, str]] = {
    "time": "timestamptz",
    "uuid": "uuid",
    "int4": "integer",
    "int8": "bigint",
    "float8": "double precision",
    "text": "text",
}
_COLUMN_CASTS: Final = {
    ColumnType.TEXT: "text",
    ColumnType.NUMBER: "double precision",
    ColumnType.DECIMAL: "numeric",
    ColumnType.INTEGER: "integer",
    ColumnType.TIMESTAMP: "timestamptz",
    ColumnType.UUID: "uuid",
    ColumnType.INET: "inet",
    ColumnType.TRACE_ID: "text",
    ColumnType.SPAN_ID: "text",
    ColumnType.SERIES_ID: "uuid",
}
# SQL types of enums that are not called as their column, by their words.
_ENUM_TYPES: Final = {
    vocabulary.SPAN_KINDS: "span_kind",
    vocabulary.SPAN_STATUSES: "span_status",
    vocabulary.RECORD_KINDS: "text",
    vocabulary.VERDICTS: "text",
}


@dataclass(frozen=True, slots=True)
class Key:
    """One column of a list's total order.

    Args:
        name: The column in the result.
        type: What it holds.
        expression: What is compared and sorted, where it is not the bare name.
    """

    name: str
    type: KeyType
    expression: str = ""

    @property
    def sql(self) -> str:
        """The expression; texts sort alike on every server only by their bytes."""
        expression = self.expression or self.name
        return f'{expression} COLLATE "C"' if self.type == "text" else expression


@dataclass(frozen=True, slots=True)
class Source:
    """What a list reads from.

    Args:
        base: The named statement, `$1` and `$2` being its time range.
        keys: The total order; the first is the time column.
        expressions: SQL of filter columns that are not called as theirs.
        prefix: Put before the name of any other filter column, such as `v.`.
        inclusive: Whether a page begins with the rows whose keys equal the place.
    """

    base: str
    keys: tuple[Key, ...]
    expressions: Mapping[str, str] = field(default_factory=dict)
    prefix: str = ""
    inclusive: bool = False

    @property
    def key_types(self) -> tuple[KeyType, ...]:
        """Types of the keys, in their order."""
        return tuple(key.type for key in self.keys)

    def expression(self, column: str) -> str:
        """Give the SQL of a filter column."""
        return self.expressions.get(column, f"{self.prefix}{column}")


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows of a source one page reads.

    Args:
        time_range: On the source's time column.
        comparisons: The filter; its columns are the source's.
        descending: Newest first.
        after: Keys of the last row of the page before, None on the first page.
        limit: Greatest number of rows to read.
    """

    time_range: TimeRange
    comparisons: tuple[Comparison, ...]
    descending: bool
    after: Position | None
    limit: int


class Parameters:
    """The values of a statement, in the order of its `$n`."""

    def __init__(self, *values: Any) -> None:
        self.values: list[Any] = list(values)

    def add(self, value: Any, cast: str) -> str:
        """Append a value and give the parameter that stands for it."""
        self.values.append(value)
        return f"${len(self.values)}::{cast}"


def compiled(
    comparisons: Iterable[Comparison], source: Source, parameters: Parameters
) -> list[str]:
    """Compile a filter to conditions, adding its values to the parameters."""
    return [
        _condition(comparison, source.expression(comparison.column.name), parameters)
        for comparison in comparisons
    ]


def _condition(comparison: Comparison, expression: str, parameters: Parameters) -> str:
    column, operator = comparison.column, comparison.operator
    if comparison.value is None:
        return f"{expression} IS {'' if operator == '=' else 'NOT '}NULL"
    if column.type is ColumnType.ENUM:
        enum_type = _ENUM_TYPES.get(column.words, column.name)
        parameter = f"{parameters.add(comparison.value, 'text')}::{enum_type}"
    else:
        parameter = parameters.add(comparison.value, _COLUMN_CASTS[column.type])
    if operator == "=":
        return f"{expression} = {parameter}"
    if operator == "!=":
        # A row where the column is not set differs from every value.
        return f"{expression} IS DISTINCT FROM {parameter}"
    collation = ' COLLATE "C"' if column.type is ColumnType.TEXT else ""
    return f"{expression}{collation} {operator} {parameter}"


def statement(source: Source, selection: Selection, parameters: Parameters) -> str:
    """Put the statement of one page together.

    Args:
        source: What is read.
        selection: Which rows of it.
        parameters: Holds the values of the base's parameters; the others are added.
    """
    conditions = compiled(selection.comparisons, source, parameters)
    if selection.after is not None:
        conditions += place(source, selection.after, selection.descending, parameters)
    text = " AND ".join([source.base.rstrip(), *conditions])
    limit = parameters.add(selection.limit, "bigint")
    return f"{text}\n{order(source.keys, descending=selection.descending)} LIMIT {limit}"


def order(keys: Iterable[Key], *, descending: bool) -> str:
    """Give the ORDER BY clause of a total order."""
    direction = " DESC" if descending else ""
    return "ORDER BY " + ", ".join(f"{key.sql}{direction}" for key in keys)


def place(source: Source, after: Position, descending: bool, parameters: Parameters) -> list[str]:
    """Give the conditions for what comes behind a place in the order."""
    values = [
        parameters.add(value, _KEY_CASTS[key.type])
        for key, value in zip(source.keys, after, strict=True)
    ]
    beyond = "<" if descending else ">"
    expressions = ", ".join(key.sql for key in source.keys)
    return [
        # A comparison of rows does not leave partitions out, one of the time column does.
        f"{source.keys[0].sql} {beyond}= {values[0]}",
        f"({expressions}) {beyond}{'=' if source.inclusive else ''} ({', '.join(values)})",
    ]
