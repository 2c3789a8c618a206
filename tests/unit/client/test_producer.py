"""The producer against a real server that keeps the stream rules and misbehaves on command."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from fernando.telemetry.client import (
    Backoff,
    ProducerClosed,
    ProducerFenced,
    RpcFailed,
    TelemetryProducer,
)
from fernando.telemetry.v1 import Event, IngestLimits, MetricColumns, TelemetryRecords
from tests.unit.client.scripted_server import Act, ScriptedServer

QUICK = Backoff(initial_seconds=0.01, maximum_seconds=0.05)
PATIENCE_SECONDS = 20.0


def events(*names: str) -> TelemetryRecords:
    return TelemetryRecords(events=[Event(event_name=name) for name in names])


def producer(server: ScriptedServer, **options: Any) -> TelemetryProducer:
    options.setdefault("backoff", QUICK)
    return TelemetryProducer(server.target, "test/1", **options)


async def until(condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the server's state has no event
            await asyncio.sleep(0.005)


async def test_first_hello_is_fresh_and_numbers_follow_the_welcome(server: ScriptedServer) -> None:
    async with producer(server) as one:
        first = await one.submit(events("a"))
        second = await one.submit(events("b", "c"))
    assert first.sequences == (1,)
    assert second.sequences == (2,)
    assert second.accepted_count == 2
    assert second.commit_token == "t2"
    assert server.ingest.hellos[0].fresh
    async with producer(server) as two:
        third = await two.submit(events("d"))
    assert third.sequences == (3,)
    assert server.ingest.stored("test/1").event_names == ["a", "b", "c", "d"]


async def test_not_fresh_is_said_where_the_caller_kept_its_batches(server: ScriptedServer) -> None:
    async with producer(server, fresh=False) as one:
        await one.submit(events("a"))
    assert not server.ingest.hellos[0].fresh


@pytest.mark.parametrize("store_last", [True, False])
@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    ],
)
async def test_cut_stream_resends_what_was_not_acknowledged(
    server: ScriptedServer, code: grpc.StatusCode, *, store_last: bool
) -> None:
    cut = Act(cut_after=3, store_last=store_last, code=code)
    server.ingest.script += [cut, cut]
    names = [f"n{index}" for index in range(20)]
    async with producer(server) as one:
        receipts = [await one.send(events(name)) for name in names]
        acks = [await receipt for receipt in receipts]
    assert server.ingest.stored("test/1").event_names == names
    assert [ack.sequences for ack in acks] == [(index + 1,) for index in range(20)]
    assert any(ack.duplicate for ack in acks) == store_last
    assert len(server.ingest.hellos) == 3
    assert [hello.fresh for hello in server.ingest.hellos] == [True, False, False]


async def test_resend_is_in_order_behind_the_last_acknowledged(server: ScriptedServer) -> None:
    server.ingest.script.append(Act(cut_after=3, store_last=False))
    async with producer(server) as one:
        for name in "abcdef":
            await one.send(events(name))
        await one.flush()
    second_stream = [number for stream, number in server.ingest.received if stream == 2]
    assert second_stream == [3, 4, 5, 6]


async def test_server_restart_loses_nothing(server: ScriptedServer) -> None:
    async with producer(server) as one:
        await one.submit(events("a"))
        await server.stop()
        receipt = await one.send(events("b"))
        await until(lambda: one.last_error is not None)
        assert not receipt.done()
        await server.start()
        assert (await receipt).sequences == (2,)
    assert server.ingest.stored("test/1").event_names == ["a", "b"]


async def test_retry_info_is_honoured(server: ScriptedServer) -> None:
    trouble = Act(
        refuse_hello=True,
        code=grpc.StatusCode.UNAVAILABLE,
        reason="DATABASE_UNAVAILABLE",
        retry_after=0.3,
    )
    server.ingest.script.append(trouble)
    loop = asyncio.get_running_loop()
    async with producer(server) as one:
        started = loop.time()
        await one.submit(events("a"))
        assert loop.time() - started >= 0.3
        assert isinstance(one.last_error, RpcFailed)
        assert one.last_error.reason == "DATABASE_UNAVAILABLE"
        assert one.last_error.retry_after_seconds == pytest.approx(0.3)


async def test_go_away_moves_on_without_loss(server: ScriptedServer) -> None:
    server.ingest.script += [Act(cut_after=2, go_away=True, code=None)] * 3
    names = [f"n{index}" for index in range(12)]
    async with producer(server) as one:
        receipts = [await one.send(events(name)) for name in names]
        acks = [await receipt for receipt in receipts]
        assert one.last_error is None
    assert not any(ack.duplicate for ack in acks)
    assert server.ingest.stored("test/1").event_names == names
    assert len(server.ingest.hellos) == 4


async def test_server_that_lingers_after_go_away_is_left(server: ScriptedServer) -> None:
    server.ingest.script.append(Act(cut_after=1, go_away=True, code=None, lingers=True))
    async with producer(server, leave_timeout_seconds=0.2) as one:
        await one.submit(events("a"))
        ack = await one.submit(events("b"))
    assert ack.sequences == (2,)


async def test_fenced_producer_ends_and_does_not_reconnect(server: ScriptedServer) -> None:
    fence = Act(cut_after=2, code=grpc.StatusCode.ABORTED, reason="PRODUCER_FENCED")
    server.ingest.script.append(fence)
    async with producer(server) as one:
        await one.submit(events("a"))
        receipt = await one.send(events("b"))
        with pytest.raises(ProducerFenced) as caught:
            await receipt
        assert caught.value.code is grpc.StatusCode.ABORTED
        with pytest.raises(ProducerFenced):
            await one.send(events("c"))
        with pytest.raises(ProducerFenced):
            await one.flush()
        with pytest.raises(ProducerFenced):
            await one.close()
    assert len(server.ingest.hellos) == 1


async def test_fence_is_seen_in_the_middle_of_writing(server: ScriptedServer) -> None:
    # A write that meets the end of the call must not hide the status behind an error of its own.
    server.ingest.limits = IngestLimits(max_in_flight_batches=1000)
    for round_number in range(20):
        cut = 1 + round_number % 5
        fence = Act(cut_after=cut, code=grpc.StatusCode.ABORTED, reason="PRODUCER_FENCED")
        server.ingest.script.append(fence)
        with pytest.raises(ProducerFenced):
            await _write_much(producer(server))
        assert len(server.ingest.hellos) == round_number + 1


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
        (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED"),
        (grpc.StatusCode.FAILED_PRECONDITION, "SEQUENCE_GAP"),
    ],
)
async def test_answer_a_retry_cannot_change_ends_the_producer(
    server: ScriptedServer, code: grpc.StatusCode, reason: str
) -> None:
    server.ingest.script.append(Act(refuse_hello=True, code=code, reason=reason))
    with pytest.raises(RpcFailed) as caught:
        async with producer(server) as one:
            await one.submit(events("a"))
    assert (caught.value.code, caught.value.reason) == (code, reason)
    assert len(server.ingest.hellos) == 1


async def test_failure_nobody_waited_for_is_raised_at_the_end(server: ScriptedServer) -> None:
    server.ingest.script.append(
        Act(refuse_hello=True, code=grpc.StatusCode.PERMISSION_DENIED, reason="SCOPE_MISSING")
    )
    one = producer(server)
    await one.__aenter__()
    await one.send(events("a"))
    await until(lambda: one.last_error is not None)
    with pytest.raises(RpcFailed, match="SCOPE_MISSING"):
        await one.close()


async def test_hello_without_answer_is_given_up(server: ScriptedServer) -> None:
    server.ingest.script.append(Act(silent=True))
    async with producer(server, welcome_timeout_seconds=2.0) as one:
        assert (await one.submit(events("a"))).sequences == (1,)
    assert len(server.ingest.hellos) == 2


async def test_window_of_the_welcome_is_kept(server: ScriptedServer) -> None:
    server.ingest.limits.max_in_flight_batches = 3
    server.ingest.open_gate.clear()
    async with producer(server) as one:
        receipts = [await one.send(events(str(index))) for index in range(10)]
        await until(lambda: one.welcome is not None and server.ingest.open_streams == 1)
        server.ingest.open_gate.set()
        for receipt in receipts:
            await receipt
    assert server.ingest.most_unacknowledged <= 3


@pytest.mark.parametrize("bound", [{"max_pending_batches": 4}, {"max_pending_bytes": 4_200}])
async def test_send_waits_for_room_and_drops_nothing(
    server: ScriptedServer, bound: dict[str, int]
) -> None:
    server.ingest.open_gate.clear()
    async with producer(server, **bound) as one:
        sends = [asyncio.create_task(one.send(events(f"{n}" + "x" * 1_000))) for n in range(9)]
        await until(lambda: sum(task.done() for task in sends) == 4)
        await until(lambda: server.ingest.received != [])
        assert one.pending_count == 4
        assert one.pending_bytes <= 4_200
        assert not any(task.done() for task in sends[4:])
        sends[5].cancel()
        server.ingest.open_gate.set()
        await asyncio.wait(sends)
        await one.flush()
        assert one.pending_bytes == 0
    kept = [name[0] for name in server.ingest.stored("test/1").event_names]
    assert kept == list("01234678")


async def test_larger_than_all_room_still_goes(server: ScriptedServer) -> None:
    async with producer(server, max_pending_bytes=10) as one:
        assert (await one.submit(events("x" * 1_000))).complete


async def test_batch_over_the_limits_is_split_and_verdicts_keep_their_index(
    server: ScriptedServer,
) -> None:
    server.ingest.limits.max_batch_bytes = 2_000
    server.ingest.limits.max_batch_records = 7
    names = [f"bad{n}" if n in {0, 33, 49} else f"n{n}" + "x" * 200 for n in range(50)]
    async with producer(server) as one:
        ack = await one.submit(events(*names))
    assert server.ingest.largest_bytes <= 2_000
    assert server.ingest.stored("test/1").event_names == names
    assert ack.accepted_count == 47
    assert ack.rejected_count == 3
    assert sorted(verdict.index for verdict in ack.verdicts) == [0, 33, 49]
    assert not ack.complete
    assert len(ack.sequences) >= 8


async def test_own_batch_size_splits_too(server: ScriptedServer) -> None:
    async with producer(server, max_batch_bytes=5_000) as one:
        ack = await one.submit(events(*(f"{n}" + "x" * 900 for n in range(20))))
    assert ack.accepted_count == 20
    assert server.ingest.largest_bytes <= 5_000


async def test_batch_refused_as_too_large_goes_again_in_halves(server: ScriptedServer) -> None:
    server.ingest.refuse_above_bytes = 3_000
    names = [f"{n}" + "x" * 900 for n in range(10)]
    async with producer(server) as one:
        before = await one.send(events(*names))
        after = await one.send(events("after"))
        ack = await before
        assert (await after).complete
    assert ack.complete
    assert ack.accepted_count == 10
    assert sorted(server.ingest.stored("test/1").event_names) == sorted([*names, "after"])


async def test_refused_single_record_is_told_and_the_next_is_stored(
    server: ScriptedServer,
) -> None:
    server.ingest.refuse_above_bytes = 500
    async with producer(server) as one:
        refused = await one.submit(events("x" * 1_000))
        stored = await one.submit(events("small"))
    assert [refusal.reason for refusal in refused.refusals] == [4]
    assert not refused.complete
    assert stored.sequences == (2,)


async def test_record_no_batch_can_hold_is_refused_here(server: ScriptedServer) -> None:
    async with producer(server) as one:
        ack = await one.submit(events("x" * (9 * 1024 * 1024), "small"))
    assert len(ack.refusals) == 1
    assert ack.accepted_count == 1
    assert server.ingest.stored("test/1").event_names == ["small"]


async def test_columns_are_counted_and_split(server: ScriptedServer) -> None:
    server.ingest.limits.max_batch_records = 30
    columns = MetricColumns(
        series_index=[n % 3 for n in range(100)],
        time_unix_micros=range(100),
        value=[float(n) for n in range(100)],
    )
    for name in "abc":
        columns.series.add(metric_name=name)
    async with producer(server) as one:
        ack = await one.submit(TelemetryRecords(metric_columns=columns))
    assert ack.accepted_count == 100
    seen = [
        (part.metric_columns.series[index].metric_name, at, value)
        for _, part in sorted(server.ingest.stored("test/1").batches.items())
        for index, at, value in zip(
            part.metric_columns.series_index,
            part.metric_columns.time_unix_micros,
            part.metric_columns.value,
            strict=True,
        )
    ]
    assert seen == [("abc"[n % 3], n, float(n)) for n in range(100)]


async def test_server_that_forgot_numbers_gets_new_ones(server: ScriptedServer) -> None:
    async with producer(server) as one:
        for name in "abc":
            await one.submit(events(name))
        server.ingest.open_gate.clear()
        receipt = await one.send(events("d"))
        await until(lambda: len(server.ingest.received) == 4)
        await server.stop()
        stored = server.ingest.stored("test/1")
        # As after a restore of yesterday's backup.
        stored.batches = {1: stored.batches[1]}
        server.ingest.open_gate.set()
        await server.start()
        assert (await receipt).sequences == (2,)
    assert server.ingest.stored("test/1").event_names == ["a", "d"]


async def test_close_half_closes_and_waits_for_acks(server: ScriptedServer) -> None:
    async with producer(server) as one:
        receipt = await one.send(events("a"))
    assert receipt.done()
    await until(lambda: server.ingest.open_streams == 0)
    assert server.ingest.half_closes == 1


async def test_close_says_what_was_not_acknowledged(server: ScriptedServer) -> None:
    server.ingest.open_gate.clear()
    with pytest.raises(ProducerClosed, match="1 sends not acknowledged"):
        async with producer(server, close_timeout_seconds=0.1) as one:
            receipt = await one.send(events("a"))
    with pytest.raises(ProducerClosed):
        await receipt


async def test_close_does_not_wait_for_a_server_that_is_not_needed(
    server: ScriptedServer,
) -> None:
    await server.stop()
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        producer(server, close_timeout_seconds=3 * PATIENCE_SECONDS),
    ):
        pass


async def test_leaving_by_an_exception_does_not_wait(server: ScriptedServer) -> None:
    server.ingest.open_gate.clear()
    async with asyncio.timeout(PATIENCE_SECONDS):
        with pytest.raises(KeyError):
            await _fail_inside(producer(server, close_timeout_seconds=3 * PATIENCE_SECONDS))


async def test_channel_of_the_caller_stays_open(server: ScriptedServer) -> None:
    async with grpc.aio.insecure_channel(server.target) as channel:
        for name in ("first", "second"):
            async with TelemetryProducer(channel, name, backoff=QUICK) as one:
                assert (await one.submit(events("a"))).sequences == (1,)


async def test_producer_is_entered_before_it_sends_and_only_once(server: ScriptedServer) -> None:
    one = producer(server)
    with pytest.raises(ProducerClosed):
        await one.send(events("a"))
    async with one:
        await one.submit(events("a"))
    with pytest.raises(ProducerClosed):
        await one.__aenter__()
    with pytest.raises(ProducerClosed):
        await one.send(events("b"))


async def test_cancelled_waiter_leaves_the_batch_alone(server: ScriptedServer) -> None:
    server.ingest.open_gate.clear()
    async with producer(server) as one:
        receipt = await one.send(events("a"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_await(receipt), 0.05)
        server.ingest.open_gate.set()
        assert (await receipt).accepted_count == 1


async def _fail_inside(one: TelemetryProducer) -> None:
    async with one:
        await one.send(events("a"))
        raise KeyError


async def _write_much(one: TelemetryProducer) -> None:
    async with one:
        for _ in range(200):
            await one.send(events("x" * 10_000))
        await one.flush()


async def _await(receipt: Any) -> Any:
    return await receipt
