"""`rejected list` and `rejected replay` as a person runs them, against a real server."""

from __future__ import annotations

import base64
import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from grpc import aio
from rich.cells import cell_len

from fernando.telemetry import v1
from fernando_telemetry.app import Application
from fernando_telemetry.settings import Settings
from tests.conftest import Serving
from tests.e2e.test_cli_send_query import on_terminal, run


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Keeping is on, and events older than a day are not taken."""
    return settings.model_copy(update={"rejected_keep": True, "retention_events_days": 1})


@pytest.fixture
def target(server: Application) -> tuple[str, str]:
    """The flags that name the test's server."""
    return ("--target", server.address)


async def reject(channel: aio.Channel) -> None:
    """Have three events, a sample and a KPI rejected: two too old, one nameless, NaN, no value."""
    old = datetime.now(UTC) - timedelta(days=2)
    records = v1.TelemetryRecords()
    for name in ("first", "second"):
        event = records.events.add(event_name=name, event_data='{"a": 1.10}', license_id="acme")
        event.event_type = v1.EventType.EVENT_TYPE_API_EVENT
        event.event_timestamp.FromDatetime(old)
    records.events.add(event_type=v1.EventType.EVENT_TYPE_API_EVENT)
    records.system_metrics.add(
        metric_name="m", metric_type=v1.MetricType.METRIC_TYPE_GAUGE, metric_value=math.nan
    )
    records.business_metrics.add(metric_name="kpi")
    response = await v1.IngestServiceStub(channel).IngestTelemetry(
        v1.IngestTelemetryRequest(records=records)
    )
    assert response.result.rejected_count == 5


async def test_list_as_json(channel: aio.Channel, target: tuple[str, str]) -> None:
    await reject(channel)
    listed = (await run("rejected", "list", "--json", *target)).checked()
    assert "5 rejected records from " in listed.err
    rows = {(row["verdict"]["kind"], row["verdict"]["index"]): row for row in listed.rows}
    first = rows["event", 0]
    assert set(first) == {
        *("rejected_id", "verdict", "sequence", "record", "rejected_at", "license_id"),
    }
    verdict = first["verdict"]
    assert (verdict["reason"], verdict["field_path"]) == ("time_too_old", "event_timestamp")
    assert (first["record"]["event_name"], first["record"]["event_data"]) == (
        *("first", '{"a": 1.10}'),
    )
    assert rows["business_metric", 0]["record"]["metric_name"] == "kpi"
    # NaN has no form in JSON.
    sample = base64.b64decode(rows["system_metric", 0]["record"])
    assert math.isnan(v1.SystemMetric.FromString(sample).metric_value)


async def test_list_as_text(channel: aio.Channel, target: tuple[str, str]) -> None:
    await reject(channel)
    listed = await run("rejected", "list", "--filter", "reason = time_too_old", *target)
    lines = listed.checked().out.splitlines()
    assert lines[0].split() == [
        *("rejected_at", "kind", "reason", "field_path", "detail", "sequence", "index"),
        *("license_id", "rejected_id"),
    ]
    assert len(lines) == 3
    assert "2 rejected records from " in listed.err
    wide = await on_terminal(140, "rejected", "list", *target)
    assert max(cell_len(line) for line in wide) <= 140
    assert "value_not_finite" in "".join(wide)
    limited = await run("rejected", "list", "--limit", "2", *target)
    assert "there are more" in limited.checked().err
    none = await run("rejected", "list", "--end", "-1h", *target)
    assert "0 rejected records from " in none.checked().err


async def test_replay(
    channel: aio.Channel, settings: Settings, serving: Serving, connection: Any
) -> None:
    await reject(channel)
    longer = settings.model_copy(update={"retention_events_days": 30})
    async with serving(longer) as server:
        target = ("--target", server.address)
        dry = await run("rejected", "replay", "--dry-run", *target)
        assert dry.checked().out.startswith(
            "Would store 2 rejected records; 3 would be rejected again; from "
        )
        assert await connection.fetchval("SELECT count(*) FROM telemetry_events") == 0
        some = await run("rejected", "replay", "--filter", 'license_id = "b"', "--json", *target)
        assert json.loads(some.checked().out) == {"replayed_count": 0, "still_rejected_count": 0}
        done = await run("rejected", "replay", "--last", "1h", *target)
        assert done.checked().out.startswith("Stored 2 rejected records; 3 rejected again; from ")
        assert await connection.fetchval("SELECT count(*) FROM telemetry_events") == 2
        left = await run("rejected", "list", "--json", *target)
        assert len(left.checked().rows) == 3


async def test_mistakes(target: tuple[str, str]) -> None:
    for command in ("list", "replay"):
        ended = await run("rejected", command, "--filter", "kind = evnt", *target)
        assert ended.code == 1
        assert "INVALID_FILTER" in ended.err
        assert "^" in ended.err
        assert (await run("rejected", command, "--last", "x", *target)).code == 2
