"""The indexes that the guide's queries use in sealed partitions, by EXPLAIN (ANALYZE).

Eight days of rows, sealed as a server seals them. docs/reference/sql.md has the table that this
file holds: which statement uses which index. NOW() stands still, so that a midnight that passes
meanwhile makes no sealed day of today.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from fernando_telemetry.domain.calendar import midnight
from fernando_telemetry.embedded import EmbeddedPostgres
from fernando_telemetry.storage.partitions import Partitions, raw_tables
from fernando_telemetry.storage.sessions import ControlPool
from tests.conftest import Templates, session_settings, with_database
from tests.contract.repository import ROOT
from tests.integration.queries.test_guide_sql import (
    EVENT_SUMMARY,
    SYSTEM_PERFORMANCE,
    USER_ACTIVITY_DASHBOARD,
)
from tests.integration.storage.partition_rows import sealer

DAYS = 8
# A day's rows; spread evenly over it.
EVENTS, SAMPLES, SPANS = 8_000, 8_000, 4_000

TIMES = {"telemetry_events": "event_timestamp", "metric_samples": "time", "traces": "start_time"}

_EVENTS = f"""
INSERT INTO telemetry_events (event_id, event_timestamp, event_type, event_name, user_id,
    license_id, session_id, trace_id, event_data, ingested_at, shard, flush_id)
SELECT gen_random_uuid(), $1::timestamptz + n * interval '1 day' / {EVENTS},
    (CASE WHEN n % 100 = 0 THEN 'error_event' ELSE 'user_action' END)::event_type,
    'name-' || n % 499, 'user-' || n % 997, 'licence-' || n % 101, 'session-' || n / 10,
    CASE WHEN n % 10 = 0 THEN lpad(n::text, 32, '0') END,
    jsonb_build_object('method', 'method-' || n % 499, 'n', n), now(), 0, 1
FROM generate_series(0, {EVENTS - 1}) AS n
"""
_SERIES = """
INSERT INTO metric_series (identity_hash, metric_name, metric_type, service_name, labels, seen_on)
SELECT gen_random_uuid(), 'metric-' || n / 10, 'gauge', 'service-' || n % 10, '{}', current_date
FROM generate_series(0, 99) AS n RETURNING series_id
"""
# By the hour and then by series, as flushes leave them.
_SAMPLES = f"""
INSERT INTO metric_samples (time, series_id, value, shard, flush_id)
SELECT $1::timestamptz + n * interval '1 day' / {SAMPLES}, ($2::int[])[n % 100 + 1], n, 0, 1
FROM generate_series(0, {SAMPLES - 1}) AS n ORDER BY n / ({SAMPLES} / 24), n % 100, n
"""
_SPANS = f"""
INSERT INTO traces (trace_id, span_id, service_name, operation_name, kind, start_time, duration_ms,
    status, license_id, tags, ingested_at, shard, flush_id, ordinal)
SELECT lpad(($2::int * {SPANS} + n / 5)::text, 32, '0'), lpad(n::text, 16, '0'),
    'service-' || n % 199, 'op', 'server', $1::timestamptz + n * interval '1 day' / {SPANS}, 5,
    (CASE WHEN n % 100 = 0 THEN 'error' ELSE 'ok' END)::span_status, 'licence-' || n % 101,
    '{{}}', now(), 0, 1, n
FROM generate_series(0, {SPANS - 1}) AS n
"""
# Found before PostgreSQL's own; STABLE as that is, so that it is planned alike.
_CLOCK = """
CREATE SCHEMA clock;
CREATE FUNCTION clock.now() RETURNS timestamptz STABLE PARALLEL SAFE COST 1 LANGUAGE plpgsql
    AS $$BEGIN RETURN '{}'::timestamptz; END$$;
SET search_path = clock, pg_catalog, public;
"""


@pytest.fixture(scope="module")
async def sealed(postgres: EmbeddedPostgres, templates: Templates) -> AsyncIterator[Any]:
    """A session on a database with sealed days behind today."""
    admin = await asyncpg.connect(postgres.dsn)
    await admin.execute(f"CREATE DATABASE guide_plans TEMPLATE {await templates.of_today()}")
    dsn = with_database(postgres.dsn, "guide_plans")
    control = ControlPool(session_settings(dsn), 2)
    session = await asyncpg.connect(dsn, server_settings={"TimeZone": "UTC", "jit": "off"})
    now = datetime.now(UTC)
    await session.execute(_CLOCK.format(now.isoformat()))
    today = midnight(now)
    days = [today - timedelta(days=back) for back in range(1, DAYS + 1)]
    tables = raw_tables()
    await Partitions(control, tables).ensure(dict.fromkeys(TIMES, days))
    series = [row["series_id"] for row in await session.fetch(_SERIES)]
    for back, day in enumerate(days):
        await session.execute(_EVENTS, day)
        await session.execute(_SAMPLES, day, series)
        await session.execute(_SPANS, day, back)
    sealing = sealer(dsn, control)
    while await sealing.count_unsealed(now):
        await sealing.seal_due(now)
    yield session
    await session.close()
    await control.close()
    await admin.execute("DROP DATABASE guide_plans WITH (FORCE)")
    await admin.close()


@dataclass(frozen=True)
class Scan:
    """A scan of a partition in a plan; `index` is "" where it has none."""

    partition: str
    index: str


async def partition_of(session: Any, table: str, days_ago: int) -> str:
    now: datetime = await session.fetchval("SELECT now()")
    return f"{table}_p{now - timedelta(days=days_ago):%Y%m%d}"


async def scans(session: Any, statement: str) -> list[Scan]:
    """Give the scans of a statement's plan that were run."""
    explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}"
    (plan,) = json.loads(await session.fetchval(explain))
    return list(_scans(plan["Plan"], ""))


def _scans(node: dict[str, Any], partition: str) -> Iterator[Scan]:
    if not node["Actual Loops"]:
        return
    partition = node.get("Relation Name", partition)
    if node["Node Type"] in {"Index Scan", "Index Only Scan", "Bitmap Index Scan"}:
        yield Scan(partition, node["Index Name"])
    elif node["Node Type"] in {"Seq Scan", "Sample Scan"}:
        yield Scan(partition, "")
    for child in node.get("Plans", ()):
        yield from _scans(child, partition)


async def sealed_scans(session: Any, statement: str, table: str) -> dict[str, set[str]]:
    """Give the short names of indexes that were used, by sealed partition; "": none."""
    today = await partition_of(session, table, 0)
    found: dict[str, set[str]] = {}
    for scan in await scans(session, statement):
        if scan.partition.startswith(f"{table}_p") and scan.partition < today:
            index = scan.index.removeprefix(f"{scan.partition}_")
            found.setdefault(scan.partition, set()).add(index)
    return found


@dataclass(frozen=True)
class Case:
    """A statement, and how sealed partitions are read for it.

    Args:
        what: As docs/reference/sql.md calls it.
        statement: The SQL.
        index: Short name of the index.
        partitions: On how many partitions at least.
    """

    what: str
    statement: str
    index: str
    partitions: int


def week(what: str, condition: str, index: str, partitions: int = 7) -> Case:
    """Give a case that takes all rows of 7 days that meet a condition."""
    table, _, _ = what.partition(":")
    time = TIMES[table]
    return Case(
        what,
        f"SELECT * FROM {table} WHERE {condition} AND {time} >= NOW() - INTERVAL '7 days'",
        index,
        partitions,
    )


def newest(what: str, condition: str, index: str, partitions: int) -> Case:
    """Give a case that takes the newest 100 of 7 days, as the guide asks for a user's events."""
    case = week(what, condition, index, partitions)
    time = TIMES[what.partition(":")[0]]
    return replace(case, statement=f"{case.statement} ORDER BY {time} DESC LIMIT 100")


LICENSE = "license_id = 'licence-7'"
# The guide's 24 hours, counted by whole ones, have none of yesterday from 23:00 on.
TWO_DAYS = EVENT_SUMMARY.replace("'24 hours'", "'47 hours'")
CASES = [
    newest("telemetry_events: a user, newest 100", "user_id = 'user-7'", "user_time", 7),
    newest("telemetry_events: a licence, newest 100", LICENSE, "license_time", 1),
    newest("telemetry_events: a name, newest 100", "event_name = 'name-7'", "name_time", 6),
    week("telemetry_events: a session", "session_id = 'session-77'", "session"),
    week("telemetry_events: a trace", "trace_id = lpad('70', 32, '0')", "trace"),
    week("telemetry_events: errors", "event_type = 'error_event'", "error_time"),
    week(
        "telemetry_events: a value of the payload",
        """event_data @> '{"method": "method-7"}'""",
        "event_data",
    ),
    week(
        "telemetry_events: a part of a partition",
        "event_timestamp < NOW() - INTERVAL '6 days 22 hours'",
        "time",
        1,
    ),
    Case("telemetry_events_hourly_summary", TWO_DAYS, "time", 1),
    week(
        "metric_samples: a series",
        "series_id = (SELECT min(series_id) FROM metric_series)",
        "series_time_brin",
    ),
    week("traces: a trace", "trace_id = lpad('2407', 32, '0')", "trace"),
    newest("traces: a service, newest 100", "service_name = 'service-7'", "service_time", 5),
    newest("traces: a licence, newest 100", LICENSE, "license_time", 2),
    week("traces: errors", "status = 'error'", "error_time"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
async def test_sealed_partitions_are_read_by_index(sealed: Any, case: Case) -> None:
    (table,) = (name for name in TIMES if f"FROM {name}" in case.statement)
    found = await sealed_scans(sealed, case.statement, table)
    assert len(found) >= case.partitions
    # Where the range cuts a partition, its index of time may help, or do alone late in the day.
    cut = await partition_of(sealed, table, 7)
    for partition, used in found.items():
        assert used <= {case.index, "time"}, found
        assert case.index in used or partition == cut, found


@pytest.mark.parametrize(
    ("statement", "table"),
    [
        (EVENT_SUMMARY, "telemetry_events"),
        (USER_ACTIVITY_DASHBOARD, "telemetry_events"),
        (SYSTEM_PERFORMANCE, "metric_samples"),
    ],
)
async def test_other_days_are_not_read(sealed: Any, statement: str, table: str) -> None:
    """Ranges are told apart by partitions first: 24 hours lie in two of them."""
    found = await sealed_scans(sealed, statement, table)
    assert set(found) <= {await partition_of(sealed, table, 1)}


def test_the_reference_names_every_case() -> None:
    page = (ROOT / "docs/reference/sql.md").read_text()
    _, _, section = page.partition("## Indexes\n")
    rows = re.findall(r"^\| ([^|]+) \| `(\w+)` \|", section, re.MULTILINE)
    assert rows == [(case.what, case.index) for case in CASES]
