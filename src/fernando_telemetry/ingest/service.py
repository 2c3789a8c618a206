"""The door to the write path: streams, unary calls, and the drain."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from google.protobuf.message import DecodeError

from fernando.telemetry.v1 import RecordDefaults as DefaultsMessage
from fernando_telemetry.domain import limits
from fernando_telemetry.domain.errors import (
    BatchRefused,
    Draining,
    InvalidField,
    Overloaded,
    Undecodable,
)
from fernando_telemetry.domain.identifiers import SHARDS, shard_of
from fernando_telemetry.ingest import wire
from fernando_telemetry.ingest.admission import ByteBudget, Grants
from fernando_telemetry.ingest.checks.context import RecordDefaults
from fernando_telemetry.ingest.counters import IngestCounters
from fernando_telemetry.ingest.defaults import checked_defaults
from fernando_telemetry.ingest.group_commit import GroupCommit
from fernando_telemetry.ingest.pending import Outcome, PendingBatch
from fernando_telemetry.ingest.stream import IngestStream, Message
from fernando_telemetry.storage.marks import RequestKey
from fernando_telemetry.storage.producers import Producers


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """Settings of the door; times in seconds."""

    unary_wait_seconds: float
    stream_age_seconds: float
    reconnect_after_seconds: float = 1.0


class IngestService:
    """Takes batches from streams and unary calls; `on_streams` is told how many are open."""

    def __init__(
        self,
        group_commit: GroupCommit,
        producers: Producers,
        budget: ByteBudget,
        grants: Grants,
        counters: IngestCounters,
        options: IngestOptions,
        on_streams: Callable[[int], None] = lambda _: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._on_streams = on_streams
        self._group_commit = group_commit
        self._producers = producers
        self._budget = budget
        self._grants = grants
        self._options = options
        self._now = now
        self._streams: set[IngestStream] = set()
        self._draining = False
        self._no_streams = asyncio.Event()
        self._no_streams.set()
        self.counters = counters

    @property
    def queued_bytes(self) -> int:
        """Bytes of admitted batches that are not final yet."""
        return self._group_commit.queued_bytes

    async def stream(self, messages: AsyncIterator[bytes]) -> AsyncIterator[Message]:
        """Run one stream; see IngestStream.run.

        Raises:
            Draining: The server is shutting down.
            DiskBudgetReached: There is no room on the disk.
        """
        self.refuse_when_draining()
        self._group_commit.require_open()
        stream = IngestStream(
            self._group_commit,
            self._producers,
            self._grants,
            self._now,
            self._options.stream_age_seconds,
        )
        self._streams.add(stream)
        self._no_streams.clear()
        self.counters.open_streams += 1
        self._on_streams(self.counters.open_streams)
        try:
            async for message in stream.run(messages):
                yield message
        finally:
            self.counters.open_streams -= 1
            self._on_streams(self.counters.open_streams)
            self._streams.discard(stream)
            if not self._streams:
                self._no_streams.set()

    async def ingest(self, request: bytes) -> Outcome:
        """Take the bytes of an IngestTelemetryRequest; returns after commit.

        Raises:
            Undecodable: The bytes are not that message.
            InvalidField: request_id is no UUID, or a default is not allowed.
            BatchRefused: The records are refused as a whole.
            Overloaded: No room within the wait, or none on the disk (DiskBudgetReached).
            DatabaseUnavailable: Nothing could be committed within the wait.
            Draining: The server is shutting down.
        """
        self.refuse_when_draining()
        try:
            raw = wire.RawUnaryRequest.FromString(request)
            defaults = checked_defaults(DefaultsMessage.FromString(wire.joined(raw.defaults)))
        except DecodeError:
            raise Undecodable("the request does not parse as IngestTelemetryRequest") from None
        key = _request_key(raw.request_id, defaults)
        shard = key.shard if key else secrets.randbelow(SHARDS)
        return await self.submit(wire.joined(raw.records), defaults, key, shard)

    async def submit(
        self, records: bytes, defaults: RecordDefaults, key: RequestKey | None, shard: int
    ) -> Outcome:
        """Commit the bytes of one TelemetryRecords message; raises as `ingest` does."""
        self._group_commit.require_open()
        if len(records) > limits.BATCH_BYTES:
            detail = f"{len(records)} bytes, at most {limits.BATCH_BYTES}"
            raise BatchRefused("too_many_bytes", detail)
        arrived = time.monotonic()
        try:
            async with asyncio.timeout(self._options.unary_wait_seconds):
                admitted = await self._budget.acquire(len(records))
        except TimeoutError:
            raise Overloaded("The server's buffers are full.", 1.0) from None
        batch = PendingBatch(
            key,
            shard,
            defaults,
            records,
            None,
            admitted,
            self._options.unary_wait_seconds,
            arrived,
        )
        self._group_commit.submit(batch)
        outcome = await batch.answer
        if outcome.status == "refused":
            raise BatchRefused(outcome.refusal, outcome.detail)
        return outcome

    async def drain(self, seconds: float) -> None:
        """Send streams away, refuse new work, and wait until all that was accepted is answered.

        Args:
            seconds: Longest wait.
        """
        self._draining = True
        for stream in list(self._streams):
            stream.leave(self._options.reconnect_after_seconds)
        try:
            async with asyncio.timeout(seconds):
                await self._group_commit.drained()
                await self._no_streams.wait()
        except TimeoutError:
            return

    def refuse_when_draining(self) -> None:
        """Take no new work when the server is shutting down.

        Raises:
            Draining: It is.
        """
        if self._draining:
            raise Draining("The server is shutting down.", self._options.reconnect_after_seconds)


def _request_key(request_id: bytes, defaults: RecordDefaults) -> RequestKey | None:
    if not request_id:
        return None
    try:
        parsed = UUID(request_id.decode("ascii"))
    except ValueError:
        raise InvalidField("request_id", "must be a UUID") from None
    license_id = defaults.license_id
    return RequestKey(shard_of(license_id, str(parsed)), license_id, parsed)
