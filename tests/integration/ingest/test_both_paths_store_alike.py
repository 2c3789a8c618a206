"""A server with columns and one without store the same rows of the same records."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from google.protobuf.message import Message
from grpc import aio

from fernando.telemetry.v1 import (
    AdminServiceStub,
    GetServerInfoRequest,
    MetricColumns,
    MetricSeries,
    MetricType,
    RecordDefaults,
)
from fernando_telemetry.ingest import group_check
from fernando_telemetry.settings import Settings
from tests.conftest import Serving
from tests.integration.ingest.ingest_call import IngestCall
from tests.integration.ingest.records import event, now, sample, span, stamp
from tests.integration.ingest.spoiling import rich, spoilt

ROWS = {
    "telemetry_events": "to_jsonb(t) - 'event_id'",
    "metric_samples": "to_jsonb(t) || jsonb_build_object('series_id', s.identity_hash)",
    "metric_distributions": "to_jsonb(t) - 'ordinal' || jsonb_build_object('series_id', "
    "s.identity_hash)",
    "business_metric_versions": "to_jsonb(t) - 'metric_id'",
    "traces": "to_jsonb(t) - 'ordinal'",
}
BATCHES = 12
PAYLOAD = '{"n": 0, "t": "\u00fc\\u00fc \\"x\\"", "deep": [[1.50, null]]}'
TIMES = ("event_timestamp", "metric_timestamp", "start_time")


def many(chance: random.Random) -> list[Message]:
    """Give records of all kinds, most of them good, with times of their own."""
    at = stamp(now())
    made: list[Any] = []
    for number in range(40):
        made += rich()
        made += [
            event(
                f"e{number % 7}",
                event_timestamp=at,
                event_data=PAYLOAD.replace("0", str(number)),
                tags=["a", "", "\u00e4"][: number % 4],
                source_ip=["", "10.0.0.1", "2001:db8::1", "testclient"][number % 4],
                trace_id=["", "ab" * 16, "AB" * 16, "cd" * 8][number % 4],
                duration_ms=number / 3,
            ),
            sample(f"m{number % 3}", metric_timestamp=at, labels={"k": str(number % 5), "l": "\\"}),
            span(
                start_time=at,
                tags={"k": 'v"\\\n\u2028', "n": str(number)},
                duration_ms=0.1 * number,
            ),
            MetricColumns(
                series=[
                    MetricSeries(metric_name=f"c{n}", metric_type=MetricType.METRIC_TYPE_COUNTER)
                    for n in range(3)
                ],
                series_index=[0, 1, 2, 1],
                time_unix_micros=[int(now().timestamp() * 1e6) - n for n in range(4)],
                value=[0.1, -0.0, 5e-324, number],
            ),
        ][: 3 if number else 4]
    for record in made:
        for name in TIMES:
            # The receive time is another one on the other server.
            if name in record.DESCRIPTOR.fields_by_name and not record.HasField(name):
                getattr(record, name).CopyFrom(at)
        if chance.random() < 0.1:
            spoilt(record, chance)
    return made


async def stored(connection: Any) -> Counter[str]:
    rows: Counter[str] = Counter()
    for table, columns in ROWS.items():
        join = "JOIN metric_series s USING (series_id)" if "series_id" in columns else ""
        query = f"""SELECT (({columns}) - 'flush_id' - 'ingested_at')::text AS row
            FROM {table} t {join}"""
        rows.update(f"{table} {row['row']}" for row in await connection.fetch(query))
        await connection.execute(f"TRUNCATE {table}")
    await connection.execute("TRUNCATE batch_marks")
    return rows


async def test_both_paths_store_alike(
    settings: Settings, serving: Serving, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_check, "FEWEST_RECORDS", 1)
    chance = random.Random(7)
    sent = [many(chance) for _ in range(BATCHES)]
    found: list[tuple[Counter[str], list[Any]]] = []
    for columnar in (True, False):
        chosen = settings.model_copy(update={"columnar_ingest": columnar})
        async with serving(chosen) as app, aio.insecure_channel(app.address) as channel:
            info = await AdminServiceStub(channel).GetServerInfo(GetServerInfoRequest())
            assert info.columnar_ingest is columnar
            answers = []
            defaults = RecordDefaults(license_id="acme", service_name="s", source="web")
            async with IngestCall(channel) as stream:
                await stream.welcome("producer", defaults=defaults, fresh=True)
                for number, records in enumerate(sent, 1):
                    answer = await stream.commit(number, *records)
                    answer.commit_token = ""
                    answers.append(answer)
                await stream.end()
        found.append((await stored(connection), answers))
    (columns, columns_answers), (plain, plain_answers) = found
    assert sum(columns.values()) > BATCHES * 200
    assert columns - plain == plain - columns == Counter()
    assert columns_answers == plain_answers
