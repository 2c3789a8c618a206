"""Filters: conditions on the columns of a list, typed and checked.

The language is a subset of AIP-160 (domain/filter_grammar.py). Values come out typed, so that
storage only has to bind them; names come out of an allow-list, paths into payloads as values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from lark import Token

from fernando_telemetry.domain.errors import InvalidFilter
from fernando_telemetry.domain.filter_columns import (
    HAS,
    NESTED_TYPES,
    UNFILTERED_COLUMNS,
    Column,
    Columns,
    ColumnType,
    Operator,
)
from fernando_telemetry.domain.filter_grammar import (
    NOT_TEXT,
    Joint,
    Negated,
    Node,
    Term,
    echo,
    literal_text,
    read_tree,
    start_of,
)
from fernando_telemetry.domain.filter_values import Value, read_json_value, read_value
from fernando_telemetry.domain.limits import FILTER_BYTES

_NO_TEXT_OF_POSTGRESQL = re.compile("[\0\ud800-\udfff]")
# `column:*` asks whether it is set.
ANYTHING: Final = "*"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One comparison, typed and checked.

    Args:
        column: The column, of the allow-list that was given.
        operator: One of the column's operators.
        value: Of the column's type. None means NULL with = and !=, and "whatever it is" with `:`.
        position: Where it starts in the text, in characters from 0.
        path: Keys that lead into a payload or a map; empty for the column itself.
    """

    column: Column
    operator: Operator
    value: Value | None
    position: int
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Junction:
    """Conditions of which all must hold (AND), or one (OR)."""

    joint: Joint
    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Negation:
    """A condition that must not hold.

    A comparison with a column that is not set does not hold, so its negation does.
    """

    part: Condition


Condition = Comparison | Junction | Negation
# All of them must hold.
Filter = tuple[Condition, ...]


def parse(text: str, columns: Columns) -> Filter:
    """Read a filter; "" and white space are no conditions.

    Args:
        text: The filter as the caller wrote it.
        columns: The columns it may name, by name.

    Raises:
        InvalidFilter: With the position of the trouble and what would be right there.
    """
    _check_text(text)
    tree = read_tree(text)
    if tree is None:
        return ()
    condition = _condition(tree, columns)
    if isinstance(condition, Junction) and condition.joint == "AND":
        return condition.parts
    return (condition,)


def columns_of(condition: Condition) -> Iterator[Column]:
    """Give the columns that a condition names."""
    match condition:
        case Comparison(column=column):
            yield column
        case Negation(part=part):
            yield from columns_of(part)
        case Junction(parts=parts):
            for one in parts:
                yield from columns_of(one)


def _check_text(text: str) -> None:
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > FILTER_BYTES:
        raise InvalidFilter(0, f"it has {size} bytes, at most {FILTER_BYTES} are allowed")
    if found := _NO_TEXT_OF_POSTGRESQL.search(text):
        raise InvalidFilter(found.start(), NOT_TEXT)


def _condition(node: Node, columns: Columns) -> Condition:
    """Give a node its types; it is not nested deeper than the grammar allows."""
    if isinstance(node, Term):
        return _comparison(node, columns)
    if isinstance(node, Negated):
        return Negation(_condition(node.part, columns))
    return Junction(node.joint, tuple(_condition(part, columns) for part in node.parts))


def _comparison(term: Term, columns: Columns) -> Comparison:
    name = term.path[0]
    column = columns.get(name.value)
    if column is None:
        raise _unknown_column(name, columns)
    path = tuple(literal_text(key) for key in term.path[1:])
    _check_path(term, column)
    operators = column.path_operators if path else column.operators
    # Whether it is set can be asked of every column.
    operator = next((one for one in (*operators, HAS) if one == term.operator), None)
    if operator is None:
        raise InvalidFilter(
            term.position,
            f"{'.'.join((column.name, *path))} takes the operators {', '.join(operators)} only",
        )
    return Comparison(column, operator, _value(term, column, operator), term.position, path)


def _check_path(term: Term, column: Column) -> None:
    keys = term.path[1:]
    if keys and column.type not in NESTED_TYPES:
        raise InvalidFilter(start_of(keys[0]), f"{column.name} has no parts")
    if len(keys) > 1 and column.type is ColumnType.TEXT_MAP:
        raise InvalidFilter(
            start_of(keys[1]), f"{column.name} has one level; write a key with dots in quotes"
        )
    if not keys and term.operator != HAS and column.type in NESTED_TYPES:
        raise InvalidFilter(
            term.position, f"{column.name} is compared by its keys, such as {column.name}.plan = a"
        )


def _value(term: Term, column: Column, operator: Operator) -> Value | None:
    literal = term.literal
    text, is_quoted = literal_text(literal), literal.type == "STRING"
    if operator == HAS and text == ANYTHING and not is_quoted:
        return None
    if operator == HAS and column.type not in (*NESTED_TYPES, ColumnType.TEXT_LIST):
        raise InvalidFilter(
            start_of(literal), f"{column.name}:* asks whether it is set; else use ="
        )
    try:
        if len(term.path) > 1:
            return read_json_value(text, is_quoted=is_quoted or column.type is ColumnType.TEXT_MAP)
        value = read_value(column, text)
    except ValueError as error:
        raise InvalidFilter(start_of(literal), f"{error}, not {echo(literal)}") from None
    if value is None and operator not in ("=", "!="):
        raise InvalidFilter(
            start_of(literal), "an empty text, which means not set, takes = and != only"
        )
    return value


def _unknown_column(name: Token, columns: Columns) -> InvalidFilter:
    if name.value in UNFILTERED_COLUMNS:
        return InvalidFilter(start_of(name), f"Filtering on {name.value} is not available")
    return InvalidFilter(
        start_of(name), f"there is no column {echo(name)}; there are {', '.join(sorted(columns))}"
    )
