"""The buffer in front of a real producer and a real server."""

from __future__ import annotations

import asyncio

import pytest

from fernando.telemetry.client import (
    Acknowledgement,
    ProducerClosed,
    TelemetryBuffer,
    TelemetryProducer,
)
from fernando.telemetry.client.splitting import count_records
from fernando.telemetry.v1 import BusinessMetric, Event, Span, SystemMetric, TelemetryRecords
from tests.unit.client.scripted_server import ScriptedServer


def batches(server: ScriptedServer) -> list[TelemetryRecords]:
    return [records for _, records in sorted(server.ingest.stored("p").batches.items())]


async def until_stored(server: ScriptedServer, count: int) -> None:
    async with asyncio.timeout(20):
        while sum(map(count_records, batches(server))) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_records_of_all_kinds_travel_together(server: ScriptedServer) -> None:
    acks: list[Acknowledgement] = []
    async with (
        TelemetryProducer(server.target, "p") as producer,
        TelemetryBuffer(producer, max_age_seconds=60, on_acknowledgement=acks.append) as buffer,
    ):
        await buffer.add(Event(event_name="e"))
        await buffer.add(SystemMetric(metric_name="m"))
        await buffer.add(BusinessMetric(metric_name="k"))
        await buffer.add(Span(operation_name="s"))
        await buffer.flush()
        (batch,) = batches(server)
        assert batch.record_count == 4
        assert (batch.events[0].event_name, batch.system_metrics[0].metric_name) == ("e", "m")
        assert (batch.business_metrics[0].metric_name, batch.spans[0].operation_name) == ("k", "s")
        assert [ack.accepted_count for ack in acks] == [4]


async def test_batches_end_at_their_size(server: ScriptedServer) -> None:
    async with (
        TelemetryProducer(server.target, "p") as producer,
        TelemetryBuffer(producer, max_bytes=10_000, max_age_seconds=60) as buffer,
    ):
        for number in range(100):
            await buffer.add(Event(event_name=f"{number:03}" + "x" * 900))
        await until_stored(server, 88)
    sizes = [batch.ByteSize() for batch in batches(server)]
    assert max(sizes) <= 10_000
    assert min(sizes[:-1]) > 8_000
    names = [event.event_name[:3] for batch in batches(server) for event in batch.events]
    assert names == [f"{number:03}" for number in range(100)]


async def test_batches_end_at_their_count(server: ScriptedServer) -> None:
    async with (
        TelemetryProducer(server.target, "p") as producer,
        TelemetryBuffer(producer, max_records=10, max_age_seconds=60) as buffer,
    ):
        for number in range(25):
            await buffer.add(Event(event_name=str(number)))
    assert [batch.record_count for batch in batches(server)] == [10, 10, 5]


async def test_record_does_not_wait_for_others(server: ScriptedServer) -> None:
    async with (
        TelemetryProducer(server.target, "p") as producer,
        TelemetryBuffer(producer, max_age_seconds=0.02) as buffer,
    ):
        await buffer.add(Event(event_name="a"))
        await until_stored(server, 1)
        await buffer.add(Event(event_name="b"))
        await until_stored(server, 2)
    assert len(batches(server)) == 2


async def test_many_callers_wait_for_a_server_that_does_not_acknowledge(
    server: ScriptedServer,
) -> None:
    server.ingest.open_gate.clear()
    async with (
        TelemetryProducer(server.target, "p", max_pending_batches=2) as producer,
        TelemetryBuffer(producer, max_records=5, max_age_seconds=0.01) as buffer,
    ):

        async def add_some(caller: int) -> None:
            for number in range(10):
                await buffer.add(Event(event_name=f"{caller}.{number}"))

        callers = [asyncio.create_task(add_some(caller)) for caller in range(20)]
        async with asyncio.timeout(20):
            while producer.pending_count < 2 or not server.ingest.received:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        # Two batches of five went out: the whole of one caller at most.
        assert sum(caller.done() for caller in callers) <= 1
        assert producer.pending_count == 2
        # A caller that gives up takes nothing with it.
        callers[-1].cancel()
        server.ingest.open_gate.set()
        await asyncio.gather(*callers[:-1])
    names = [event.event_name for batch in batches(server) for event in batch.events]
    assert len(names) == len(set(names))
    assert set(names) >= {f"{caller}.{number}" for caller in range(19) for number in range(10)}


async def test_closed_buffer_takes_nothing(server: ScriptedServer) -> None:
    async with TelemetryProducer(server.target, "p") as producer:
        async with TelemetryBuffer(producer) as buffer:
            await buffer.add(Event(event_name="a"))
        with pytest.raises(ProducerClosed):
            await buffer.add(Event(event_name="b"))
    assert server.ingest.stored("p").event_names == ["a"]


async def test_ended_producer_is_told_to_who_adds(server: ScriptedServer) -> None:
    producer = TelemetryProducer(server.target, "p")
    async with producer:
        pass
    buffer = TelemetryBuffer(producer)
    await buffer.add(Event(event_name="a"))
    with pytest.raises(ProducerClosed):
        await buffer.flush()
