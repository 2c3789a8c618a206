"""The smallest whole client of StreamTelemetry: a hello, numbered batches, one ack for each.

    .venv/bin/python examples/stream_events.py --target 127.0.0.1:4317

It uses the generated stubs and grpc.aio only, to show the protocol. It does not resend after a
broken connection: programs take fernando.telemetry.client.TelemetryProducer, which does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys

import grpc

from fernando.telemetry.v1 import (
    Event,
    EventType,
    IngestServiceStub,
    RecordDefaults,
    StreamHello,
    StreamTelemetryRequest,
    TelemetryBatch,
    TelemetryRecords,
)


def logins(users: list[str]) -> TelemetryRecords:
    """Make one batch: an event for each user."""
    events = [
        Event(
            event_type=EventType.EVENT_TYPE_USER_ACTION,
            event_name="user_login",
            user_id=user,
            event_data=json.dumps({"method": "password"}),
            # event_timestamp is unset: the server's receive time.
        )
        for user in users
    ]
    # The count lets a server that does not know a list refuse the batch instead of dropping it.
    return TelemetryRecords(events=events, record_count=len(events))


async def stream_events(target: str) -> bool:
    """Send three batches and print their acks; True: all of them are stored whole."""
    complete = True
    async with grpc.aio.insecure_channel(target) as channel:
        call = IngestServiceStub(channel).StreamTelemetry()

        # 1. Who sends. One producer_id for each stream that is open at one time. fresh: nothing
        #    unacknowledged was kept from an earlier run.
        hello = StreamHello(
            producer_id="examples/stream_events",
            defaults=RecordDefaults(source="stream_events"),
            fresh=True,
        )
        await call.write(StreamTelemetryRequest(hello=hello))

        # 2. The welcome says which numbers are used and how much may be in flight.
        responses = aiter(call)
        welcome = (await anext(responses)).welcome
        print(f"welcome: last number {welcome.last_sequence}")

        # 3. Batches, each numbered the one before plus 1, without waiting in between. More than
        #    limits.max_in_flight_batches would have to wait for acks.
        batches = [logins(["ada", "grace"]), logins(["edsger"]), logins(["barbara", "tony"])]
        assert len(batches) <= welcome.limits.max_in_flight_batches
        for sequence, records in enumerate(batches, welcome.last_sequence + 1):
            batch = TelemetryBatch(sequence=sequence, records=records)
            await call.write(StreamTelemetryRequest(batch=batch))
        await call.done_writing()

        # 4. One ack for each batch, in order, after its commit; then the stream ends with OK.
        async for response in responses:
            if response.WhichOneof("message") != "ack":
                continue
            ack = response.ack
            outcome = ack.WhichOneof("outcome")
            print(f"batch {ack.sequence}: {outcome}, {ack.committed.accepted_count} stored")
            for verdict in ack.committed.verdicts:
                print(f"  event {verdict.index}: {verdict.field_path}: {verdict.detail}")
            complete &= outcome == "committed" and not ack.committed.rejected_count
    return complete


def main() -> int:
    """Read the command line and run; 1 where something was not stored."""
    parser = argparse.ArgumentParser(description="Send a few events over one stream.")
    parser.add_argument("--target", default="127.0.0.1:4317", help="server, host:port")
    target = parser.parse_args().target
    try:
        return 0 if asyncio.run(stream_events(target)) else 1
    except grpc.aio.AioRpcError as error:
        print(f"stream_events: {error.code().name}: {error.details()}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
