"""A client as a user of the SDK would write it; mypy --strict has to pass on it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import grpc.aio
from google.protobuf.timestamp_pb2 import Timestamp

from fernando.telemetry.v1 import (
    Event,
    EventServiceStub,
    EventType,
    IngestServiceStub,
    ListEventsRequest,
    StreamHello,
    StreamTelemetryRequest,
    TelemetryBatch,
    TelemetryRecords,
    TimeRange,
)


async def requests(producer_id: str, events: list[Event]) -> AsyncIterator[StreamTelemetryRequest]:
    """Give the hello, then one batch."""
    yield StreamTelemetryRequest(hello=StreamHello(producer_id=producer_id))
    records = TelemetryRecords(events=events, record_count=len(events))
    yield StreamTelemetryRequest(batch=TelemetryBatch(sequence=1, records=records))


async def send(channel: grpc.aio.Channel, producer_id: str, events: list[Event]) -> int:
    """Send one batch over a stream and give the number of accepted events."""
    accepted = 0
    async for response in IngestServiceStub(channel).StreamTelemetry(requests(producer_id, events)):
        if response.WhichOneof("message") == "ack":
            accepted += response.ack.committed.accepted_count
    return accepted


async def recent_events(channel: grpc.aio.Channel, filter_: str) -> list[Event]:
    """Give all events of the last five minutes that pass the filter."""
    now = datetime.now(UTC)
    start, end = Timestamp(), Timestamp()
    start.FromDatetime(now - timedelta(minutes=5))
    end.FromDatetime(now + timedelta(minutes=1))
    request = ListEventsRequest(
        time_range=TimeRange(start_time=start, end_time=end), filter=filter_
    )
    found: list[Event] = []
    while True:
        page = await EventServiceStub(channel).ListEvents(request)
        found += page.events
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


async def main(target: str) -> None:
    """Send an event and read it back."""
    async with grpc.aio.insecure_channel(target) as channel:
        event = Event(
            event_type=EventType.EVENT_TYPE_USER_ACTION, event_name="hello", duration_ms=1.5
        )
        accepted = await send(channel, "client_program", [event])
        print(accepted, [event.event_id for event in await recent_events(channel, "")])


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
