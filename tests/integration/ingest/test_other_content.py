"""Known numbers and request_ids with other content are refused, and only with other content."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from google.protobuf.message import Message
from grpc import StatusCode, aio

from fernando.telemetry.v1 import BatchAck, BatchRefusalReason, SpanEvent, TelemetryRecords
from fernando_telemetry.domain import limits
from fernando_telemetry.settings import Settings
from tests.conftest import Serving
from tests.integration.ingest.ingest_call import (
    IngestCall,
    batch,
    ingest,
    ingest_failure,
    request,
)
from tests.integration.ingest.locks import a_writer_waits, are_queued, held
from tests.integration.ingest.records import (
    columns,
    event,
    field,
    kpi,
    number_field,
    records,
    sample,
    span,
)
from tests.integration.transport.failures import expected, failure_of, summary
from tests.unit.ingest.test_content_digest import re_encoded

COUNT = "SELECT count(*) FROM telemetry_events"
REQUEST_ID = "0198a3b2-0000-7000-8000-000000000001"
CONFLICT = BatchRefusalReason.BATCH_REFUSAL_REASON_SEQUENCE_CONFLICT
REUSED = expected(StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")


def every_kind() -> TelemetryRecords:
    """Records of every kind, with maps of several entries."""
    many = {f"key-{number}": f"value {number}" for number in range(9)}
    inner = SpanEvent(name="retry", attributes=many)
    return TelemetryRecords(
        events=[event(tags=["a", "b"]), event("other")],
        system_metrics=[sample(labels=many)],
        business_metrics=[kpi(dimensions=many)],
        spans=[span(tags=many, events=[inner])],
        metric_columns=columns(1, 2),
    )


async def send(channel: aio.Channel, sequence: int, *items: Message | bytes) -> BatchAck:
    """Send one batch on a stream of its own."""
    async with IngestCall(channel) as stream:
        await stream.welcome()
        await stream.send(batch(sequence, *items))
        ack = await stream.ack()
        await stream.end()
    return ack


def is_conflict(ack: BatchAck) -> bool:
    return ack.WhichOneof("outcome") == "refused" and ack.refused.reason == CONFLICT


async def test_refusal_sequence_conflict(channel: aio.Channel, connection: Any) -> None:
    first = await send(channel, 1, event("a"), event("b"))
    for other in ([event("a")], [event("b"), event("a")], [event("a"), event("c")], []):
        ack = await send(channel, 1, *other)
        assert is_conflict(ack)
        assert ack.refused.detail
    # The first mark stands, and the stream goes on.
    repeat = await send(channel, 1, event("a"), event("b"))
    assert repeat.duplicate.commit_token == first.committed.commit_token
    assert (await send(channel, 2, event("z"))).HasField("committed")
    names = await connection.fetch("SELECT event_name FROM telemetry_events ORDER BY event_id")
    assert [row["event_name"] for row in names] == ["a", "b", "z"]


async def test_bytes_that_are_no_batch_are_other_content(channel: aio.Channel) -> None:
    await send(channel, 1, event())
    assert is_conflict(await send(channel, 1, b"not a message at all"))
    padding = event(event_data="x" * limits.PAYLOAD_BYTES)
    assert is_conflict(await send(channel, 1, *[padding] * 33))


@pytest.mark.parametrize("seed", range(5))
async def test_an_honest_retry_may_be_encoded_otherwise(
    channel: aio.Channel, connection: Any, seed: int
) -> None:
    """Map entries in another order, as Go and C++ write them; fields the server does not know."""
    chance = random.Random(seed)
    given = every_kind()
    data = given.SerializeToString()
    assert (await send(channel, 1, data)).committed.accepted_count == 7
    again = data
    while again == data:
        again = re_encoded(given, chance)
    assert (await send(channel, 1, again)).duplicate.accepted_count == 7
    # The record count of a retry may come with it or not.
    assert (await send(channel, 1, again + number_field(15, 7))).HasField("duplicate")
    assert await connection.fetchval(COUNT) == 2


async def test_equal_bytes_are_a_repeat_whatever_they_decode_to(
    channel: aio.Channel, connection: Any
) -> None:
    """A server of another version wrote the mark; with other bytes only the counts decide."""
    await send(channel, 1, event("a"), sample())
    await connection.execute("UPDATE batch_marks SET digest = set_byte(digest, 0, 200)")
    assert (await send(channel, 1, event("a"), sample())).HasField("duplicate")
    assert (await send(channel, 1, event("b"), sample())).HasField("duplicate")
    assert is_conflict(await send(channel, 1, event("a"), event("b")))
    await connection.execute("UPDATE batch_marks SET digest = NULL")
    assert (await send(channel, 1, event("a"), event("b"))).HasField("duplicate")


async def test_records_with_invalid_utf8_are_compared_too(channel: aio.Channel) -> None:
    spoilt = field(1, field(3, b"\xff"))
    metric = sample(labels={"a": "1", "b": "2"})
    one = records([metric])
    await send(channel, 1, spoilt + one)
    other = one
    while other == one:
        other = field(2, re_encoded(metric, random.Random()))
    assert (await send(channel, 1, spoilt + other)).HasField("duplicate")
    changed = records([sample(labels={"a": "1", "b": "3"})])
    assert is_conflict(await send(channel, 1, spoilt + changed))


async def test_two_batches_of_one_group(channel: aio.Channel, connection: Any) -> None:
    """Requests under one id that wait in the same group are compared as well."""
    async with held(connection):
        blocker = asyncio.create_task(ingest(channel, request(event("x"))))
        other = asyncio.create_task(ingest(channel, request(event("y"))))
        await a_writer_waits(connection)
        calls = [
            asyncio.create_task(ingest(channel, request(event(name), request_id=REQUEST_ID)))
            for name in ("a", "a", "b")
        ]
    await asyncio.gather(blocker, other)
    results = await asyncio.gather(*calls, return_exceptions=True)
    stored = await connection.fetch(
        "SELECT event_name FROM telemetry_events WHERE event_name IN ('a', 'b')"
    )
    assert len(stored) == 1
    failed = [one for one in results if isinstance(one, aio.AioRpcError)]
    assert {error.code() for error in failed} == {StatusCode.ALREADY_EXISTS}, repr(results)
    assert len(failed) == (1 if stored[0]["event_name"] == "a" else 2)


@pytest.mark.parametrize("order", ["ab", "ba"])
async def test_a_known_request_twice_in_one_group(
    settings: Settings, serving: Serving, connection: Any, order: str
) -> None:
    """Each is compared with the mark, and none with the answer of the one before it."""
    one_writer = settings.model_copy(update={"writers": 1, "quick_writers": 0})
    async with serving(one_writer) as server, aio.insecure_channel(server.address) as channel:
        first = await ingest(channel, request(event("a"), request_id=REQUEST_ID))
        async with held(connection):
            blocker = asyncio.create_task(ingest(channel, request(event("x"))))
            await a_writer_waits(connection)
            calls = {
                name: asyncio.create_task(
                    ingest(channel, request(event(name), request_id=REQUEST_ID))
                )
                for name in order
            }
            await are_queued(server, len(calls))
        await blocker
        again = await calls["a"]
        assert (again.duplicate, again.result.commit_token) == (True, first.result.commit_token)
        with pytest.raises(aio.AioRpcError) as failed:
            await calls["b"]
        assert summary(failure_of(failed.value)) == REUSED
    assert await connection.fetchval(COUNT) == 2


async def test_error_request_id_reused(channel: aio.Channel, connection: Any) -> None:
    first = await ingest(channel, request(event("a"), request_id=REQUEST_ID))
    failure = await ingest_failure(channel, request(event("b"), request_id=REQUEST_ID))
    assert summary(failure) == REUSED
    assert failure.retry_after_seconds is None
    again = await ingest(channel, request(event("a"), request_id=REQUEST_ID))
    assert (again.duplicate, again.result.commit_token) == (True, first.result.commit_token)
    # What is refused as a whole is told so, known id or not.
    broken = await ingest_failure(channel, request(b"\xff", request_id=REQUEST_ID))
    assert broken.reason == "BATCH_REFUSED"
    assert await connection.fetchval(COUNT) == 1
