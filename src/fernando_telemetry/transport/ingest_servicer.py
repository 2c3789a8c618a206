"""IngestService. Its requests stay bytes: the write path decides when they are decoded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc import aio

from fernando.telemetry.v1 import IngestTelemetryResponse, StreamTelemetryResponse
from fernando.telemetry.v1.ingest_service_pb2 import DESCRIPTOR
from fernando_telemetry.ingest.service import IngestService
from fernando_telemetry.transport.converters.ingest_service import stream_response, unary_response


async def _messages(context: Any) -> AsyncIterator[bytes]:
    """Read a stream's messages and keep none: gRPC's own iterator would hold the latest one."""
    while True:
        received = [await context.read()]
        if received[0] is aio.EOF:
            return
        yield received.pop()


class IngestServicer:
    """Streams and unary ingest calls."""

    def __init__(self, ingest: IngestService) -> None:
        self._ingest = ingest

    async def stream_telemetry(
        self,
        requests: AsyncIterator[bytes],
        context: Any,
    ) -> AsyncIterator[StreamTelemetryResponse]:
        """Answer the raw messages of one stream."""
        messages = self._ingest.stream(_messages(context))
        try:
            async for message in messages:
                yield stream_response(message)
        finally:
            await messages.aclose()  # type: ignore[attr-defined]

    async def ingest_telemetry(
        self,
        request: bytes,
        context: Any,
    ) -> IngestTelemetryResponse:
        """Commit one request's records."""
        return unary_response(await self._ingest.ingest(request))

    def handler(self) -> grpc.GenericRpcHandler:
        """Give the handler to register: like the generated one, but without a decoder."""
        methods: dict[str, Any] = {
            "StreamTelemetry": grpc.stream_stream_rpc_method_handler(
                self.stream_telemetry, None, StreamTelemetryResponse.SerializeToString
            ),
            "IngestTelemetry": grpc.unary_unary_rpc_method_handler(
                self.ingest_telemetry, None, IngestTelemetryResponse.SerializeToString
            ),
        }
        service = DESCRIPTOR.services_by_name["IngestService"].full_name
        return grpc.method_handlers_generic_handler(service, methods)
