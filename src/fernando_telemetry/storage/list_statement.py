"""Puts a list's statement together: a named base, then filter, place, order and limit.

The base stands in sql/*.sql and ends in a WHERE clause that can go on with AND. What is added
here is made of fixed expressions and `$n` parameters only: no text of a caller gets into SQL.
Time is compared on the bare partition column, so that PostgreSQL leaves partitions out.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, assert_never

from fernando_telemetry.domain import vocabulary
from fernando_telemetry.domain.filter_columns import HAS, NESTED_TYPES, ColumnType
from fernando_telemetry.domain.filter_values import JsonValue
from fernando_telemetry.domain.filters import Comparison, Condition, Filter, Junction, Negation
from fernando_telemetry.domain.grouping import GroupField
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
class Joined:
    """A table that a source's rows refer to, and whose columns filters may name as well.

    Args:
        key: The source's column that the base of `source` selects.
        columns: Names of its columns.
        source: The table; its base ends in a WHERE clause and has no parameters.
    """

    key: str
    columns: Collection[str]
    source: Source


@dataclass(frozen=True, slots=True)
class Source:
    """What a list reads from.

    Args:
        base: The named statement, `$1` and `$2` being its time range.
        keys: The total order; the first is the time column.
        expressions: SQL of filter columns that are not called as theirs.
        prefix: Put before the name of any other filter column, such as `v.`.
        inclusive: Whether a page begins with the rows whose keys equal the place.
        joined: Where columns are that are not of this source.
        table: The partitioned raw table whose hot partitions are read with care; "": none.
    """

    base: str
    keys: tuple[Key, ...]
    expressions: Mapping[str, str] = field(default_factory=dict)
    prefix: str = ""
    inclusive: bool = False
    joined: Joined | None = None
    table: str = ""

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
        conditions: The filter; its columns are the source's.
        descending: Newest first.
        after: Keys of the last row of the page before, None on the first page.
        limit: Greatest number of rows to read.
    """

    time_range: TimeRange
    conditions: Filter
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


def compiled(conditions: Iterable[Condition], source: Source, parameters: Parameters) -> list[str]:
    """Compile a filter to conditions, adding its values to the parameters."""
    return [_condition(condition, source, parameters) for condition in conditions]


def _condition(condition: Condition, source: Source, parameters: Parameters) -> str:
    match condition:
        case Junction(joint=joint, parts=parts):
            return f"({f' {joint} '.join(_condition(one, source, parameters) for one in parts)})"
        case Negation(part=part):
            # What is not known does not hold, so its negation does.
            return f"({_condition(part, source, parameters)}) IS NOT TRUE"
        case Comparison(column=column):
            joined = source.joined
            if joined is not None and column.name in joined.columns:
                inner = _condition(condition, joined.source, parameters)
                return f"{joined.key} IN ({joined.source.base.rstrip()} AND {inner})"
            return _comparison(condition, source.expression(column.name), parameters)
        case _:
            assert_never(condition)


def _comparison(comparison: Comparison, expression: str, parameters: Parameters) -> str:
    column, operator = comparison.column, comparison.operator
    if operator == HAS and not comparison.path:
        return _has(comparison, expression, parameters)
    if comparison.path:
        return _of_path(comparison, expression, parameters)
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


def _has(comparison: Comparison, expression: str, parameters: Parameters) -> str:
    """Ask for an element of a list, a key of an object, or whether a column is set."""
    kind, value = comparison.column.type, comparison.value
    if kind is ColumnType.TEXT_LIST:
        if value is None:
            return f"cardinality({expression}) > 0"
        return f"{expression} @> ARRAY[{parameters.add(value, 'text')}]"
    if kind in NESTED_TYPES:
        if value is None:
            return f"{expression} <> '{{}}'::jsonb"
        return f"{expression} ? {parameters.add(value, 'text')}"
    return f"{expression} IS NOT NULL"


def _of_path(comparison: Comparison, expression: str, parameters: Parameters) -> str:
    """Compare a part of an object. Equality is containment, which a GIN index serves."""
    operator, value, path = comparison.operator, comparison.value, comparison.path
    if value is None:
        return f"({expression} #> {parameters.add(list(path), 'text[]')}) IS NOT NULL"
    assert isinstance(value, JsonValue)
    if operator in ("=", "!=", HAS):
        wanted = list(value.json)
        if operator == HAS:
            wanted += [f"[{one}]" for one in value.json]
        found = " OR ".join(
            f"{expression} @> {parameters.add(_nested(path, one), 'text')}::jsonb" for one in wanted
        )
        return f"({found}) IS NOT TRUE" if operator == "!=" else f"({found})"
    part = parameters.add(list(path), "text[]")
    kind, text = f"jsonb_typeof({expression} #> {part})", f"({expression} #>> {part})"
    if value.number is None:
        ordered = f'{text} COLLATE "C" {operator} {parameters.add(value.text, "text")}'
        return f"({kind} = 'string' AND {ordered})"
    # CASE, because AND may look at its right side first, and a text is no number.
    ordered = f"{text}::numeric {operator} {parameters.add(value.number, 'numeric')}"
    return f"CASE WHEN {kind} = 'number' THEN {ordered} ELSE false END"


def _nested(path: Iterable[str], inner: str) -> str:
    """Give the JSON object that has some JSON at a path and nothing else."""
    keys = [json.dumps(key) for key in path]
    return "".join(f"{{{key}:" for key in keys) + inner + "}" * len(keys)


def filtered(base: str, conditions: Iterable[str]) -> str:
    """Add conditions to a statement that ends in a WHERE clause."""
    return " AND ".join([base.rstrip(), *conditions])


def group_expression(field: GroupField, parameters: Parameters) -> str:
    """Give the SQL of a field that groups differ in: a column, or a key of a map."""
    if field.key is None:
        return field.column
    return f"{field.column} ->> {parameters.add(field.key, 'text')}"


def statement(source: Source, selection: Selection, parameters: Parameters) -> str:
    """Put the statement of one page together.

    Args:
        source: What is read.
        selection: Which rows of it.
        parameters: Holds the values of the base's parameters; the others are added.
    """
    conditions = compiled(selection.conditions, source, parameters)
    if selection.after is not None:
        conditions += place(source, selection.after, selection.descending, parameters)
    text = filtered(source.base, conditions)
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
