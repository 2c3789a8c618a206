"""Single records in, batches out.

add -> open batch -> (full, or old enough) -> sealed -> producer.send
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self, TypeAlias

from fernando.telemetry.client.errors import ProducerClosed, TelemetryError
from fernando.telemetry.client.producer import TelemetryProducer
from fernando.telemetry.client.receipts import Acknowledgement, Receipt
from fernando.telemetry.v1 import BusinessMetric, Event, Span, SystemMetric, TelemetryRecords

TelemetryRecord: TypeAlias = Event | SystemMetric | BusinessMetric | Span

# A record in a list costs its tag and its length besides its own bytes.
_LIST_BYTES: Final = 6


class TelemetryBuffer:
    """Groups records into batches and hands them to a producer, in the order they were added.

    Use it as an async context manager inside the producer's; leaving it hands over what is left.
    `add` waits while the producer has no room. Nothing is dropped.

    Args:
        producer: Where the batches go; entered and closed by the caller.
        max_bytes: A batch is handed over before it grows past this. More than 1 MB gains
            nothing: the server decodes a batch in one go.
        max_records: Likewise, in records.
        max_age_seconds: A record waits here for this long at most (while there is room).
        on_acknowledgement: Called with the final word on each batch, for instance to look at
            its verdicts. It must not block; what it raises goes to the event loop's handler.
    """

    def __init__(
        self,
        producer: TelemetryProducer,
        *,
        max_bytes: int = 1_000_000,
        max_records: int = 10_000,
        max_age_seconds: float = 1.0,
        on_acknowledgement: Callable[[Acknowledgement], None] | None = None,
    ) -> None:
        self._producer = producer
        self._max_bytes = max_bytes
        self._max_records = max_records
        self._max_age = max_age_seconds
        self._on_acknowledgement = on_acknowledgement
        self._open = TelemetryRecords()
        self._open_bytes = 0
        self._open_count = 0
        self._opened_at = 0.0
        self._sealed: deque[TelemetryRecords] = deque()
        self._turn = asyncio.Lock()
        self._filled = asyncio.Event()
        self._ager: asyncio.Task[None] | None = None
        self._watchers: set[asyncio.Task[None]] = set()
        self._closed = False

    async def __aenter__(self) -> Self:
        self._ager = asyncio.create_task(self._hand_over_when_old())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closed = True
        if self._ager is not None:
            self._ager.cancel()
            await asyncio.gather(self._ager, return_exceptions=True)
        if error is None:
            await self.flush()

    async def add(self, record: TelemetryRecord) -> None:
        """Add a copy of one record.

        Raises:
            TelemetryError: The producer has ended, or this buffer was left.
        """
        if self._closed:
            raise ProducerClosed("the buffer was closed")
        while self._sealed:
            # The producer has no room. Waiting before adding keeps what is held here to the
            # open batch and one that waits, however many callers there are.
            await self._hand_over()
        size = record.ByteSize() + _LIST_BYTES
        if self._open_count and self._open_bytes + size > self._max_bytes:
            self._seal()
        self._append(record)
        self._open_bytes += size
        self._open_count += 1
        if self._open_bytes >= self._max_bytes or self._open_count >= self._max_records:
            self._seal()
        if self._sealed:
            await self._hand_over()

    async def hand_over(self) -> None:
        """Give the producer what is here, however little."""
        self._seal()
        await self._hand_over()

    async def flush(self) -> None:
        """Hand over and wait until all of it is acknowledged.

        Raises:
            TelemetryError: The producer ended before.
        """
        await self.hand_over()
        await self._producer.flush()
        if self._watchers:
            await asyncio.wait(tuple(self._watchers))

    def _append(self, record: TelemetryRecord) -> None:
        if not self._open_count:
            self._opened_at = asyncio.get_running_loop().time()
            self._filled.set()
        match record:
            case Event():
                self._open.events.append(record)
            case SystemMetric():
                self._open.system_metrics.append(record)
            case BusinessMetric():
                self._open.business_metrics.append(record)
            case Span():
                self._open.spans.append(record)

    def _seal(self) -> None:
        if self._open_count:
            self._sealed.append(self._open)
            self._open = TelemetryRecords()
            self._open_bytes = self._open_count = 0

    async def _hand_over(self) -> None:
        async with self._turn:
            while self._sealed:
                # Taken out only when the producer has it: a cancelled `add` loses nothing.
                receipt = await self._producer.send(self._sealed[0])
                self._sealed.popleft()
                if self._on_acknowledgement is not None:
                    watcher = asyncio.create_task(self._watch(receipt, self._on_acknowledgement))
                    self._watchers.add(watcher)
                    watcher.add_done_callback(self._watchers.discard)

    async def _watch(self, receipt: Receipt, tell: Callable[[Acknowledgement], None]) -> None:
        try:
            acknowledgement = await receipt
        except TelemetryError:
            return  # told to whoever adds, flushes or closes the producer
        tell(acknowledgement)

    async def _hand_over_when_old(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if not self._open_count:
                self._filled.clear()
                await self._filled.wait()
                continue
            left = self._opened_at + self._max_age - loop.time()
            if left > 0:
                await asyncio.sleep(left)
                continue
            try:
                await self.hand_over()
            except TelemetryError:
                return  # told to whoever adds, flushes or closes the producer
