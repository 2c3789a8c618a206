"""The producer: sends batches over StreamTelemetry and keeps each until it is acknowledged.

    admit (waits for room) -> PendingBatches -> TelemetryStream -> acks -> Receipt

A `TelemetryProducer` opens one stream after another, each for as long as the server lets it,
and sends every unacknowledged batch again under its number, so that each is stored once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Self

import grpc

from fernando.telemetry.client.backoff import Backoff
from fernando.telemetry.client.errors import (
    ProducerClosed,
    RpcFailed,
    StreamCut,
    TelemetryError,
    decode_error,
)
from fernando.telemetry.client.pending import PendingBatches
from fernando.telemetry.client.receipts import Acknowledgement, Receipt
from fernando.telemetry.client.stream import METHOD, ContinuityLost, TelemetryCall, TelemetryStream
from fernando.telemetry.v1 import (
    RecordDefaults,
    StreamHello,
    StreamTelemetryResponse,
    StreamWelcome,
    TelemetryRecords,
)

_log = logging.getLogger(__name__)

_MIB: Final = 1024 * 1024

# gRPC's own reconnect back-off grows to two minutes, far beyond ours, and would hide that the
# server is back. A ping a minute finds a peer that vanished without a word.
CHANNEL_OPTIONS: Final = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
)


class TelemetryProducer:
    """A named source of telemetry whose every batch is stored exactly once.

    Use it as an async context manager. Leaving the block normally flushes (for at most
    `close_timeout_seconds`); leaving it by an exception does not.

    Nothing is ever dropped: `send` waits while `max_pending_batches` or `max_pending_bytes` are
    taken by batches the server has not acknowledged. With the server away it reconnects for
    ever, with growing pauses; bound your own waiting with `asyncio.timeout`. What ends a
    producer is an answer that a retry cannot change, such as `ProducerFenced`.

    Args:
        target: `host:port` (a plain-text channel is opened and closed here), or a channel of
            yours, which stays open.
        producer_id: 1 to 128 of `A-Z a-z 0-9 . _ : / -`. One live producer per id: a second one
            fences the first. Parallel streams need several ids.
        defaults: Values the server fills into records that leave them empty.
        fresh: Say in the first hello that no unacknowledged batch of an earlier run was kept.
            False only for a program that stored its batches and sends the same ones again, in
            the same order.
        max_pending_batches: Most batches held.
        max_pending_bytes: Most bytes of batches held; a larger single one waits to be alone.
        max_batch_bytes: What is larger is split, as it is above the limits of the welcome.
        backoff: Pauses between connections.
        metadata: Sent with each stream, such as an API key.
        welcome_timeout_seconds: How long a server may take to answer the hello.
        leave_timeout_seconds: How long a server that said GoAway may take for the last acks.
        close_timeout_seconds: How long leaving the block waits for acks.
        clock: Monotonic seconds.
        rng: Source of the jitter.
    """

    def __init__(
        self,
        target: str | grpc.aio.Channel,
        producer_id: str,
        *,
        defaults: RecordDefaults | None = None,
        fresh: bool = True,
        max_pending_batches: int = 256,
        max_pending_bytes: int = 32 * _MIB,
        max_batch_bytes: int = _MIB,
        backoff: Backoff | None = None,
        metadata: Sequence[tuple[str, str]] = (),
        welcome_timeout_seconds: float = 15.0,
        leave_timeout_seconds: float = 60.0,
        close_timeout_seconds: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self.producer_id = producer_id
        self._target = target
        self._defaults = defaults
        self._fresh = fresh
        self._max_batch_bytes = max_batch_bytes
        self._backoff = backoff or Backoff()
        self._metadata = tuple(metadata)
        self._welcome_timeout = welcome_timeout_seconds
        self._leave_timeout = leave_timeout_seconds
        self._close_timeout = close_timeout_seconds
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 - jitter is no secret
        self._pending = PendingBatches(max_pending_batches, max_pending_bytes)
        self._stream: TelemetryStream | None = None
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self._failures = 0
        self.last_error: TelemetryError | None = None

    async def __aenter__(self) -> Self:
        if self._task is not None:
            raise ProducerClosed("a producer is entered once")
        self._task = asyncio.create_task(self._run(), name=f"producer {self.producer_id}")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            await self.close()
        else:
            await self._stop()

    @property
    def welcome(self) -> StreamWelcome | None:
        """The welcome of the stream that is open now; None while there is none."""
        return self._stream.welcome if self._stream is not None else None

    @property
    def pending_count(self) -> int:
        """Batches that are not acknowledged."""
        return len(self._pending)

    @property
    def pending_bytes(self) -> int:
        """Bytes of the batches that are not acknowledged."""
        return self._pending.size_bytes

    async def send(self, records: TelemetryRecords) -> Receipt:
        """Wait for room and queue these records; they are numbered and sent in this order.

        The records are serialised at once and may be reused; `record_count` is set on them.

        Returns:
            A receipt to await for the acknowledgement, or to leave alone.

        Raises:
            ProducerFenced: Another producer has this id; this one has ended.
            RpcFailed: The server will not have this producer (no rights, bad id).
            ProducerClosed: It was closed.
        """
        if self._task is None:
            raise ProducerClosed("enter the producer first: async with TelemetryProducer(…)")
        return await self._pending.admit(records)

    async def submit(self, records: TelemetryRecords) -> Acknowledgement:
        """Send and wait for the acknowledgement; raises as `send` does."""
        return await (await self.send(records))

    async def flush(self) -> None:
        """Wait until all that was sent before this call is acknowledged.

        Raises:
            TelemetryError: The producer ended before.
        """
        for receipt in self._pending.receipts():
            await receipt
        if self._pending.failure is not None:
            # It has ended, and so have the receipts it had: say so though none is left.
            raise self._pending.failure

    async def close(self) -> None:
        """Flush, half-close the stream and stop. More calls do nothing.

        Raises:
            ProducerClosed: Acks were still missing after `close_timeout_seconds`; those batches
                may be stored or not. Receipts tell which.
            TelemetryError: The producer ended by itself before; this is why.
        """
        task = self._task
        if task is None or self._closed:
            return
        self._closed = True
        unacknowledged = self._pending.receipts()
        self._pending.finish()
        if unacknowledged or self.welcome is not None:
            await asyncio.wait((task,), timeout=self._close_timeout)
        failure = self._pending.failure
        missing = sum(not receipt.done() for receipt in unacknowledged)
        await self._stop()
        if failure is not None:
            raise failure
        if missing:
            raise ProducerClosed(f"closed with {missing} sends not acknowledged: {self.last_error}")

    async def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._pending.fail(ProducerClosed("the producer was closed before the ack came"))

    async def _run(self) -> None:
        channel = self._target
        owned = isinstance(channel, str)
        if isinstance(channel, str):
            channel = grpc.aio.insecure_channel(channel, options=CHANNEL_OPTIONS)
        try:
            while not (self._pending.finishing and not len(self._pending)):
                pause = await self._stream_once(channel)
                if self._pending.finishing and not len(self._pending):
                    return
                await asyncio.sleep(pause)
        except Exception as error:
            # Also a defect of ours: senders must not wait for a task that is gone.
            self._pending.fail(error)
            raise
        finally:
            self._stream = None
            if owned:
                # Shielded: a cancelled producer must not leave its channel open.
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.shield(channel.close())

    async def _stream_once(self, channel: grpc.aio.Channel) -> float:
        """Run one stream to its end.

        Returns:
            Seconds to wait before the next.

        Raises:
            RpcFailed: The server said what a retry cannot change.
        """
        hello = StreamHello(
            producer_id=self.producer_id,
            defaults=self._defaults,
            fresh=self._fresh and not self._pending.unacknowledged(),
        )
        call: TelemetryCall = channel.stream_stream(
            METHOD, response_deserializer=StreamTelemetryResponse.FromString
        )(metadata=self._metadata)
        stream = TelemetryStream(
            call,
            self._pending,
            max_batch_bytes=self._max_batch_bytes,
            welcome_timeout_seconds=self._welcome_timeout,
            leave_timeout_seconds=self._leave_timeout,
        )
        self._stream = stream
        started = self._clock()
        error: TelemetryError | None = None
        try:
            await stream.run(hello)
        except grpc.aio.AioRpcError as failed:
            error = decode_error(failed)
        except ContinuityLost as lost:
            # Behind the server's highest number nothing of ours can meet an old number.
            self._pending.forget_numbers()
            self._fresh = True
            error = lost
        except StreamCut as cut:
            error = cut
        finally:
            self._stream = None
        if stream.welcome is not None and not isinstance(error, ContinuityLost):
            self._fresh = False
        return self._pause_after(stream, error, self._clock() - started)

    def _pause_after(
        self, stream: TelemetryStream, error: TelemetryError | None, age_seconds: float
    ) -> float:
        if stream.acknowledged_count or age_seconds > self._backoff.maximum_seconds:
            self._failures = 0
        if error is None and stream.reconnect_after_seconds is not None:
            self._failures = 0
            return stream.reconnect_after_seconds * self._rng.uniform(1.0, 1.2)
        self.last_error = error
        self._failures += 1
        retry_after = stream.reconnect_after_seconds
        if isinstance(error, RpcFailed):
            if not error.retryable:
                _log.error("producer %s ends: %s", self.producer_id, error)
                raise error
            retry_after = error.retry_after_seconds
        if error is not None and self._failures == 1:
            # Once per outage: the rest of it is the same news.
            _log.warning("producer %s reconnects: %s", self.producer_id, error)
        return self._backoff.pause_seconds(self._failures, retry_after, self._rng)
