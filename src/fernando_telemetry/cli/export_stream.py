"""Takes an export from a server: batches of records, whatever cuts the stream meanwhile."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import pyarrow as pa
from grpc import StatusCode, aio

from fernando.telemetry import v1
from fernando.telemetry.client import Backoff, decode_error
from fernando_telemetry.domain.errors import TelemetryError

# Without a chunk in between.
TRIES: Final = 6
_CUT: Final = frozenset({StatusCode.UNAVAILABLE, StatusCode.CANCELLED})


class ExportDamaged(TelemetryError):
    """What arrived is not what the manifest says was sent."""


class ExportStream:
    """One export. A stream that is cut goes on from its last chunk.

    Args:
        channel: To the server.
        request: What is asked for; it is moved along.

    Attributes:
        row_count: Records so far.
        cuts: How often the stream was cut.
        manifest: Of the last call, when all is taken.
    """

    def __init__(self, channel: aio.Channel, request: v1.ExportRecordsRequest) -> None:
        self._stub: Any = v1.ExportServiceStub(channel)
        self._request = request
        self.schema: pa.Schema | None = None
        self.row_count = 0
        self.cuts = 0
        self.manifest = v1.ExportManifest()

    async def batches(self) -> AsyncIterator[pa.RecordBatch]:
        """Give the records.

        Raises:
            aio.AioRpcError: The server refused, or could not be reached again.
            ExportDamaged: Something was lost on the way.
        """
        failures, jitter = 0, random.Random()  # noqa: S311 - no secret
        while True:
            try:
                async for batch in self._call():
                    failures = 0
                    yield batch
            except aio.AioRpcError as error:
                failed = decode_error(error)
                # One that never began is told at once: nothing may run there.
                begun = self.row_count > 0 and failed.code in _CUT
                passes = begun or failed.retry_after_seconds is not None
                failures += 1
                if failures == TRIES or not passes:
                    raise
                self.cuts += 1
                pause = Backoff().pause_seconds(failures, failed.retry_after_seconds, jitter)
                await asyncio.sleep(pause)
            else:
                return

    async def _call(self) -> AsyncIterator[pa.RecordBatch]:
        digest, rows = hashlib.sha256(), 0
        async for answer in self._stub.ExportRecords(self._request):
            if answer.HasField("manifest"):
                manifest = answer.manifest
                if (manifest.row_count, manifest.sha256) != (rows, digest.hexdigest()):
                    raise ExportDamaged("What arrived is not what the server says it sent.")
                self.manifest = manifest
                return
            chunk = answer.chunk
            digest.update(chunk.data)
            for batch in self._read(chunk.data):
                rows += len(batch)
                self.row_count += len(batch)
                yield batch
            self._request.after_token = chunk.next_token
        raise ExportDamaged("The server ended the export without a manifest.")

    def _read(self, data: bytes) -> Iterator[pa.RecordBatch]:
        """Read whole messages of an Arrow stream; those of a call begin with its schema."""
        for message in pa.ipc.MessageReader.open_stream(pa.py_buffer(data)):
            if message.type == "schema":
                schema = pa.ipc.read_schema(message)
                if self.schema is not None and self.schema != schema:
                    raise ExportDamaged("The server's columns have changed: export anew.")
                self.schema = schema
            else:
                yield pa.ipc.read_record_batch(message, self.schema)
