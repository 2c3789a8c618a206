"""Rejected records that are kept: what of them, once, within bounds, and how they are listed."""

from __future__ import annotations

import asyncio
import json
import math
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from grpc import StatusCode, aio

from fernando.telemetry.v1 import (
    AdminServiceStub,
    Event,
    GetServerInfoRequest,
    ListRejectedRecordsRequest,
    MetricColumns,
    MetricSeries,
    MetricType,
    RecordDefaults,
    RecordKind,
    RejectedRecord,
    VerdictReason,
)
from fernando_telemetry.settings import MIB, Settings
from fernando_telemetry.storage.rejected_records import ROW_BYTES, RejectedRecords
from fernando_telemetry.storage.sessions import ControlPool
from tests.conftest import Serving, session_settings
from tests.integration.ingest.ingest_call import IngestCall, batch, ingest, request
from tests.integration.ingest.locks import DEADLINE_SECONDS, a_writer_waits, held
from tests.integration.ingest.records import (
    columns,
    event,
    field,
    kpi,
    now,
    sample,
    span,
    stamp,
)
from tests.integration.ingest.rejects import KEPT, listed, these_weeks
from tests.integration.transport.failures import failure_of
from tests.integration.transport.server_log import ServerLog

pytestmark = pytest.mark.usefixtures("each_path")


STORED = "SELECT count(*) FROM telemetry_events"
KILL_WRITERS = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE application_name = 'fernando-telemetry writer' AND datname = current_database()
    AND wait_event_type = 'Lock'
"""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Keeping is on."""
    return settings.model_copy(update={"rejected_keep": True})


def told(record: RejectedRecord) -> tuple[str, int, str, str]:
    """Give kind, place, reason and path of a kept record."""
    verdict = record.verdict
    return (
        RecordKind.Name(verdict.kind).removeprefix("RECORD_KIND_").lower(),
        verdict.index,
        VerdictReason.Name(verdict.reason).removeprefix("VERDICT_REASON_").lower(),
        verdict.field_path,
    )


async def test_every_kind_is_kept_as_it_was_sent(channel: aio.Channel, connection: Any) -> None:
    spoilt_text = field(Event.EVENT_NAME_FIELD_NUMBER, b"\xff\xfe")
    unknown = event("", license_id="own").SerializeToString() + field(300, b"of a newer client")
    bad = [
        (1, unknown, ("event", 1, "field_missing", "event_name"), "own"),
        (1, spoilt_text, ("event", 2, "invalid_utf8", "event_name"), "acme"),
        (
            1,
            field(Event.LICENSE_ID_FIELD_NUMBER, b"\xff"),
            ("event", 3, "invalid_utf8", "license_id"),
            "acme",
        ),
        (
            2,
            sample(metric_value=math.nan).SerializeToString(),
            ("system_metric", 0, "value_not_finite", "metric_value"),
            "acme",
        ),
        (
            3,
            kpi(metric_value="x", license_id="x" * 257).SerializeToString(),
            None,
            "acme",
        ),
        (4, span(trace_id="no").SerializeToString(), ("span", 0, "invalid_id", "trace_id"), "acme"),
    ]
    data = event().SerializeToString()
    async with IngestCall(channel) as stream:
        await stream.welcome("maker", defaults=RecordDefaults(license_id="acme", source="web"))
        before = now()
        committed = await stream.commit(
            1, field(1, data), *(field(number, record) for number, record, _, _ in bad)
        )
        after = now()
    assert (committed.accepted_count, committed.rejected_count) == (1, len(bad))
    kept = sorted(await listed(channel), key=lambda one: (one.verdict.kind, one.verdict.index))
    assert len(kept) == len(bad)
    verdicts = {(one.kind, one.index): one for one in committed.verdicts}
    for record, (_, sent, wanted, license_id) in zip(kept, bad, strict=True):
        assert record.record == sent
        assert record.verdict == verdicts[record.verdict.kind, record.verdict.index]
        assert wanted is None or told(record) == wanted
        assert (record.producer_id, record.sequence) == ("maker", 1)
        assert record.license_id == license_id
        assert before <= record.rejected_at.ToDatetime(before.tzinfo) <= after
    defaults = await connection.fetch("SELECT DISTINCT defaults::text FROM rejected_records")
    assert [json.loads(row["defaults"]) for row in defaults] == [
        {"license_id": "acme", "source": "web"}
    ]


async def test_samples_of_columns_are_kept_with_their_series(channel: aio.Channel) -> None:
    good = MetricSeries(metric_name="good", metric_type=MetricType.METRIC_TYPE_GAUGE)
    bad = MetricSeries(metric_type=MetricType.METRIC_TYPE_GAUGE, license_id="own")
    micros = int(now().timestamp() * 1_000_000)
    sent = MetricColumns(
        series=[good, bad],
        series_index=[0, 0, 1, 7],
        time_unix_micros=[micros, micros + 1, micros + 2, micros + 3],
        value=[1.0, math.inf, 3.0, 4.0],
    )
    answer = await ingest(channel, request(sent))
    assert (answer.result.accepted_count, answer.result.rejected_count) == (1, 3)
    kept = sorted(await listed(channel), key=lambda one: one.verdict.index)
    assert [told(one)[1:] for one in kept] == [
        (1, "value_not_finite", "metric_columns.value"),
        (2, "field_missing", "metric_columns.series[1].metric_name"),
        (3, "unknown_series_index", "metric_columns.series_index"),
    ]
    assert [MetricColumns.FromString(one.record) for one in kept] == [
        MetricColumns(
            series=[good], series_index=[0], time_unix_micros=[micros + 1], value=[math.inf]
        ),
        MetricColumns(series=[bad], series_index=[0], time_unix_micros=[micros + 2], value=[3.0]),
        MetricColumns(series_index=[7], time_unix_micros=[micros + 3], value=[4.0]),
    ]
    assert [one.license_id for one in kept] == ["", "own", ""]
    assert {(one.producer_id, one.sequence) for one in kept} == {("", 0)}


async def test_more_are_kept_than_an_ack_names(channel: aio.Channel, connection: Any) -> None:
    async with IngestCall(channel) as stream:
        await stream.welcome()
        committed = await stream.commit(1, *[event("")] * 450, event(), event(source_ip="none"))
    assert (committed.rejected_count, len(committed.verdicts)) == (450, 100)
    indexes = await connection.fetch("SELECT index FROM rejected_records ORDER BY rejected_id")
    assert [row["index"] for row in indexes] == list(range(450))


async def test_they_come_and_go_with_their_batch(channel: aio.Channel, connection: Any) -> None:
    """A flush that is lost keeps nothing; the one that answers, and no repeat, keeps them."""
    request_id = str(uuid4())
    async with IngestCall(channel) as stream:
        await stream.welcome()
        async with held(connection):
            await stream.send(batch(1, event(""), event()))
            await a_writer_waits(connection)
            assert await connection.fetchval(KEPT) == 0
            assert await connection.fetchval(KILL_WRITERS) == 1
        assert (await stream.ack()).committed.rejected_count == 1
        assert await connection.fetchval(KEPT) == 1
    for _ in range(2):
        async with IngestCall(channel) as again:
            await again.welcome()
            await again.send(batch(1, event(""), event()))
            assert (await again.ack()).duplicate.rejected_count == 1
        await ingest(channel, request(event(""), request_id=request_id))
    assert await connection.fetchval(KEPT) == 2
    assert await connection.fetchval(STORED) == 1


async def test_what_postgresql_refuses_is_kept(channel: aio.Channel, connection: Any) -> None:
    await connection.execute(
        "ALTER TABLE telemetry_events ADD CONSTRAINT refuses CHECK (event_name <> 'refused')"
    )
    sent = event("refused", user_id="u1")
    async with IngestCall(channel) as stream:
        await stream.welcome()
        committed = await stream.commit(4, event("a"), event(""), sent, event("b"))
    assert (committed.accepted_count, committed.rejected_count) == (2, 2)
    kept = await listed(channel, "reason = refused_by_database")
    assert [told(one) for one in kept] == [("event", 2, "refused_by_database", "")]
    assert kept[0].record == sent.SerializeToString()
    assert (kept[0].producer_id, kept[0].sequence) == ("producer", 4)
    assert await connection.fetchval(KEPT) == 2


async def test_keeping_never_fails_ingest(
    channel: aio.Channel, connection: Any, server_log: ServerLog
) -> None:
    await connection.execute("ALTER TABLE rejected_records ADD CONSTRAINT refuses CHECK (false)")
    answer = await ingest(channel, request(event(""), event()))
    assert (answer.result.accepted_count, answer.result.rejected_count) == (1, 1)
    assert await connection.fetchval(STORED) == 1
    assert [entry["records"] for entry in server_log.named("rejected_records_lost")] == [1]


async def test_nothing_is_kept_by_default(
    settings: Settings, serving: Serving, connection: Any
) -> None:
    assert not Settings().rejected_keep
    off = settings.model_copy(update={"rejected_keep": False})
    async with serving(off) as server, aio.insecure_channel(server.address) as channel:
        answer = await ingest(channel, request(event(""), columns(math.nan)))
        assert answer.result.rejected_count == 2
        assert await listed(channel) == []
    assert await connection.fetchval(KEPT) == 0


async def test_a_bound_of_bytes(
    settings: Settings, serving: Serving, connection: Any, server_log: ServerLog
) -> None:
    small = settings.model_copy(update={"rejected_bytes": MIB})
    large = event("", user_agent="x" * 100_000)
    fitting = MIB // (large.ByteSize() + ROW_BYTES)
    async with serving(small) as server, aio.insecure_channel(server.address) as channel:
        async with IngestCall(channel) as stream:
            await stream.welcome()
            for sequence in range(1, 4):
                committed = await stream.commit(sequence, *[large] * 5, event())
                assert (committed.accepted_count, committed.rejected_count) == (1, 5)
        assert fitting == 10
        assert await connection.fetchval(KEPT) == fitting
        assert server._ingest is not None
        assert server._ingest.counters.rejected_not_kept == 15 - fitting
        assert len(server_log.named("rejected_records_not_kept")) == 1
        stub: Any = AdminServiceStub(channel)
        info = await stub.GetServerInfo(GetServerInfoRequest())
        assert "rejected records take" in info.last_problem
    # A new start counts what is there.
    async with serving(small) as server, aio.insecure_channel(server.address) as channel:
        await ingest(channel, request(large))
        assert await connection.fetchval(KEPT) == fitting
    await connection.execute("DELETE FROM rejected_records")
    async with serving(small) as server, aio.insecure_channel(server.address) as channel:
        await ingest(channel, request(large))
        assert await connection.fetchval(KEPT) == 1


async def test_a_series_repeated_for_each_sample_is_bounded(
    channel: aio.Channel, connection: Any, server_log: ServerLog
) -> None:
    """1,000 samples of a bad series of 1 MiB would be a gigabyte."""
    huge = MetricSeries(metric_name="x" * MIB, metric_type=MetricType.METRIC_TYPE_GAUGE)
    start = int(now().timestamp() * 1_000_000)
    sent = MetricColumns(
        series=[huge],
        series_index=[0] * 1_000,
        time_unix_micros=range(start, start + 1_000),
        value=[1.0] * 1_000,
    )
    answer = await ingest(channel, request(sent))
    assert answer.result.rejected_count == 1_000
    kept, size = await connection.fetchrow(
        "SELECT count(*), sum(octet_length(record)) FROM rejected_records"
    )
    assert 0 < kept < 100
    assert size < 100 * MIB
    assert len(server_log.named("rejected_records_not_kept")) == 1


INSERT = """
INSERT INTO rejected_records (shard, rejected_id, rejected_at, kind, index, reason, detail,
    producer_id, sequence, license_id, defaults, record)
SELECT n % 64, gen_random_uuid(), $1::timestamptz + n * interval '1 ms', 'event', n,
    'time_too_old', 'x', 'p' || n % 3, n, CASE WHEN n % 2 = 0 THEN 'even' END, '{}', $3::bytea
FROM generate_series(1, $2::int) n
"""


async def test_old_ones_are_cleaned_in_steps(database: str, connection: Any) -> None:
    await connection.execute(INSERT, now() - timedelta(days=7, minutes=1), 2_500, b"old")
    await connection.execute(INSERT, now() - timedelta(days=7) + timedelta(minutes=1), 10, b"new")
    control = ControlPool(session_settings(database), 1)
    records = RejectedRecords(control, 7)
    async with connection.transaction():
        assert await connection.fetchval("SELECT pg_try_advisory_xact_lock(1179603533, 5)")
        assert await records.clean(now()) == 0
    async with connection.transaction():
        # Not even a record that a replay holds is waited for.
        await connection.execute("SELECT FROM rejected_records WHERE index = 1 FOR UPDATE")
        assert await records.clean(now()) >= 999
    await records.clean(now())
    left = await connection.fetch("SELECT DISTINCT record FROM rejected_records")
    assert [row["record"] for row in left] == [b"new"]
    assert await records.kept_bytes() == 10 * (len(b"new") + ROW_BYTES)
    await control.close()


async def test_a_server_that_keeps_none_cleans(
    settings: Settings, serving: Serving, connection: Any
) -> None:
    await connection.execute(INSERT, now() - timedelta(days=8), 5, b"old")
    await connection.execute(INSERT, now(), 1, b"new")
    off = settings.model_copy(update={"rejected_keep": False})
    async with serving(off), asyncio.timeout(DEADLINE_SECONDS):
        while await connection.fetchval(KEPT) > 1:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert await connection.fetchval("SELECT record FROM rejected_records") == b"new"


async def test_pages_and_filters(channel: aio.Channel, connection: Any) -> None:
    await connection.execute(INSERT, now() - timedelta(hours=1), 250, b"")
    found = await listed(channel, page_size=7)
    assert [one.verdict.index for one in found] == list(range(250, 0, -1))
    assert len(await listed(channel)) == 250

    async def count(text: str) -> int:
        return len(await listed(channel, text))

    assert await count('license_id = even AND producer_id = "p1"') == 42
    assert await count('license_id = ""') == 125
    assert await count("kind = event AND reason = time_too_old AND sequence > 240") == 10
    assert await count("kind = span") == 0
    assert await count("reason != time_too_old") == 0
    assert await count("index = 7") == 1
    assert await count(f"rejected_id = {found[0].rejected_id}") == 1
    assert await count(f"rejected_at < {found[9].rejected_at.ToJsonString()}") == 240
    assert await count('field_path = ""') == 250
    assert await count('detail = "y"') == 0


async def test_wrong_arguments(channel: aio.Channel, connection: Any) -> None:
    await connection.execute(INSERT, now() - timedelta(hours=1), 3, b"")
    stub: Any = AdminServiceStub(channel)

    async def refused(**arguments: Any) -> str:
        with pytest.raises(aio.AioRpcError) as caught:
            await stub.ListRejectedRecords(ListRejectedRecordsRequest(**arguments))
        failure = failure_of(caught.value)
        assert failure.code is StatusCode.INVALID_ARGUMENT
        return failure.reason

    weeks = these_weeks()
    page = await stub.ListRejectedRecords(ListRejectedRecordsRequest(time_range=weeks, page_size=1))
    token = page.next_page_token
    assert await refused() == "INVALID_TIME_RANGE"
    assert await refused(time_range=weeks, page_size=-1) == "INVALID_FIELD"
    assert await refused(time_range=weeks, filter="record = x") == "INVALID_FILTER"
    assert await refused(time_range=weeks, filter="kind = events") == "INVALID_FILTER"
    assert await refused(time_range=weeks, filter="index = 1", page_token=token) == (
        "INVALID_PAGE_TOKEN"
    )


async def test_a_page_ends_at_two_mebibytes(channel: aio.Channel, connection: Any) -> None:
    await connection.execute(INSERT, now() - timedelta(hours=1), 9, b"x" * 512 * 1024)
    await connection.execute(INSERT, now(), 1, b"y" * (512 * 1024 + 1))
    stub: Any = AdminServiceStub(channel)
    page = await stub.ListRejectedRecords(ListRejectedRecordsRequest(time_range=these_weeks()))
    assert page.ByteSize() <= 2 * MIB
    assert page.next_page_token
    # The newest one is too large for any page: it comes without its bytes.
    assert [len(one.record) for one in page.rejected_records] == [0, *[512 * 1024] * 3]
    assert len(await listed(channel)) == 10


async def test_time_is_kept_to_the_microsecond(channel: aio.Channel, connection: Any) -> None:
    await ingest(channel, request(event("", event_timestamp=stamp(now()))))
    (record,) = await listed(channel)
    stored = await connection.fetchval("SELECT rejected_at FROM rejected_records")
    assert record.rejected_at == stamp(stored)
