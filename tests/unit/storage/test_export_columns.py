"""Lists as PostgreSQL writes them in braces, and COPY's text that holds anything a text may."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as some

from fernando_telemetry.storage.export_columns import NULL, ExportColumns, Form, lists_of

TEXTS = pa.list_(pa.string())
# What PostgreSQL's text holds.
TEXT = some.text(some.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


def braces(elements: list[str]) -> str:
    """Write a text[] as PostgreSQL's array_out does."""

    def written(element: str) -> str:
        plain = element and not set(element) & set('{}",\\ \t\n\r\v\f')
        if plain and element.upper() != "NULL":
            return element
        return '"' + element.replace("\\", "\\\\").replace('"', '\\"') + '"'

    return "{" + ",".join(map(written, elements)) + "}"


@pytest.mark.parametrize(
    ("texts", "lists"),
    [
        (["{a,b}", None, "{}", "{x}"], [["a", "b"], None, [], ["x"]]),
        ([None, None], [None, None]),
        (['{"a b","q\\"x\\\\","NULL",c,""}', "{}"], [["a b", 'q"x\\', "NULL", "c", ""], []]),
        (["{é,ü}"], [["é", "ü"]]),
    ],
)
def test_lists_in_braces(texts: list[str | None], lists: list[list[str] | None]) -> None:
    assert lists_of(pa.array(texts, pa.string()), TEXTS).to_pylist() == lists


def test_lists_of_numbers() -> None:
    texts = pa.array(["{1,2.5,1e+300}", None, "{}"])
    assert lists_of(texts, pa.list_(pa.float64())).to_pylist() == [[1, 2.5, 1e300], None, []]


@given(some.lists(some.none() | some.lists(TEXT, max_size=4), min_size=1, max_size=5))
def test_any_lists_of_texts(lists: list[list[str] | None]) -> None:
    texts = [None if one is None else braces(one) for one in lists]
    assert lists_of(pa.array(texts, pa.string()), TEXTS).to_pylist() == lists


def line(*values: str | None) -> str:
    """Write a row as COPY … (FORMAT text, NULL '\b') does."""
    escapes = {"\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    table = str.maketrans(escapes | {"\v": "\\v"})
    return "\t".join(NULL if one is None else one.translate(table) for one in values) + "\n"


# Letters that follow a backslash in an escape, and what they stand for, are drawn often.
ODD = some.text(some.sampled_from("\\\\bfnrtvN\b\f\n\r\t\v\"',é"), max_size=12)


@given(some.lists(some.tuples(ODD | TEXT | some.none(), ODD | TEXT), min_size=1, max_size=5))
def test_any_texts_of_copy(rows: list[tuple[str | None, str]]) -> None:
    lines = [line(*row, str(n)) for n, row in enumerate(rows)]
    columns = ExportColumns({"a": Form.TEXT, "b": Form.TEXT}, {"flush_id": Form.COUNT})
    batch = columns.parse("".join(lines).encode(), as_text=False)
    assert list(zip(*(batch.column(name).to_pylist() for name in ("a", "b")), strict=True)) == rows
    assert batch.column("flush_id").to_pylist() == list(range(len(rows)))
