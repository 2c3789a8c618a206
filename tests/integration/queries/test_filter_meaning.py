"""What filters mean: random ones find what a plain reading of them in Python finds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any

import pytest

from fernando.telemetry.v1 import ListEventsRequest, ListSystemMetricsRequest
from fernando_telemetry.transport.event_servicer import EventService
from fernando_telemetry.transport.metric_servicer import MetricService
from tests.integration.queries.rows import copy, day, event, sample, series

USERS = (None, "ada", "bob", "x'; DROP TABLE telemetry_events; --", "1 OR 1=1")
PAYLOADS: tuple[Any, ...] = (
    None,
    {},
    {"method": "email"},
    {"method": "sso", "retries": 3},
    {"method": None, "retries": "3"},
    {"retries": 2.5, "ok": True},
    {"ok": "true", "login": {"method": "email"}},
    {"method": ["email", "sso"], "retries": -1},
)
TAGS: tuple[list[str] | None, ...] = (None, [], ["web"], ["web", "eu"], ["'; --"])
DURATIONS = (None, 0.0, 12.5, 250.0)


@dataclass(frozen=True)
class Stored:
    """An event's columns, as they were stored."""

    number: int
    user: str | None
    payload: Any
    tags: list[str] | None
    duration: float | None


def _has(stored: Stored, path: tuple[str, ...]) -> tuple[bool, Any]:
    value = stored.payload
    for key in path:
        if not isinstance(value, dict) or key not in value:
            return False, None
        value = value[key]
    return stored.payload is not None, value


def _same(value: Any, other: Any) -> bool:
    """Compare as JSON does: true is no number."""
    return isinstance(value, bool) == isinstance(other, bool) and value == other


class Filters:
    """Makes random filters, each with what it means."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def any(self, depth: int = 0) -> tuple[str, Any]:
        kind = self._random.random()
        if depth == 3 or kind < 0.35:
            return self._term()
        left, left_means = self.any(depth + 1)
        if kind < 0.55:
            return f"{self._random.choice(('NOT ', '-'))}({left})", lambda row: not left_means(row)
        right, right_means = self.any(depth + 1)
        if kind < 0.78:
            return f"({left}) AND ({right})", lambda row: left_means(row) and right_means(row)
        return f"({left}) OR ({right})", lambda row: left_means(row) or right_means(row)

    def _term(self) -> tuple[str, Any]:
        choose = self._random.choice
        user, limit = choose(USERS[1:]), choose((0.0, 12.5, 100.0))
        path = choose((("method",), ("login", "method"), ("retries",), ("ok",)))
        dotted = "event_data." + ".".join(path)

        def part(row: Stored) -> Any:
            return _has(row, path)[1]

        def is_number(value: Any) -> bool:
            return isinstance(value, int | float) and not isinstance(value, bool)

        def among(value: Any, wanted: tuple[Any, ...]) -> bool:
            return any(_same(value, one) for one in wanted)

        def is_list_with(value: Any, wanted: str) -> bool:
            return isinstance(value, list) and wanted in value

        terms: list[tuple[str, Any]] = [
            (f"user_id = {json.dumps(user)}", lambda row: row.user == user),
            (f"user_id != {json.dumps(user)}", lambda row: row.user != user),
            ("user_id:*", lambda row: row.user is not None),
            ('user_id = ""', lambda row: row.user is None),
            (
                f"duration_ms > {limit}",
                lambda row: row.duration is not None and row.duration > limit,
            ),
            ("tags:web", lambda row: "web" in (row.tags or ())),
            ('tags:"\'; --"', lambda row: "'; --" in (row.tags or ())),
            ("tags:*", lambda row: bool(row.tags)),
            ("event_data:retries", lambda row: _has(row, ("retries",))[0]),
            (f"{dotted}:*", lambda row: _has(row, path)[0]),
            (f'{dotted} = "email"', lambda row: part(row) == "email"),
            (f"{dotted} != email", lambda row: part(row) != "email"),
            (
                f"{dotted}:email",
                lambda row: part(row) == "email" or is_list_with(part(row), "email"),
            ),
            (f"{dotted} = 3", lambda row: among(part(row), (3, "3"))),
            (f"{dotted} = '3'", lambda row: part(row) == "3"),
            (f"{dotted} = true", lambda row: among(part(row), (True, "true"))),
            (f"{dotted} < 2.6", lambda row: is_number(part(row)) and part(row) < 2.6),
            (f"{dotted} >= 'f'", lambda row: isinstance(part(row), str) and part(row) >= "f"),
        ]
        return choose(terms)


@pytest.fixture
async def stored(connection: Any, today: datetime) -> list[Stored]:
    random = Random(7)
    rows = [
        Stored(
            number,
            random.choice(USERS),
            random.choice(PAYLOADS),
            random.choice(TAGS),
            random.choice(DURATIONS),
        )
        for number in range(300)
    ]
    await copy(
        connection,
        "telemetry_events",
        [
            event(
                today + timedelta(seconds=row.number),
                user_id=row.user,
                event_data=None if row.payload is None else json.dumps(row.payload),
                tags=row.tags,
                duration_ms=row.duration,
                event_name=str(row.number),
            )
            for row in rows
        ],
    )
    return rows


async def test_random_filters(events: EventService, stored: list[Stored], today: datetime) -> None:
    filters = Filters(11)
    sizes = set()
    for _ in range(400):
        text, means = filters.any()
        request = ListEventsRequest(
            time_range=day(today), filter=text, page_size=1000, order_by="event_timestamp"
        )
        found = [int(one.event_name) for one in (await events.ListEvents(request, None)).events]
        assert found == [row.number for row in stored if means(row)], text
        sizes.add(len(found))
    # They do tell rows apart.
    assert len(sizes) > 30


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("labels.region = eu", [0.0, 1.0]),
        ("labels.region != eu", [10.0, 11.0, 20.0, 21.0]),
        ("labels:region AND NOT labels.region = eu", [10.0, 11.0]),
        ("labels.region = eu OR metric_value = 21", [0.0, 1.0, 21.0]),
        ("NOT (labels.region:* OR metric_value = 21)", [20.0]),
        ("(host_name = h1 OR host_name = h2) AND metric_value >= 1", [1.0, 10.0, 11.0]),
        ('labels."a.b" = 1', [20.0, 21.0]),
    ],
)
async def test_conditions_on_series_and_samples(
    metrics: MetricService, connection: Any, today: datetime, text: str, expected: list[float]
) -> None:
    rows = []
    for place, columns in enumerate(
        (
            {"host_name": "h1", "labels": '{"region": "eu"}'},
            {"host_name": "h2", "labels": '{"region": "us"}'},
            {"labels": '{"a.b": "1"}'},
        )
    ):
        number, _ = await series(connection, **columns)
        rows += [
            sample(number, today + timedelta(seconds=10 * place + one), 10.0 * place + one)
            for one in (0, 1)
        ]
    await copy(connection, "metric_samples", rows)
    request = ListSystemMetricsRequest(
        time_range=day(today), filter=text, order_by="metric_timestamp"
    )
    found = (await metrics.ListSystemMetrics(request, None)).system_metrics
    assert [one.metric_value for one in found] == expected
