"""Hello, numbers, acks, resume: the rules of a stream, over the wire."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import grpc
import pytest
from grpc import StatusCode, aio

from fernando.telemetry.v1 import BatchAck, RecordDefaults
from fernando_telemetry.app import Application
from fernando_telemetry.settings import Settings
from tests.integration.ingest.ingest_call import IngestCall, batch, ingest, request
from tests.integration.ingest.locks import becomes
from tests.integration.ingest.records import event
from tests.integration.transport.failures import expected, summary

COUNT = "SELECT count(*) FROM telemetry_events"
MARKS = "SELECT sequence FROM batch_marks ORDER BY sequence"
REQUEST_ID = "0198a3b2-0000-7000-8000-000000000001"


def outcome(ack: BatchAck) -> tuple[int, str]:
    return ack.sequence, ack.WhichOneof("outcome") or ""


async def test_every_batch_gets_one_ack_in_order(channel: aio.Channel, connection: Any) -> None:
    last = 60
    async with IngestCall(channel) as stream:
        await stream.welcome()

        async def write() -> None:
            for sequence in range(1, last + 1):
                if sequence % 7 == 0:
                    await stream.send(batch(sequence, event(), record_count=2))
                else:
                    await stream.send(batch(sequence, *[event()] * (sequence * 13 % 50)))
            await stream.call.done_writing()

        writing = asyncio.create_task(write())
        acks = await stream.acks(last)
        assert await stream.read() is None
        await writing
    assert [outcome(ack) for ack in acks] == [
        (sequence, "committed" if sequence % 7 else "refused") for sequence in range(1, last + 1)
    ]
    accepted = sum(ack.committed.accepted_count for ack in acks)
    assert await connection.fetchval(COUNT) == accepted > 0


async def test_an_ack_means_visible(channel: aio.Channel, connection: Any) -> None:
    async with IngestCall(channel) as stream:
        await stream.welcome()
        for sequence in range(1, 30):
            committed = await stream.commit(sequence, event())
            assert await connection.fetchval(COUNT) == sequence
            query = "SELECT count(*) FROM flushes WHERE flush_id = $1"
            assert await connection.fetchval(query, int(committed.commit_token, 16)) == 1


async def test_half_close_flushes(channel: aio.Channel, connection: Any) -> None:
    async with IngestCall(channel) as stream:
        await stream.welcome()
        await stream.send(*(batch(sequence, event()) for sequence in range(1, 11)))
        await stream.call.done_writing()
        assert [ack.sequence for ack in await stream.acks(10)] == list(range(1, 11))
        assert await stream.read() is None
        assert await stream.call.code() is StatusCode.OK
    assert await connection.fetchval(COUNT) == 10


async def test_a_repeat_on_a_new_stream_has_the_first_counts(
    channel: aio.Channel, connection: Any
) -> None:
    async with IngestCall(channel) as stream:
        assert (await stream.welcome()).last_sequence == 0
        address = event(source_ip="testclient")
        first = await stream.commit(1, event(), address, event(""))
        await stream.commit(2, event())
        await stream.end()
    async with IngestCall(channel) as stream:
        welcome = await stream.welcome()
        assert (welcome.last_sequence, welcome.producer_epoch) == (2, 2)
        await stream.send(
            batch(1, event(), address, event("")), batch(2, event()), batch(3, event())
        )
        repeated, second, third = await stream.acks(3)
        await stream.end()
    assert [outcome(ack)[1] for ack in (repeated, second, third)] == [
        "duplicate",
        "duplicate",
        "committed",
    ]
    again = repeated.duplicate
    assert (again.accepted_count, again.rejected_count, again.adjusted_count) == (2, 1, 1)
    assert (again.commit_token, list(again.verdicts)) == (first.commit_token, [])
    assert await connection.fetchval(COUNT) == 4


@pytest.mark.parametrize("first", [1, 2, 3])
async def test_the_first_batch_is_one_to_the_last_plus_one(
    channel: aio.Channel, connection: Any, first: int
) -> None:
    async with IngestCall(channel) as stream:
        await stream.welcome()
        await stream.commit(1, event())
        await stream.commit(2, event())
        await stream.end()
    async with IngestCall(channel) as stream:
        assert (await stream.welcome()).last_sequence == 2
        await stream.send(*(batch(sequence, event()) for sequence in range(first, 5)))
        acks = await stream.acks(5 - first)
        await stream.end()
    assert [outcome(ack) for ack in acks] == [
        (sequence, "duplicate" if sequence < 3 else "committed") for sequence in range(first, 5)
    ]
    assert await connection.fetchval(COUNT) == 4


@pytest.mark.parametrize("first", [2, 500, 2**63 - 1])
async def test_an_unknown_producer_may_begin_anywhere(
    channel: aio.Channel, connection: Any, first: int
) -> None:
    async with IngestCall(channel) as stream:
        assert (await stream.welcome()).last_sequence == 0
        await stream.commit(first, event())
        await stream.end()
    async with IngestCall(channel) as stream:
        assert (await stream.welcome()).last_sequence == first
        await stream.send(batch(first - 1, event()), batch(first, event()))
        below, known = await stream.acks(2)
        await stream.end()
    # What lies below the beginning counts as done.
    assert (outcome(below)[1], below.duplicate.accepted_count) == ("duplicate", 0)
    assert (outcome(known)[1], known.duplicate.accepted_count) == ("duplicate", 1)
    assert await connection.fetchval(COUNT) == 1


async def make_hole(channel: aio.Channel, connection: Any) -> None:
    """Leave the numbers {1…10, 12}, as a crash between two writers can."""
    async with IngestCall(channel) as stream:
        await stream.welcome()
        for sequence in range(1, 13):
            await stream.commit(sequence, event(f"event-{sequence}"))
        await stream.end()
    await connection.execute("DELETE FROM batch_marks WHERE sequence = 11")
    await connection.execute("DELETE FROM telemetry_events WHERE event_name = 'event-11'")


async def test_a_hole_is_filled_by_a_client_that_kept_its_batches(
    channel: aio.Channel, connection: Any
) -> None:
    await make_hole(channel, connection)
    async with IngestCall(channel) as stream:
        assert (await stream.welcome()).last_sequence == 10
        await stream.send(batch(11, event("event-11")), batch(12, event("event-12")), batch(13))
        acks = await stream.acks(3)
        await stream.end()
    assert [outcome(ack)[1] for ack in acks] == ["committed", "duplicate", "committed"]
    assert await connection.fetchval(COUNT) == 12


async def test_a_fresh_client_goes_on_behind_the_highest_number(
    channel: aio.Channel, connection: Any
) -> None:
    await make_hole(channel, connection)
    async with IngestCall(channel) as stream:
        assert (await stream.welcome(fresh=True)).last_sequence == 12
        await stream.commit(13, event())
        await stream.end()
    async with IngestCall(channel) as stream:
        assert (await stream.welcome()).last_sequence == 13
        await stream.send(batch(11, event()))
        assert outcome(await stream.ack()) == (11, "duplicate")
    assert await connection.fetchval(COUNT) == 12


async def test_fresh_means_nothing_to_an_unknown_producer(channel: aio.Channel) -> None:
    async with IngestCall(channel) as stream:
        assert (await stream.welcome(fresh=True)).last_sequence == 0
        await stream.commit(7, event())


async def test_two_licences_may_use_one_name(channel: aio.Channel, connection: Any) -> None:
    for license_id in ("", "acme", "globex"):
        async with IngestCall(channel) as stream:
            defaults = RecordDefaults(license_id=license_id)
            welcome = await stream.welcome("one-name", defaults=defaults)
            assert (welcome.last_sequence, welcome.producer_epoch) == (0, 1)
            await stream.commit(1, event())
            await stream.end()
    assert await connection.fetchval(COUNT) == 3
    assert await connection.fetchval("SELECT count(DISTINCT shard) FROM telemetry_events") > 1


async def test_another_server_resumes(
    settings: Settings,
    server: Application,
    channel: aio.Channel,
    connection: Any,
    serving: Callable[[Settings], AbstractAsyncContextManager[Application]],
) -> None:
    async with IngestCall(channel) as stream:
        await stream.welcome()
        await stream.commit(1, event())
        await stream.end()
    async with (
        serving(settings) as other,
        aio.insecure_channel(other.address) as elsewhere,
        IngestCall(elsewhere) as stream,
    ):
        assert (await stream.welcome()).last_sequence == 1
        await stream.send(batch(1, event()), batch(2, event()))
        assert [outcome(ack)[1] for ack in await stream.acks(2)] == ["duplicate", "committed"]
        await stream.end()
    assert await connection.fetchval(COUNT) == 2


async def test_marks_are_trimmed_and_old_repeats_are_still_repeats(
    channel: aio.Channel, connection: Any
) -> None:
    last = 1_400
    async with IngestCall(channel) as stream:
        await stream.welcome()

        async def write() -> None:
            for sequence in range(1, last + 1):
                await stream.send(batch(sequence, event()))

        writing = asyncio.create_task(write())
        acks = await stream.acks(last)
        await writing
        assert {outcome(ack)[1] for ack in acks} == {"committed"}
        await becomes(connection, "SELECT count(*) FROM progress", 1)
        await stream.end()
    marks = [row["sequence"] for row in await connection.fetch(MARKS)]
    through = await connection.fetchval("SELECT contiguous_through FROM progress")
    assert marks == list(range(through + 1, last + 1))
    assert 1_024 <= len(marks) <= 1_024 + 256
    async with IngestCall(channel) as stream:
        assert (await stream.welcome()).last_sequence == last
        await stream.send(batch(through, event()), batch(through + 1, event()))
        trimmed, marked = await stream.acks(2)
        await stream.end()
    assert outcome(trimmed) == (through, "duplicate")
    assert (trimmed.duplicate.accepted_count, trimmed.duplicate.commit_token) == (0, "")
    assert (outcome(marked)[1], marked.duplicate.accepted_count) == ("duplicate", 1)
    assert await connection.fetchval(COUNT) == last
    # The repeat's mark was taken back.
    assert [row["sequence"] for row in await connection.fetch(MARKS)] == marks


async def test_a_request_id_makes_a_unary_call_repeatable(
    channel: aio.Channel, connection: Any
) -> None:
    data = request(event(), event(""), request_id=REQUEST_ID)
    first = await ingest(channel, data)
    assert (first.duplicate, first.result.accepted_count, first.result.rejected_count) == (
        False,
        1,
        1,
    )
    again = await ingest(channel, data)
    assert (again.duplicate, again.result.accepted_count, again.result.rejected_count) == (
        True,
        1,
        1,
    )
    assert again.result.commit_token == first.result.commit_token
    assert list(again.result.verdicts) == []
    # However the UUID is written, and under another licence it is another request.
    upper = request(event(), event(""), request_id=REQUEST_ID.upper().replace("-", ""))
    assert (await ingest(channel, upper)).duplicate
    licensed = data + b"\x12\x06\x0a\x04acme"
    assert not (await ingest(channel, licensed)).duplicate
    assert (await ingest(channel, request(event()))).result.accepted_count == 1
    assert (await ingest(channel, request(event()))).result.accepted_count == 1
    assert await connection.fetchval(COUNT) == 4


async def test_equal_requests_at_once_are_stored_once(
    channel: aio.Channel, connection: Any
) -> None:
    data = request(event(), request_id=REQUEST_ID)
    answers = await asyncio.gather(*(ingest(channel, data) for _ in range(20)))
    assert sorted(answer.duplicate for answer in answers) == [False] + [True] * 19
    assert {answer.result.accepted_count for answer in answers} == {1}
    assert len({answer.result.commit_token for answer in answers}) == 1
    assert await connection.fetchval(COUNT) == 1


async def test_the_last_arm_of_a_message_counts(channel: aio.Channel, connection: Any) -> None:
    """Protobuf's rule for a oneof sent twice."""
    async with IngestCall(channel) as stream:
        await stream.welcome()
        hello = b"\x0a\x03\x0a\x01x"
        await stream.send(hello + batch(1, event()))
        assert outcome(await stream.ack()) == (1, "committed")
        await stream.send(batch(2, event()) + hello)
        failure = await stream.failure()
    assert summary(failure) == expected(StatusCode.FAILED_PRECONDITION, "HELLO_REQUIRED")
    assert await connection.fetchval(COUNT) == 1


async def test_gzip_is_accepted(server: Application, connection: Any) -> None:
    compression = grpc.Compression.Gzip
    async with aio.insecure_channel(server.address, compression=compression) as zipped:
        async with IngestCall(zipped) as stream:
            await stream.welcome()
            committed = await stream.commit(1, *[event()] * 1_000)
            await stream.end()
        await ingest(zipped, request(event()))
    assert committed.accepted_count == 1_000
    assert await connection.fetchval(COUNT) == 1_001
