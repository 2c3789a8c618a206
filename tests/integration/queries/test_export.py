"""ExportRecords: what comes out, in both formats, by time and behind a token."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from grpc import StatusCode, aio

from fernando.telemetry import v1
from fernando_telemetry.app import Application
from fernando_telemetry.domain.calendar import midnight
from fernando_telemetry.queries import export_by_flush, export_chunks
from fernando_telemetry.queries.export_formats import ArrowIpc, JsonLines
from fernando_telemetry.storage.sessions import ControlPool
from tests.integration.ingest.records import columns, event, kpi, sample, span
from tests.integration.queries import rows
from tests.integration.queries.exports import (
    ARROW,
    BUSINESS_METRIC,
    EVENT,
    JSON,
    SPAN,
    SYSTEM_METRIC,
    answers,
    asked,
    export,
    ingest,
    stamped,
)
from tests.integration.storage.lanes import flush, open_lane
from tests.integration.transport.failures import failure_of, read_failure

KINDS = [EVENT, SYSTEM_METRIC, BUSINESS_METRIC, SPAN]
NASTY = 'a "quoted", {braced}\\ text\nof two lines\t \\n\r\b\f\v \\N'


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a chunk hold about two records."""
    monkeypatch.setattr(ArrowIpc, "piece_bytes", 300)
    monkeypatch.setattr(JsonLines, "piece_bytes", 300)
    monkeypatch.setattr(export_chunks, "EXPORT_CHUNK_BYTES", export_chunks._RESERVED_BYTES + 400)


def now() -> datetime:
    return datetime.now(UTC)


async def some_of_all(channel: aio.Channel, count: int = 3) -> None:
    """Store records of each kind: full, bare, and equal ones."""
    at = now() - timedelta(seconds=5)
    full_event = event(
        NASTY,
        event_category="",
        user_id="u1",
        event_data='{"method": "email", "n": [1, 2.50, "é"], "q": "\\"\\n"}',
        tags=["plain", NASTY, "NULL", ",", ""][:4],
        duration_ms=0.1,
        source_ip="2001:db8::1",
        trace_id="0" * 31 + "a",
        span_id="0" * 15 + "b",
    )
    distribution = v1.Distribution(
        count=3, sum=4.5, min=0.5, max=2, upper_bounds=[1, 2.5], bucket_counts=[1, 1, 1]
    )
    for _ in range(count):
        await ingest(
            channel,
            events=[full_event, event("bare"), event("tagged", tags=["a", "b"])],
            system_metrics=[
                stamped(sample("cpu", labels={"a": NASTY.strip()}), "metric_timestamp", at),
                # Equal in all that is stored.
                *[stamped(sample("same"), "metric_timestamp", at)] * 4,
                v1.SystemMetric(
                    metric_name="latency",
                    metric_type=v1.MetricType.METRIC_TYPE_DISTRIBUTION,
                    distribution=distribution,
                ),
                sample("p", metric_value=None, percentile_50=1.5, percentile_99=1e300),
            ],
            metric_columns=columns(1, 2, 2, 0.1),
            business_metrics=[
                kpi("mrr", metric_value="49.90", currency="EUR", dimensions={"plan": "pro"}),
                kpi("big", metric_value="12345678901234567890.123456789012345678"),
            ],
            spans=[
                span(tags={"k": NASTY}, duration_ms=1.5, http_status_code=500),
                span("b", events=[v1.SpanEvent(name="e")], error_message=NASTY),
            ],
        )


def plain(value: Any) -> Any:
    """Give a value of Arrow as JSON lines have it."""
    match value:
        case datetime():
            return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        case Decimal():
            return value.normalize()
        case _:
            return value


JSON_COLUMNS = {"event_data", "labels", "dimensions", "events", "links"}


def same(row: dict[str, Any], line: dict[str, Any]) -> bool:
    """Tell whether a row of Arrow and a line of JSON hold the same."""
    assert list(row) == list(line)
    for name, value in row.items():
        wanted, found = plain(value), line[name]
        if value is not None and name in JSON_COLUMNS | {"tags"} and isinstance(value, str):
            wanted = json.loads(value)
        if isinstance(value, Decimal):
            found = Decimal(found).normalize()
        if wanted != found:
            return False
    return True


@pytest.mark.parametrize("kind", KINDS)
async def test_json_lines_are_what_arrow_has(channel: aio.Channel, kind: Any) -> None:
    await some_of_all(channel)
    span_of_time = {"start": now() - timedelta(days=3), "end": now() + timedelta(days=1)}
    for selection in (span_of_time, {"after_token": ""}):
        arrow = await export(channel, kind, form=ARROW, **selection)
        lines = await export(channel, kind, form=JSON, **selection)
        unset = await export(
            channel, kind, form=v1.ExportFormat.EXPORT_FORMAT_UNSPECIFIED, **selection
        )
        assert unset.data == lines.data
        found = list(zip(arrow.rows(), lines.rows(), strict=True))
        assert found
        for row, line in found:
            assert same(row, line), (row, line)
        assert arrow.manifest is not None
        assert lines.manifest is not None
        assert arrow.manifest.min_time == lines.manifest.min_time
        assert arrow.token == lines.token


async def test_values_come_as_they_are_stored(channel: aio.Channel, connection: Any) -> None:
    await some_of_all(channel, 1)
    found = {row["event_name"]: row for row in (await export(channel, EVENT)).rows()}
    stored = await connection.fetch("SELECT * FROM telemetry_events")
    assert len(stored) == len(found) == 3
    for row in stored:
        exported = found[row["event_name"]]
        for name, value in exported.items():
            expected = row[name]
            if name in ("event_id", "source_ip") and expected is not None:
                expected = str(expected)
            assert value == expected, name
    values = {row["metric_name"]: row for row in (await export(channel, BUSINESS_METRIC)).rows()}
    assert values["mrr"]["metric_value"] == Decimal("49.90")
    assert values["big"]["metric_value"] == Decimal("12345678901234567890.123456789012345678")
    (line,) = (
        await export(channel, BUSINESS_METRIC, form=JSON, filter='metric_name = "mrr"')
    ).rows()
    assert line["metric_value"] == "49.90"  # with the digits it was sent with
    assert line["dimensions"] == {"plan": "pro"}
    samples = (await export(channel, SYSTEM_METRIC)).rows()
    assert len(samples) == 11
    (latency,) = (row for row in samples if row["metric_name"] == "latency")
    assert latency["upper_bounds"] == [1, 2.5]
    assert latency["bucket_counts"] == [1, 1, 1]
    assert latency["distribution_count"] == 3
    stored = await connection.fetch(
        "SELECT metric_name, series_id, metric_value AS value FROM system_metrics "
        "WHERE metric_value IS NOT NULL"
    )
    assert sorted(
        (row["metric_name"], row["series_id"], row["metric_value"])
        for row in samples
        if row["metric_value"] is not None
    ) == sorted((row["metric_name"], row["series_id"].hex, row["value"]) for row in stored)


async def test_nothing_is_a_valid_stream(channel: aio.Channel) -> None:
    taken = await export(channel, EVENT, form=ARROW)
    assert taken.rows() == []
    assert taken.manifest is not None
    assert not taken.manifest.HasField("min_time")
    lines = await export(channel, EVENT, form=JSON)
    assert lines.data == b""
    again = await export(channel, EVENT, form=JSON, after_token=lines.token)
    assert again.token == lines.token


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("by", ["time", "token", "flush"])
async def test_a_cut_stream_goes_on_from_each_token(
    channel: aio.Channel, kind: Any, by: str
) -> None:
    before = await export(channel, kind)
    await some_of_all(channel, 2)
    selection: dict[str, Any] = {"after_token": ""}
    if by == "time":
        selection = {"start": now() - timedelta(days=3), "end": now() + timedelta(days=1)}
    elif by == "flush":
        selection = {"after_token": before.token}
    whole = await export(channel, kind, form=JSON, **selection)
    lines = whole.rows()
    assert len(whole.chunks) > 2
    given = 0
    for place, chunk in enumerate(whole.chunks):
        given += chunk.row_count
        rest = await export(channel, kind, form=JSON, after_token=chunk.next_token)
        assert rest.rows() == lines[given:], place
        assert rest.token == whole.token


@pytest.mark.usefixtures("small_chunks")
async def test_a_cut_stream_leaves_later_records_to_the_next_export(channel: aio.Channel) -> None:
    first, last = event("first"), event("last")
    await ingest(channel, events=[first] * 5)
    request = asked(EVENT, form=JSON)
    async for answer in answers(channel, request):
        token = answer.chunk.next_token
        break
    await ingest(channel, events=[last] * 5)
    rest = await export(channel, EVENT, form=JSON, after_token=token)
    assert {row["event_name"] for row in rest.rows()} == {"first"}
    later = await export(channel, EVENT, form=JSON, after_token=rest.token)
    assert [row["event_name"] for row in later.rows()] == ["last"] * 5


@pytest.mark.parametrize("begin", ["token", "time"])
async def test_every_record_leaves_once_while_ingest_goes_on(
    channel: aio.Channel, begin: str
) -> None:
    done = asyncio.Event()

    async def write(writer: int) -> int:
        count = 0
        while not done.is_set():
            await ingest(channel, events=[event(f"{writer}-{count + n}") for n in range(20)])
            count += 20
        return count

    writers = [asyncio.create_task(write(number)) for number in range(4)]
    found: list[str] = []
    token = ""
    for turn in range(8):
        selection: dict[str, Any] = {"after_token": token}
        if begin == "time" and not turn:
            selection = {"start": now() - timedelta(days=1), "end": now() + timedelta(days=1)}
        taken = await export(channel, EVENT, form=JSON if turn % 2 else ARROW, **selection)
        found += [row["event_name"] for row in taken.rows()]
        token = taken.token
    done.set()
    written = await asyncio.gather(*writers)
    taken = await export(channel, EVENT, after_token=token)
    found += [row["event_name"] for row in taken.rows()]
    assert sorted(found) == sorted(
        f"{writer}-{number}" for writer, count in enumerate(written) for number in range(count)
    )
    assert (await export(channel, EVENT, after_token=taken.token)).rows() == []


async def test_a_range_is_half_open_and_filtered(channel: aio.Channel, connection: Any) -> None:
    day = midnight(now())
    times = [day + timedelta(hours=hour) for hour in range(5)]
    await rows.copy(
        connection,
        "telemetry_events",
        [rows.event(at, event_name=f"e{place}", flush_id=0) for place, at in enumerate(times)],
    )
    taken = await export(channel, EVENT, start=times[1], end=times[4])
    assert [row["event_name"] for row in taken.rows()] == ["e1", "e2", "e3"]
    assert taken.manifest is not None
    assert taken.manifest.min_time.ToDatetime(UTC) == times[1]
    assert taken.manifest.max_time.ToDatetime(UTC) == times[3]
    taken = await export(
        channel, EVENT, start=day, end=times[4], filter='event_name = "e2" OR event_name = "e4"'
    )
    assert [row["event_name"] for row in taken.rows()] == ["e2"]


FILTERS = [
    (EVENT, 'tags:"a" AND event_data.method != "email"', 1),
    (SYSTEM_METRIC, 'labels:"a" AND metric_value = 1', 1),
    (SYSTEM_METRIC, "percentile_99 > 1e200", 1),
    (SYSTEM_METRIC, 'metric_name = "same" OR metric_type = distribution', 5),
    (BUSINESS_METRIC, 'dimensions.plan = "pro" AND metric_value < 50', 1),
    (SPAN, "http_status_code = 500 AND duration_ms > 1", 1),
]


@pytest.mark.parametrize(("kind", "text", "count"), FILTERS)
async def test_a_filter_is_that_of_the_list(
    channel: aio.Channel, kind: Any, text: str, count: int
) -> None:
    start = await export(channel, kind, filter=text)
    await some_of_all(channel, 1)
    assert len((await export(channel, kind, filter=text)).rows()) == count
    behind = await export(channel, kind, filter=text, after_token=start.token)
    assert len(behind.rows()) == count
    assert behind.manifest is not None
    assert behind.manifest.expired_row_count == 0


async def test_kpis_are_selected_by_the_start_of_their_period(
    channel: aio.Channel, connection: Any, control: ControlPool
) -> None:
    day = midnight(now())
    made = [
        rows.business_metric(day - timedelta(days=40), 1, metric_name="early", flush_id=0),
        rows.business_metric(
            day, 2, metric_name="long", period_end=day + timedelta(days=20), flush_id=0
        ),
        rows.business_metric(day, 3, metric_name="value", flush_id=0),
        rows.business_metric(day, 3, metric_name="value", flush_id=0),  # corrected
    ]
    # As servers make them: at the end of a month this one makes the next one's as well.
    for row in made:
        await rows.make_partition(control, "business_metric_versions", row["period_end"])
    await rows.copy(connection, "business_metric_versions", made)
    taken = await export(channel, BUSINESS_METRIC, start=day, end=day + timedelta(days=1))
    assert sorted(row["metric_name"] for row in taken.rows()) == ["long", "value", "value"]


async def held_lane(connection: Any) -> int:
    """Open a lane that counts as alive while the connection is open."""
    await connection.execute("SELECT pg_advisory_lock(1179603534, 77)")
    await open_lane(connection, 77)
    return 77


async def day_of_events(connection: Any, name: str, day: datetime) -> None:
    """Make the partition of a day."""
    await connection.execute(
        f"CREATE TABLE {name} PARTITION OF telemetry_events "
        f"FOR VALUES FROM ('{day}') TO ('{day + timedelta(days=1)}')"
    )


@pytest.mark.parametrize("text", ["", 'event_name = "login"'])
async def test_what_retention_took_is_told(
    channel: aio.Channel, connection: Any, text: str
) -> None:
    day = midnight(now())
    start = await export(channel, EVENT, filter=text)
    for back in (3, 2):
        await day_of_events(connection, f"past{back}", day - timedelta(days=back))
    lane = await held_lane(connection)
    past = [day - timedelta(days=3), day - timedelta(days=2), day - timedelta(days=2)]
    await flush(connection, lane, 1, *past)
    await flush(connection, lane, 2, day)
    await connection.execute("DROP TABLE past3")
    taken = await export(channel, EVENT, after_token=start.token, filter=text)
    assert len(taken.rows()) == 3
    assert taken.manifest is not None
    assert taken.manifest.expired_row_count == 1
    assert taken.manifest.expired_before.ToDatetime(UTC) == day - timedelta(days=2)
    assert not start.manifest or not start.manifest.HasField("expired_before")


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("steps", [1, 2_000])
@pytest.mark.parametrize("form", [ARROW, JSON])
@pytest.mark.parametrize("text", ["", 'event_name = "login"', 'event_name = "other"'])
async def test_a_cut_stream_still_tells_what_retention_took(
    channel: aio.Channel,
    connection: Any,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    form: Any,
    steps: int,
) -> None:
    monkeypatch.setattr(export_by_flush, "STEP_FLUSHES", steps)
    day = midnight(now())
    start = await export(channel, EVENT, filter=text, form=form)
    gone = day - timedelta(days=3)
    await day_of_events(connection, "gone", gone)
    lane = await held_lane(connection)
    # The first and the last are gone as a whole, some in part, one not at all.
    flushes = [[gone] * 3, [gone, day, day], [day] * 9, [gone, gone, *[day] * 4], [gone] * 4]
    for number, times in enumerate(flushes, 1):
        await flush(connection, lane, number, *times)
    await connection.execute("DROP TABLE gone")
    whole = await export(channel, EVENT, after_token=start.token, filter=text, form=form)
    assert whole.manifest is not None
    assert whole.manifest.expired_row_count == 10
    if "other" not in text:
        assert whole.manifest.row_count == 15
        assert len(whole.chunks) > 4
    for chunk in whole.chunks:
        rest = await export(channel, EVENT, after_token=chunk.next_token, filter=text, form=form)
        assert rest.manifest is not None
        assert rest.manifest.expired_row_count == 10
        assert rest.manifest.expired_before == whole.manifest.expired_before
        assert rest.token == whole.token


@pytest.mark.usefixtures("small_chunks")
async def test_what_was_given_before_a_cut_is_not_gone(
    channel: aio.Channel, connection: Any
) -> None:
    """Retention takes each record as soon as it was given; only the others count as expired."""
    day = midnight(now())
    start = await export(channel, EVENT, form=JSON)
    gone = day - timedelta(days=3)
    await day_of_events(connection, "gone", gone)
    lane = await held_lane(connection)
    for number, times in enumerate([[gone, gone, *[day] * 9], [gone, day, day, day]], 1):
        await flush(connection, lane, number, *times)
    await connection.execute("DROP TABLE gone")
    token, given = start.token, 0
    while (taken := await export(channel, EVENT, form=JSON, after_token=token)).chunks:
        assert taken.manifest is not None
        assert (taken.manifest.expired_row_count, taken.manifest.row_count) == (3, 12 - given)
        token, given = taken.chunks[0].next_token, given + taken.chunks[0].row_count
        ids = [json.loads(line)["event_id"] for line in taken.chunks[0].data.splitlines()]
        await connection.execute(
            "DELETE FROM telemetry_events WHERE event_id = ANY ($1::uuid[])", ids
        )
    assert given == 12
    assert taken.manifest is not None
    assert taken.manifest.expired_row_count == 3


REFUSED = [
    ({"kind": 0}, "INVALID_FIELD"),
    ({"kind": v1.RecordKind.RECORD_KIND_METRIC_COLUMNS}, "INVALID_FIELD"),
    ({"kind": 99}, "INVALID_FIELD"),
    ({"format": 99}, "INVALID_FIELD"),
    ({"filter": "1=1 OR true"}, "INVALID_FILTER"),
    ({"filter": "secret = 1"}, "INVALID_FILTER"),
    ({"after_token": "nonsense"}, "CURSOR_INVALID"),
    ({"after_token": "' OR 1=1 --"}, "CURSOR_INVALID"),
    ({"after_token": "A" * 300_000}, "CURSOR_INVALID"),
    ({"min_commit_token": "x"}, "INVALID_FIELD"),
]


async def refusal(channel: aio.Channel, request: v1.ExportRecordsRequest) -> Any:
    with pytest.raises(aio.AioRpcError) as raised:
        async for _ in answers(channel, request):
            pass
    return failure_of(raised.value)


@pytest.mark.parametrize(("change", "reason"), REFUSED)
async def test_bad_requests(channel: aio.Channel, change: dict[str, Any], reason: str) -> None:
    request = asked(EVENT)
    for name, value in change.items():
        setattr(request, name, value)
    found = await refusal(channel, request)
    assert (found.code, found.reason) == (StatusCode.INVALID_ARGUMENT, reason)


async def test_a_selection_is_required(channel: aio.Channel) -> None:
    found = await refusal(channel, v1.ExportRecordsRequest(kind=EVENT))
    assert found.reason == "INVALID_TIME_RANGE"
    found = await refusal(channel, asked(EVENT, start=now(), end=now() - timedelta(hours=1)))
    assert found.reason == "INVALID_TIME_RANGE"


@pytest.mark.usefixtures("small_chunks")
async def test_error_cursor_invalid(channel: aio.Channel) -> None:
    await ingest(channel, events=[event("a")] * 5)
    async for answer in answers(channel, asked(EVENT, form=JSON)):
        token = answer.chunk.next_token
        break
    for request in (
        asked(SPAN, after_token=token),
        asked(EVENT, after_token=token, filter='event_name = "a"'),
        asked(EVENT, after_token=token[:-2] + "AA"),
        asked(EVENT, after_token=token[:-4]),
    ):
        assert (await refusal(channel, request)).reason == "CURSOR_INVALID"


async def test_error_cursor_too_old(channel: aio.Channel, connection: Any) -> None:
    lane = await held_lane(connection)
    start = await export(channel, EVENT)
    await flush(connection, lane, 1, midnight(now()))
    await connection.execute("UPDATE lanes SET pruned_through = 1 WHERE lane = $1", lane)
    found = await refusal(channel, asked(EVENT, after_token=start.token))
    assert (found.code, found.reason) == (StatusCode.OUT_OF_RANGE, "CURSOR_TOO_OLD")


# Callers that stop, and servers that do ------------------------------------------------------


async def many(connection: Any, count: int = 40_000) -> None:
    """Store more than what a channel holds."""
    day = midnight(now())
    text = "x" * 200
    made = [rows.event(day, event_name=f"e{n}", session_id=text, flush_id=0) for n in range(count)]
    await rows.copy(connection, "telemetry_events", made)


async def copying(connection: Any) -> int:
    """Give how many sessions are copying."""
    found: int = await connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND query LIKE 'COPY%' AND state <> 'idle'"
    )
    return found


async def until_no_copy(connection: Any) -> None:
    async with asyncio.timeout(20):
        while await copying(connection):  # noqa: ASYNC110 - a state of PostgreSQL
            await asyncio.sleep(0.02)


async def until_it_fails(call: Any) -> AsyncIterator[v1.ExportRecordsResponse]:
    """Give what a call still gives before it fails."""
    while True:
        try:
            yield await call.read()
        except aio.AioRpcError:
            return


async def test_a_client_that_is_gone_ends_its_query(channel: aio.Channel, connection: Any) -> None:
    await many(connection)
    stub: Any = v1.ExportServiceStub(channel)
    call = stub.ExportRecords(asked(EVENT, form=JSON), timeout=60)
    assert (await call.read()).chunk.row_count
    assert await copying(connection) == 1  # a channel holds less than the records
    call.cancel()
    await until_no_copy(connection)


async def test_error_slow_consumer(settings: Any, serving: Any, connection: Any) -> None:
    await many(connection)
    async with (
        serving(settings.model_copy(update={"export_stall_seconds": 2.0})) as app,
        aio.insecure_channel(app.address) as channel,
    ):
        stub: Any = v1.ExportServiceStub(channel)
        call = stub.ExportRecords(asked(EVENT, form=JSON), timeout=60)
        token = (await call.read()).chunk.next_token
        assert await copying(connection) == 1
        await until_no_copy(connection)
        taken = [answer.chunk.next_token async for answer in until_it_fails(call)]
        found = read_failure(
            await call.code(), await call.details(), await call.trailing_metadata()
        )
        assert (found.code, found.reason) == (StatusCode.RESOURCE_EXHAUSTED, "SLOW_CONSUMER")
        assert found.metadata == {"stall_seconds": "2"}
        assert found.retry_after_seconds
        assert "took nothing for 2 s: go on from the last token" in found.message
        rest = await export(channel, EVENT, form=JSON, after_token=[token, *taken][-1])
        assert rest.rows()


async def test_a_drain_ends_an_export_that_goes_on_elsewhere(
    settings: Any, serving: Any, connection: Any
) -> None:
    await many(connection)
    async with (
        serving(settings) as other,
        aio.insecure_channel(other.address) as elsewhere,
    ):
        app = Application(settings)
        await app.start()
        found = []
        async with aio.insecure_channel(app.address) as channel:
            stub: Any = v1.ExportServiceStub(channel)
            call = stub.ExportRecords(asked(EVENT, form=JSON), timeout=60)
            chunks = [(await call.read()).chunk]
            stopping = asyncio.create_task(app.stop())
            # A caller that is behind: the server's own grace for calls is a second.
            await asyncio.wait([stopping], timeout=1.5)
            chunks += [answer.chunk async for answer in until_it_fails(call)]
            assert await call.code() == StatusCode.UNAVAILABLE
            assert "go on from the last token" in await call.details()
            await stopping
            for chunk in chunks:
                found += [json.loads(line) for line in chunk.data.splitlines()]
            token = chunks[-1].next_token
        rest = await export(elsewhere, EVENT, form=JSON, after_token=token)
        found += rest.rows()
    assert sorted(row["event_name"] for row in found) == sorted(f"e{n}" for n in range(40_000))


async def test_no_more_exports_at_once_than_may(
    settings: Any, serving: Any, connection: Any
) -> None:
    await many(connection)
    async with (
        serving(settings.model_copy(update={"exports": 1})) as app,
        aio.insecure_channel(app.address) as channel,
    ):
        stub: Any = v1.ExportServiceStub(channel)
        call = stub.ExportRecords(asked(EVENT), timeout=60)
        await call.read()
        found = await refusal(channel, asked(EVENT))
        assert (found.code, found.reason) == (StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
        assert found.retry_after_seconds
        call.cancel()
        await until_no_copy(connection)
        await export(channel, EVENT)
