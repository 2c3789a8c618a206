"""A client of unary calls, with or without request_id, and a ledger of what it was told."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from grpc import aio

from fernando.telemetry.v1 import IngestServiceStub, IngestTelemetryRequest
from tests.faults.mixed_records import MIXED_ROWS, mixed_records
from tests.faults.numbered_producer import RECONNECT_QUICKLY
from tests.faults.stored_once import stored_batches

TIMEOUT_SECONDS = 10.0


@dataclass
class UnaryCaller:
    """Calls one after the other.

    Args:
        name: Stands in its rows.
        at: The time of its records.
        chance: Source of its choices.
        named: Calls have a request_id, and one that failed is repeated until it succeeds;
            without, each is tried once.
    """

    name: str
    at: datetime
    chance: random.Random
    named: bool
    sizes: dict[int, int] = field(default_factory=dict)
    acknowledged: set[int] = field(default_factory=set)
    failures: int = 0
    duplicates: int = 0

    async def run(self, address: str, stop: asyncio.Event) -> None:
        """Call until told to stop."""
        async with aio.insecure_channel(address, options=RECONNECT_QUICKLY) as channel:
            stub = IngestServiceStub(channel)
            while not stop.is_set():
                number = len(self.sizes) + 1
                self.sizes[number] = self.chance.randint(1, 10)
                request = self._request(number)
                while not await self._call(stub, number, request):
                    if not self.named:
                        break

    def _request(self, number: int) -> IngestTelemetryRequest:
        records = mixed_records(self.at, self.name, number, self.sizes[number])
        request_id = str(UUID(int=self.chance.getrandbits(128), version=4)) if self.named else ""
        return IngestTelemetryRequest(request_id=request_id, records=records)

    async def _call(self, stub: Any, number: int, request: IngestTelemetryRequest) -> bool:
        try:
            answer = await stub.IngestTelemetry(request, timeout=TIMEOUT_SECONDS)
        except aio.AioRpcError:
            self.failures += 1
            # A server that is down refuses at once. Not a wait for a state.
            await asyncio.sleep(0.02)
            return False
        assert answer.result.accepted_count == self.sizes[number], (self.name, number, answer)
        self.duplicates += answer.duplicate
        self.acknowledged.add(number)
        return True

    async def assert_stored(self, connection: Any) -> int:
        """What was acknowledged is stored once and whole, all else once at most; gives the rows."""
        stored = await stored_batches(connection, MIXED_ROWS.format(condition=f"= '{self.name}'"))
        for (_, number), row in stored.items():
            assert row["rows"] == row["records"] == self.sizes[number], (self.name, number, row)
            assert row["flushes"] == 1, (self.name, number, row)
        missing = [number for number in self.acknowledged if (self.name, number) not in stored]
        assert not missing, f"{self.name}: acknowledged and not stored: {missing[:10]}"
        if self.named:
            assert self.acknowledged == set(self.sizes)
        return sum(row["rows"] for row in stored.values())
