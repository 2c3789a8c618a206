"""Exports over a real channel, taken apart and checked against their manifests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa
from grpc import aio

from fernando.telemetry import v1
from fernando_telemetry.domain.limits import EXPORT_CHUNK_BYTES
from tests.integration.queries.rows import range_of

ARROW, JSON = v1.ExportFormat.EXPORT_FORMAT_ARROW_IPC, v1.ExportFormat.EXPORT_FORMAT_JSON_LINES
EVENT = v1.RecordKind.RECORD_KIND_EVENT
SYSTEM_METRIC = v1.RecordKind.RECORD_KIND_SYSTEM_METRIC
BUSINESS_METRIC = v1.RecordKind.RECORD_KIND_BUSINESS_METRIC
SPAN = v1.RecordKind.RECORD_KIND_SPAN


@dataclass
class Taken:
    """What an export gave."""

    chunks: list[v1.ExportChunk] = field(default_factory=list)
    manifest: v1.ExportManifest | None = None

    @property
    def data(self) -> bytes:
        return b"".join(chunk.data for chunk in self.chunks)

    @property
    def token(self) -> str:
        assert self.manifest is not None
        return self.manifest.next_token

    def rows(self) -> list[dict[str, Any]]:
        """Give the records, whatever the format."""
        if self.data.startswith(b"\xff\xff\xff\xff"):
            return list(pa.ipc.open_stream(pa.py_buffer(self.data)).read_all().to_pylist())
        return [json.loads(line) for line in self.data.splitlines()]

    def check(self) -> None:
        """Hold the manifest against the chunks."""
        assert self.manifest is not None
        assert self.manifest.sha256 == hashlib.sha256(self.data).hexdigest()
        assert self.manifest.row_count == sum(chunk.row_count for chunk in self.chunks)
        assert self.manifest.row_count == len(self.rows())
        assert self.manifest.schema_version == 1
        for chunk in self.chunks:
            assert len(chunk.data) <= EXPORT_CHUNK_BYTES or chunk.row_count == 1
            assert chunk.next_token


def asked(kind: Any, *, form: Any = ARROW, **arguments: Any) -> v1.ExportRecordsRequest:
    """Give a request; `start` and `end` select by time, else by `after_token`."""
    start, end = arguments.pop("start", None), arguments.pop("end", None)
    request = v1.ExportRecordsRequest(kind=kind, format=form)
    if start is not None:
        request.time_range.CopyFrom(range_of(start, end))
    else:
        request.after_token = arguments.pop("after_token", "")
    for name, value in arguments.items():
        setattr(request, name, value)
    return request


async def answers(
    channel: aio.Channel, request: v1.ExportRecordsRequest
) -> AsyncIterator[v1.ExportRecordsResponse]:
    """Give the messages of one call."""
    stub: Any = v1.ExportServiceStub(channel)
    async for answer in stub.ExportRecords(request, timeout=60):
        yield answer


async def export(channel: aio.Channel, kind: Any, **arguments: Any) -> Taken:
    """Take a whole export and check it."""
    taken = Taken()
    async for answer in answers(channel, asked(kind, **arguments)):
        assert taken.manifest is None
        if answer.HasField("chunk"):
            taken.chunks.append(answer.chunk)
        else:
            taken.manifest = answer.manifest
    taken.check()
    return taken


async def ingest(channel: aio.Channel, **lists: Any) -> str:
    """Store records; gives the commit token."""
    stub: Any = v1.IngestServiceStub(channel)
    response = await stub.IngestTelemetry(
        v1.IngestTelemetryRequest(records=v1.TelemetryRecords(**lists)), timeout=60
    )
    assert not response.result.rejected_count, response.result
    token: str = response.result.commit_token
    return token


def stamped(message: Any, name: str, time: datetime) -> Any:
    """Set a record's time."""
    getattr(message, name).FromDatetime(time)
    return message
