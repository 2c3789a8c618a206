"""Each reason for which a batch is refused as a whole: over a stream, and in a unary call."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.message import Message
from grpc import StatusCode, aio

from fernando.telemetry.v1 import BatchRefusalReason, Event, MetricColumns
from fernando_telemetry.domain import limits
from tests.integration.ingest.ingest_call import (
    IngestCall,
    batch,
    ingest,
    ingest_failure,
    request,
)
from tests.integration.ingest.records import columns, event, field, number_field
from tests.integration.transport.failures import expected, summary

COUNT = "SELECT count(*) FROM telemetry_events"
REQUEST_ID = "0198a3b2-0000-7000-8000-000000000001"


async def refuse(
    channel: aio.Channel,
    connection: Any,
    reason: str,
    *items: Message | bytes,
    record_count: int | None = None,
) -> None:
    """Hold that a batch is refused on a stream that lives on, durably, and in a unary call."""
    number = BatchRefusalReason.Value(f"BATCH_REFUSAL_REASON_{reason}")
    async with IngestCall(channel) as stream:
        await stream.welcome()
        await stream.send(
            batch(1, event()), batch(2, *items, record_count=record_count), batch(3, event())
        )
        first, refused, last = await stream.acks(3)
        await stream.end()
    assert [ack.WhichOneof("outcome") for ack in (first, refused, last)] == [
        "committed",
        "refused",
        "committed",
    ]
    assert (refused.sequence, refused.refused.reason) == (2, number)
    assert refused.refused.detail
    async with IngestCall(channel) as stream:
        # Its number is used up, and whatever comes under it again is refused again.
        assert (await stream.welcome()).last_sequence == 3
        await stream.send(batch(2, event()))
        again = await stream.ack()
        await stream.end()
    assert (again.sequence, again.refused.reason) == (2, number)
    failure = await ingest_failure(
        channel, request(*items, record_count=record_count, request_id=REQUEST_ID)
    )
    refusal = {"refusal": reason.lower()}
    assert summary(failure) == expected(StatusCode.INVALID_ARGUMENT, "BATCH_REFUSED", refusal)
    assert failure.retry_after_seconds is None
    # The refusal does not use the request_id up.
    answer = await ingest(channel, request(event(), request_id=REQUEST_ID))
    assert (answer.duplicate, answer.result.accepted_count) == (False, 1)
    assert await connection.fetchval(COUNT) == 3
    assert await connection.fetchval("SELECT count(*) FROM metric_samples") == 0


@pytest.mark.parametrize("record_count", [1, 3, 2**32 - 1])
async def test_refusal_record_count_mismatch(
    channel: aio.Channel, connection: Any, record_count: int
) -> None:
    items = (event(), event())
    await refuse(channel, connection, "RECORD_COUNT_MISMATCH", *items, record_count=record_count)


async def test_refusal_record_count_mismatch_of_a_list_this_server_does_not_know(
    channel: aio.Channel, connection: Any
) -> None:
    unknown = field(14, b"a record of a kind of later days")
    await refuse(channel, connection, "RECORD_COUNT_MISMATCH", unknown, event(), record_count=2)


@pytest.mark.parametrize("ragged", ["series_index", "time_unix_micros", "value"])
async def test_refusal_column_length_mismatch(
    channel: aio.Channel, connection: Any, ragged: str
) -> None:
    given = columns(1, 2, 3)
    del getattr(given, ragged)[-1]
    await refuse(channel, connection, "COLUMN_LENGTH_MISMATCH", event(), given)


async def test_refusal_column_length_mismatch_beside_invalid_utf8(
    channel: aio.Channel, connection: Any
) -> None:
    given = columns(1, 2, 3)
    given.value.append(4)
    await refuse(channel, connection, "COLUMN_LENGTH_MISMATCH", field(1, field(3, b"\xff")), given)


async def test_refusal_too_many_bytes(channel: aio.Channel, connection: Any) -> None:
    padding = event(event_data="x" * limits.PAYLOAD_BYTES)
    await refuse(channel, connection, "TOO_MANY_BYTES", *[padding] * 33)


@pytest.mark.parametrize("kind", ["events", "columns", "events beside invalid UTF-8"])
async def test_refusal_too_many_records(channel: aio.Channel, connection: Any, kind: str) -> None:
    if kind == "columns":
        count = 200_000
        given: Message | bytes = MetricColumns(
            series_index=[0] * count, time_unix_micros=[0] * count, value=[0.0] * count
        )
    else:
        given = field(1, b"") * 1_000_000
        if "UTF-8" in kind:
            given += field(1, field(3, b"\xff"))
    await refuse(channel, connection, "TOO_MANY_RECORDS", given)


BROKEN = {
    "a group that does not end": b"\x0b",
    "a length beyond the end": field(1, b"")[:-1] + b"\x7f",
    "a varint without end": b"\x78" + b"\xff" * 11,
    "field number 0": b"\x00\x00",
    "a record with a broken field": field(1, b"\x1a\x7fx"),
    "a record with a broken label": field(2, field(9, b"\x0a\x7f")),
    "columns that end early": field(5, field(4, b"1234567")),
    "a series that ends early": field(5, field(1, b"\x0a\x05a")),
    "nested messages that end early": field(4, field(17, field(1, b"\x08"))),
    "text": b"not a message at all",
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
async def test_refusal_undecodable(channel: aio.Channel, connection: Any, broken: bytes) -> None:
    await refuse(channel, connection, "UNDECODABLE", event(), broken)


async def test_an_empty_batch_is_committed(channel: aio.Channel, connection: Any) -> None:
    async with IngestCall(channel) as stream:
        await stream.welcome()
        await stream.commit(1)
        committed = await stream.commit(2, number_field(15, 0))
    assert (committed.accepted_count, committed.rejected_count) == (0, 0)
    assert committed.commit_token
    assert (await ingest(channel, b"")).result.commit_token


async def test_most_records_are_taken(channel: aio.Channel, connection: Any) -> None:
    count = limits.BATCH_RECORDS
    given = columns(*[0.5] * count)
    async with IngestCall(channel) as stream:
        await stream.welcome()
        committed = await stream.commit(1, given, number_field(15, count))
    assert committed.accepted_count == count
    assert await connection.fetchval("SELECT count(*) FROM metric_samples") == count


async def test_a_message_that_comes_twice_is_merged(channel: aio.Channel, connection: Any) -> None:
    """Protobuf's rule for messages, which the raw twins must keep: nothing is dropped."""
    twice = field(1, event("a").SerializeToString()), field(1, event("b").SerializeToString())
    sequence, records = number_field(1, 1), [field(2, part) for part in twice]
    async with IngestCall(channel) as stream:
        await stream.welcome()
        await stream.send(field(2, sequence + records[0] + records[1]))
        assert (await stream.ack()).committed.accepted_count == 2
        # The batch itself twice: its second part goes on where the first ended.
        await stream.send(
            field(2, number_field(1, 9) + records[0]) + field(2, number_field(1, 2) + records[1])
        )
        ack = await stream.ack()
    assert (ack.sequence, ack.committed.accepted_count) == (2, 2)
    defaults = field(2, field(1, "acme")) + field(2, field(2, "web"))
    answer = await ingest(channel, defaults + field(3, twice[0]) + field(3, twice[1]))
    assert answer.result.accepted_count == 2
    rows = await connection.fetch(
        "SELECT event_name, license_id, source FROM telemetry_events WHERE license_id IS NOT NULL"
    )
    assert sorted(map(tuple, rows)) == [("a", "acme", "web"), ("b", "acme", "web")]
    halves = columns(1), columns(2)
    spoilt = Event(event_type=1).SerializeToString() + field(3, b"\xff")  # type: ignore[arg-type]
    data = field(1, spoilt) + b"".join(field(5, half.SerializeToString()) for half in halves)
    assert (await ingest(channel, request(data))).result.accepted_count == 2
