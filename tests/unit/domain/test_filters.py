"""The filter grammar, its types, and what it refuses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fernando_telemetry.domain.errors import InvalidFilter
from fernando_telemetry.domain.filter_columns import (
    BUSINESS_METRIC_COLUMNS,
    EVENT_COLUMNS,
    HAS,
    SPAN_COLUMNS,
    SYSTEM_METRIC_COLUMNS,
    Column,
    Columns,
    ColumnType,
)
from fernando_telemetry.domain.filter_values import JsonValue
from fernando_telemetry.domain.filters import (
    Comparison,
    Condition,
    Filter,
    Junction,
    Negation,
    parse,
)
from fernando_telemetry.domain.limits import FILTER_BYTES, FILTER_DEPTH, FILTER_TERMS

ID = "01890a5d-ac96-774b-bcce-b302099a8057"


def short(conditions: Filter) -> list[tuple[str, str, object]]:
    """Give comparisons, all of which must hold, as column (and path), operator and value."""
    found: list[tuple[str, str, object]] = []
    for one in conditions:
        assert isinstance(one, Comparison)
        found.append((".".join((one.column.name, *one.path)), one.operator, one.value))
    return found


def shape(condition: Condition) -> object:
    """Give a condition as nested tuples, comparisons by their column."""
    match condition:
        case Comparison(column=column):
            return column.name
        case Negation(part=part):
            return ("NOT", shape(part))
        case Junction(joint=joint, parts=parts):
            return (joint, *map(shape, parts))


@pytest.mark.parametrize(
    ("text", "columns", "expected"),
    [
        ("", EVENT_COLUMNS, []),
        (" \n\t ", EVENT_COLUMNS, []),
        ('user_id = "u1"', EVENT_COLUMNS, [("user_id", "=", "u1")]),
        ("user_id='u1'", EVENT_COLUMNS, [("user_id", "=", "u1")]),
        ("user_id=42", EVENT_COLUMNS, [("user_id", "=", "42")]),
        ("user_id < b-2", EVENT_COLUMNS, [("user_id", "<", "b-2")]),
        (
            "event_type != user_action AND duration_ms >= -1.5e2",
            EVENT_COLUMNS,
            [("event_type", "!=", "user_action"), ("duration_ms", ">=", -150.0)],
        ),
        ('user_id = ""', EVENT_COLUMNS, [("user_id", "=", None)]),
        ("source_ip != ''", EVENT_COLUMNS, [("source_ip", "!=", None)]),
        (f"event_id = {ID}", EVENT_COLUMNS, [("event_id", "=", UUID(ID))]),
        ("source_ip = 2001:DB8::1", EVENT_COLUMNS, [("source_ip", "=", "2001:db8::1")]),
        (
            "event_timestamp > 2026-05-17T11:30:00.1234567+02:00",
            EVENT_COLUMNS,
            [("event_timestamp", ">", datetime(2026, 5, 17, 9, 30, 0, 123456, UTC))],
        ),
        (
            'ingested_at <= "2026-05-17T09:30:00Z"',
            EVENT_COLUMNS,
            [("ingested_at", "<=", datetime(2026, 5, 17, 9, 30, tzinfo=UTC))],
        ),
        (
            "trace_id = 00000000000000AB AND span_id = 00000000000000AB",
            SPAN_COLUMNS,
            [("trace_id", "=", "0" * 30 + "ab"), ("span_id", "=", "0" * 14 + "ab")],
        ),
        ("http_status_code >= 500", SPAN_COLUMNS, [("http_status_code", ">=", 500)]),
        ("kind = ''", SPAN_COLUMNS, [("kind", "=", None)]),
        (
            'metric_value > "49.90"',
            BUSINESS_METRIC_COLUMNS,
            [("metric_value", ">", Decimal("49.90"))],
        ),
        (
            f"series_id = {UUID(ID).hex.upper()} AND metric_value < .5",
            SYSTEM_METRIC_COLUMNS,
            [("series_id", "=", UUID(ID)), ("metric_value", "<", 0.5)],
        ),
        # What looks like SQL is a literal.
        ("user_id = $1", EVENT_COLUMNS, [("user_id", "=", "$1")]),
        ("user_id = --", EVENT_COLUMNS, [("user_id", "=", "--")]),
        ("user_id = '1 OR 1=1'", EVENT_COLUMNS, [("user_id", "=", "1 OR 1=1")]),
        ('user_id = "x\'; DROP TABLE t"', EVENT_COLUMNS, [("user_id", "=", "x'; DROP TABLE t")]),
        # Keywords are whole words.
        ("user_id = ANDROID", EVENT_COLUMNS, [("user_id", "=", "ANDROID")]),
        (r'user_id = "\"\\\n\t\r\'\u00e9"', EVENT_COLUMNS, [("user_id", "=", "\"\\\n\t\r'é")]),
        (r'user_id = "\ud83d\ude00"', EVENT_COLUMNS, [("user_id", "=", "😀")]),
        ("user_id = 'a AND b'", EVENT_COLUMNS, [("user_id", "=", "a AND b")]),
    ],
)
def test_reads(text: str, columns: Columns, expected: list[tuple[str, str, object]]) -> None:
    assert short(parse(text, columns)) == expected


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        # What AIP-160 has and this does not.
        ("user_id:a", 8, "user_id:* asks whether it is set"),
        ("has(user_id)", 0, "Calling functions is not available"),
        ("user_id = now()", 10, "Calling functions is not available"),
        ("user_id = a user_id = b", 12, "write AND"),
        ("tags = a", 0, "tags takes the operators : only"),
        ("distribution:*", 0, "Filtering on distribution is not available"),
        ("event_data = a", 0, "compared by its keys"),
        ("user_id.name = a", 8, "user_id has no parts"),
        ("tags.web = a", 5, "tags has no parts"),
        ("event_data.", 11, "expected"),
        ("user_id = a OR", 14, "expected"),
        ("user_id = a OR OR user_id = b", 15, "found OR"),
        ("NOT", 3, "expected a column name"),
        ("user_id = a AND (user_id = b", 28, "found the end"),
        ("user_id = a)", 11, "found )"),
        # What is no filter.
        ("1=1 OR", 0, "expected a column name"),
        ("1=1 OR user_id = a", 0, "expected a column name"),
        ("user_id = a OR 1=1", 15, "expected"),
        ("user_id", 0, "expected a comparison"),
        ("user_id = a and user_id = b", 12, "upper-case"),
        ('user_id LIKE "a%"', 8, "expected an operator (=, !=, <, <=, >, >=, :), found LIKE"),
        ("event_data.a  not in (1, 2)", 14, "expected an operator (=, !=, <, <=, >, >=, :), "),
        ("user_id = a OR user_id IS NULL", 23, "found IS"),
        ("user_id island", 0, "expected a comparison"),
        ("user_id =", 9, "expected a value, found the end"),
        ("user_id = a AND", 15, "expected a column name, found the end"),
        ("user_id = AND user_id = b", 10, "expected a value, found AND"),
        ("user_id == a", 9, "expected a value"),
        ("user_id <> a", 9, "expected a value"),
        ("user_id ~ 'a.*'", 8, "expected"),
        ('user_id = "a', 10, "not closed"),
        ("user_id = 'it''s'", 14, "expected a comparison"),
        ("user_id = a; DROP TABLE x", 13, "expected a comparison"),
        ('user_id = "a"; DROP TABLE x', 13, "found ;"),
        ("user_id = a -- x", 13, "expected a column name"),
        ("((((", 4, "expected a column name"),
        # What the column does not take.
        ("nothing = 1", 0, "there is no column nothing"),
        ("event_type > api_event", 0, "operators =, != only"),
        (f"event_id < {ID}", 0, "operators =, != only"),
        ("event_type = bogus", 13, "one of user_action"),
        ("event_id = 1", 11, "a UUID"),
        ("duration_ms = fast", 14, "a number"),
        ("duration_ms = nan", 14, "a number"),
        ("duration_ms = 1e999", 14, "a number"),
        ("duration_ms = ''", 14, "a number"),
        ("event_timestamp > 2026-05-17", 18, "RFC 3339"),
        ("event_timestamp > 2026-05-17T00:00:00", 18, "RFC 3339"),
        ("event_timestamp > 2026-13-17T00:00:00Z", 18, "RFC 3339"),
        ("event_timestamp > 0001-01-01T00:00:00+01:00", 18, "RFC 3339"),
        ("source_ip = 10.0.0.0/8", 12, "without zone or mask"),
        ("source_ip = fe80::1%eth0", 12, "without zone or mask"),
        ("trace_id = xyz", 11, "hexadecimal"),
        ('user_id > ""', 10, "takes = and != only"),
        # What PostgreSQL cannot hold.
        (f"event_data.n = 0.{'0' * 7000}1e-9999", 15, "at most 16383 digits"),
        ('user_id = "a\0"', 12, "NUL"),
        (r'user_id = "\u0000"', 11, "NUL"),
        (r'user_id = "\ud83d"', 11, "surrogates"),
        ("user_id = \ud83d", 10, "surrogates"),
        (r'user_id = "a\q"', 12, "after a backslash"),
    ],
)
def test_refuses(text: str, position: int, words: str) -> None:
    with pytest.raises(InvalidFilter) as caught:
        parse(text, EVENT_COLUMNS)
    assert (caught.value.position, words in caught.value.description) == (position, True), str(
        caught.value
    )


@pytest.mark.parametrize(
    "text", ["http_status_code = 2147483648", "http_status_code = 499.5", "kind = SERVER"]
)
def test_refuses_on_spans(text: str) -> None:
    with pytest.raises(InvalidFilter):
        parse(text, SPAN_COLUMNS)


@pytest.mark.parametrize("text", ["1e3", "'1' ", "1" * 21, "1." + "1" * 19, "NaN", "1,5"])
def test_decimals_are_those_of_the_wire(text: str) -> None:
    if text.strip("' ") == "1":
        assert short(parse(f"metric_value = {text}", BUSINESS_METRIC_COLUMNS)) == [
            ("metric_value", "=", Decimal(1))
        ]
        return
    with pytest.raises(InvalidFilter):
        parse(f"metric_value = {text}", BUSINESS_METRIC_COLUMNS)


def test_length_is_bounded_in_bytes() -> None:
    fits = "user_id = '" + "é" * ((FILTER_BYTES - 12) // 2) + "'"
    assert len(fits.encode()) <= FILTER_BYTES
    parse(fits, EVENT_COLUMNS)
    with pytest.raises(InvalidFilter, match="bytes"):
        parse(fits + "  ", EVENT_COLUMNS)


def test_number_of_terms_is_bounded() -> None:
    term = "user_id != a"
    assert len(parse(" AND ".join([term] * FILTER_TERMS), EVENT_COLUMNS)) == FILTER_TERMS
    with pytest.raises(InvalidFilter):
        parse(" OR ".join([term] * (FILTER_TERMS + 1)), EVENT_COLUMNS)
    with pytest.raises(InvalidFilter) as caught:
        parse(" AND ".join([term] * (FILTER_TERMS + 1)), EVENT_COLUMNS)
    assert caught.value.position == len(" AND ".join([term] * FILTER_TERMS)) + 5


def test_depth_is_bounded_and_parentheses_alone_are_none() -> None:
    depth = FILTER_BYTES // 2 - 10
    assert short(parse("(" * depth + "user_id = a" + ")" * depth, EVENT_COLUMNS)) == [
        ("user_id", "=", "a")
    ]
    parse("NOT (" * (FILTER_DEPTH - 1) + "user_id = a" + ")" * (FILTER_DEPTH - 1), EVENT_COLUMNS)
    with pytest.raises(InvalidFilter, match="nested deeper than 16 levels"):
        parse("NOT (" * FILTER_DEPTH + "user_id = a" + ")" * FILTER_DEPTH, EVENT_COLUMNS)
    deepest = FILTER_BYTES // 6 - 4
    with pytest.raises(InvalidFilter, match="nested deeper"):
        parse("NOT (" * deepest + "user_id = a" + ")" * deepest, EVENT_COLUMNS)
    deepest = FILTER_BYTES // 8 - 1
    with pytest.raises(InvalidFilter, match="nested deeper"):
        parse("(" * deepest + "a=1" + ")OR a=1" * deepest, EVENT_COLUMNS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("user_id = a OR user_id = b", [("OR", "user_id", "user_id")]),
        # OR binds tighter than AND.
        (
            "user_id = a AND source = b OR session_id = c",
            ["user_id", ("OR", "source", "session_id")],
        ),
        (
            "(user_id = a AND source = b) OR session_id = c",
            [("OR", ("AND", "user_id", "source"), "session_id")],
        ),
        ("NOT user_id = a AND source = b", [("NOT", "user_id"), "source"]),
        ("-user_id = a", [("NOT", "user_id")]),
        ("NOT (user_id = a OR source = b)", [("NOT", ("OR", "user_id", "source"))]),
        ("-(user_id = a)", [("NOT", "user_id")]),
        ("NOT(user_id = a)AND(source = b)", [("NOT", "user_id"), "source"]),
        ("(user_id = a)OR(source = b)", [("OR", "user_id", "source")]),
        ("(user_id = a AND source = b)", ["user_id", "source"]),
        ("user_id = a OR NOT source = b", [("OR", "user_id", ("NOT", "source"))]),
    ],
)
def test_shapes(text: str, expected: list[object]) -> None:
    assert [shape(one) for one in parse(text, EVENT_COLUMNS)] == expected


@pytest.mark.parametrize(
    ("text", "columns", "expected"),
    [
        ("tags:web", EVENT_COLUMNS, ("tags", ":", "web")),
        ("tags:*", EVENT_COLUMNS, ("tags", ":", None)),
        ('tags:"*"', EVENT_COLUMNS, ("tags", ":", "*")),
        ("user_id:*", EVENT_COLUMNS, ("user_id", ":", None)),
        ("event_data:method", EVENT_COLUMNS, ("event_data", ":", "method")),
        ("event_data.a.b:*", EVENT_COLUMNS, ("event_data.a.b", ":", None)),
        (
            'event_data.method = "email"',
            EVENT_COLUMNS,
            ("event_data.method", "=", JsonValue("email", ('"email"',))),
        ),
        (
            "event_data.retries >= 3",
            EVENT_COLUMNS,
            ("event_data.retries", ">=", JsonValue("3", ('"3"', "3"), Decimal(3))),
        ),
        (
            "event_data.ok != true",
            EVENT_COLUMNS,
            ("event_data.ok", "!=", JsonValue("true", ('"true"', "true"))),
        ),
        (
            "event_data.amount = .5e1",
            EVENT_COLUMNS,
            ("event_data.amount", "=", JsonValue(".5e1", ('".5e1"', "5"), Decimal(5))),
        ),
        (
            r'event_data."a \"b\"".c = x',
            EVENT_COLUMNS,
            ('event_data.a "b".c', "=", JsonValue("x", ('"x"',))),
        ),
        (
            'labels."k.v" = 1',
            SYSTEM_METRIC_COLUMNS,
            ("labels.k.v", "=", JsonValue("1", ('"1"',))),
        ),
        (
            "dimensions.plan = ''",
            BUSINESS_METRIC_COLUMNS,
            ("dimensions.plan", "=", JsonValue("", ('""',))),
        ),
        ("tags.error:*", SPAN_COLUMNS, ("tags.error", ":", None)),
    ],
)
def test_reads_parts(text: str, columns: Columns, expected: tuple[str, str, object]) -> None:
    assert short(parse(text, columns)) == [expected]


def test_a_map_has_one_level() -> None:
    with pytest.raises(InvalidFilter, match="one level"):
        parse("labels.a.b = c", SYSTEM_METRIC_COLUMNS)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


_texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20
)


def _literals(column: Column) -> st.SearchStrategy[tuple[str, object]]:
    strategies: dict[ColumnType, st.SearchStrategy[tuple[str, object]]] = {
        ColumnType.TEXT: _texts.map(lambda text: (_quoted(text), text)),
        ColumnType.NUMBER: st.floats(allow_nan=False, allow_infinity=False).map(
            lambda number: (repr(number), number)
        ),
        ColumnType.DECIMAL: st.decimals(
            min_value=-(10**19), max_value=10**19, places=4, allow_nan=False
        ).map(lambda number: (f"{number:f}", number)),
        ColumnType.INTEGER: st.integers(-(2**31), 2**31 - 1).map(lambda n: (str(n), n)),
        ColumnType.TIMESTAMP: st.datetimes(
            datetime(1, 1, 3),  # noqa: DTZ001 - hypothesis wants naive bounds
            datetime(9999, 12, 29),  # noqa: DTZ001
            timezones=st.integers(-14, 14).map(lambda hours: timezone(timedelta(hours=hours))),
        ).map(lambda time: (time.isoformat(), time)),
        ColumnType.UUID: st.uuids().map(lambda one: (str(one), one)),
        ColumnType.SERIES_ID: st.uuids().map(lambda one: (one.hex, one)),
        ColumnType.INET: st.ip_addresses().map(lambda one: (f"'{one}'", str(one))),
        ColumnType.TRACE_ID: st.integers(1, 2**128 - 1).map(lambda n: (f"{n:032X}", f"{n:032x}")),
        ColumnType.SPAN_ID: st.integers(1, 2**64 - 1).map(lambda n: (f"{n:016X}", f"{n:016x}")),
    }
    if column.operators == (HAS,):
        return _texts.map(lambda text: (_quoted(text), text))
    if column.type is ColumnType.ENUM:
        return st.sampled_from(column.words).map(lambda word: (word, word))
    return strategies[column.type]


@st.composite
def _filters(draw: st.DrawFn) -> tuple[str, Columns, list[tuple[str, str, object]]]:
    columns = draw(
        st.sampled_from(
            [EVENT_COLUMNS, SPAN_COLUMNS, BUSINESS_METRIC_COLUMNS, SYSTEM_METRIC_COLUMNS]
        )
    )
    terms: list[str] = []
    expected: list[tuple[str, str, object]] = []
    for name in draw(st.lists(st.sampled_from(sorted(columns)), max_size=8)):
        operator = draw(st.sampled_from(columns[name].operators))
        literal, value = draw(_literals(columns[name]))
        space = draw(st.sampled_from(["", " ", "\n"]))
        terms.append(f"{name}{space}{operator}{space}{literal}")
        expected.append((name, operator, value))
    return " AND ".join(terms), columns, expected


@given(_filters())
def test_every_well_formed_filter_is_read(
    case: tuple[str, Columns, list[tuple[str, str, object]]],
) -> None:
    text, columns, expected = case
    assert short(parse(text, columns)) == expected


_FRAGMENTS = [
    *"=<()\"'\\:.-;,1 $\0\ud800",
    "user_id",
    "!=",
    "AND",
    "OR",
    "NOT",
    "--",
    "now(",
    "event_data",
    "tags",
]


@given(
    st.one_of(st.text(max_size=60), st.lists(st.sampled_from(_FRAGMENTS), max_size=25).map("".join))
)
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse(text, EVENT_COLUMNS)
    except InvalidFilter as error:
        position, sentence = error.position, str(error)
    else:
        return
    assert 0 <= position <= len(text)
    sentence.encode()
