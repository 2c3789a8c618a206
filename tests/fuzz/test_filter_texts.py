"""Random filters: each one gives rows or is refused as a filter, whatever it says.

FUZZ_SEED repeats a run; a failure names the filter.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fernando_telemetry.domain.calendar import midnight
from fernando_telemetry.domain.errors import InvalidFilter
from fernando_telemetry.domain.filter_columns import (
    BUSINESS_METRIC_COLUMNS,
    EVENT_COLUMNS,
    NESTED_TYPES,
    SPAN_COLUMNS,
    SYSTEM_METRIC_COLUMNS,
    Columns,
    ColumnType,
)
from fernando_telemetry.domain.time_range import TimeRange
from fernando_telemetry.queries.events import EventQueries
from fernando_telemetry.queries.metrics import MetricQueries
from fernando_telemetry.queries.pages import ListRequest
from fernando_telemetry.queries.traces import TraceQueries
from fernando_telemetry.storage.sessions import ReaderPool
from fernando_telemetry.storage.snapshots import Snapshots
from tests.conftest import session_settings, share
from tests.integration.queries.rows import copy, event

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(3600)]

# Texts that meant something to a shell, a JSON path, a pattern or SQL would show here.
LITERALS = (
    *("a", "*", "null", "true", "3", "-0", "1e308", "-1.5e-300", "1e-9999", "0e9999", "1e999"),
    *("1=1", "$1", "%s", "{}", "[1]", "%", "_", "--", "/*", ";", "\\", "'", '"', "''", '""'),
    *('"\' OR 1=1 --"', "'\"; DROP TABLE telemetry_events; --'", '"$1::text"', '"\\u0041\\n"'),
    *('"\\ud83d"', '"\\u0000"', '"é漢🙂"', "'{\"a\": [1]}'", '"a,b}"', "0.5", "49.90"),
    f"0.{'0' * 7000}1e-9999",
)
# What a column of the type takes.
TYPED: dict[ColumnType, tuple[str, ...]] = {
    ColumnType.NUMBER: ("3", "-0", "1e308", "-1.5e-300", "1e-9999", "0e9999"),
    ColumnType.DECIMAL: ("49.90", "-0", f"{'9' * 20}.{'9' * 18}"),
    ColumnType.INTEGER: ("0", "-2147483648", "2147483647"),
    ColumnType.TIMESTAMP: (
        *("2026-05-17T09:30:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"),
    ),
    ColumnType.UUID: ("01890a5d-ac96-774b-bcce-b302099a8057",),
    ColumnType.INET: ("10.0.0.1", "::1", "::ffff:10.0.0.1"),
    ColumnType.TRACE_ID: ("0123456789abcdef", "0123456789ABCDEF0123456789abcdef"),
    ColumnType.SPAN_ID: ("0123456789abcdef",),
    ColumnType.SERIES_ID: ("0123456789ABCDEF0123456789abcdef",),
}
PARTS = (".a", ".a.b", '."a.b"', '."\'"', '.""', ".", ".nothing", '."{a,b}"', ".a.a.a.a.a.a")
OPERATORS = ("=", "!=", "<", "<=", ">", ">=", ":", ":*", "==", "~", "=~", "<>", "IN", "LIKE", "")
JOINTS = (" AND ", " OR ", "AND", "OR", " ", ", ", " and ", ")OR(", " AND NOT ", " OR -")
PAYLOADS: tuple[Any, ...] = (
    *({}, {"a": 3}, {"a": "3"}, {"a": None}, {"a": {"b": [1, "a"]}}, {"a": 1e300}, {"a": ["a"]}),
    *({"a.b": True}, {"": ""}, {"'": "'"}),
)

Ask = Callable[[ListRequest, Callable[[Any], bool]], Awaitable[str]]


def _filter(chance: random.Random, columns: Columns, depth: int = 0) -> str:
    kind = chance.random()
    if depth < 4 and kind < 0.3:
        left, right = (_filter(chance, columns, depth + 1) for _ in range(2))
        joint = chance.choice(JOINTS[:2] if chance.random() < 0.9 else JOINTS)
        return f"({left}{joint}{right})"
    if depth < 4 and kind < 0.4:
        return f"{chance.choice(('NOT ', '-', 'NOT'))}({_filter(chance, columns, depth + 1)})"
    if kind < 0.5:
        name = chance.choice([*columns, "nothing", "1"])
        return f"{name} {chance.choice(OPERATORS)} {chance.choice(LITERALS)}"
    nested = [column for column in columns.values() if column.type in NESTED_TYPES]
    if nested and kind < 0.75:
        column = chance.choice(nested)
        operator = chance.choice(column.path_operators)
        return f"{column.name}{chance.choice(PARTS)} {operator} {chance.choice(LITERALS)}"
    column = chance.choice(list(columns.values()))
    literals = column.words or TYPED.get(column.type, LITERALS)
    return f"{column.name} {chance.choice(column.operators)} {chance.choice(literals)}"


def _spoilt(chance: random.Random, text: str) -> str:
    """Cut, double or exchange a few characters."""
    for _ in range(chance.randrange(4)):
        place = chance.randrange(len(text) + 1)
        some = chance.choice(("", "(", ")", '"', "'", "\\", "\0", ".", ":", "-", "é", "\n", "AND"))
        text = text[:place] + some + text[place + chance.randrange(2) :]
    return text


@pytest.fixture
async def readers(database: str) -> AsyncIterator[ReaderPool]:
    pool = ReaderPool(session_settings(database), 1)
    yield pool
    await pool.close()


async def test_any_text_gives_rows_or_is_refused(
    readers: ReaderPool, connection: Any, request: pytest.FixtureRequest
) -> None:
    today = midnight(datetime.now(UTC))
    await copy(
        connection,
        "telemetry_events",
        [
            event(today, user_id="a", tags=["a", "'"], event_data=json.dumps(payload))
            for payload in PAYLOADS
        ],
    )
    snapshots = Snapshots(readers, 1.0)
    metrics = MetricQueries(snapshots, None)

    async def business(asked: ListRequest, take: Callable[[Any], bool]) -> str:
        return await metrics.list_business_metrics(asked, take, include_superseded=False)

    lists: tuple[tuple[Ask, Columns], ...] = (
        (EventQueries(snapshots, 400).list_events, EVENT_COLUMNS),
        (metrics.list_system_metrics, SYSTEM_METRIC_COLUMNS),
        (business, BUSINESS_METRIC_COLUMNS),
        (TraceQueries(snapshots).list_spans, SPAN_COLUMNS),
    )
    whole_day = TimeRange(today, today + timedelta(days=1))
    count = share(request, "fuzz", 600, 40_000)
    first = int(os.environ.get("FUZZ_SEED", "1"))
    outcomes: Counter[str] = Counter()
    for seed in range(first, first + count):
        chance = random.Random(seed)
        ask, columns = lists[seed % len(lists)]
        text = _filter(chance, columns)
        if chance.random() < 0.2:
            text = _spoilt(chance, text)
        rows: list[Any] = []

        def take(row: Any, rows: list[Any] = rows) -> bool:
            rows.append(row)
            return True

        try:
            await ask(ListRequest(whole_day, text), take)
        except InvalidFilter:
            outcomes["refused"] += 1
        except BaseException as error:
            error.add_note(f"FUZZ_SEED={seed}: {text!r}")
            raise
        else:
            outcomes["rows" if rows else "none"] += 1
    # A run that hardly reaches PostgreSQL, or is never refused, proves nothing.
    assert min(outcomes[name] for name in ("refused", "none")) > count / 20, outcomes
    assert outcomes["rows"] > count / 200, outcomes
