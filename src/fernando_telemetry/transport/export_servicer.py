"""ExportService."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from fernando.telemetry.v1 import ExportRecordsRequest, ExportRecordsResponse
from fernando.telemetry.v1.export_service_pb2_grpc import ExportServiceServicer
from fernando_telemetry.queries.export import ExportQueries
from fernando_telemetry.transport.converters.export import export_request, export_response
from fernando_telemetry.transport.stalls import not_stalled


class ExportService(ExportServiceServicer):
    """Gives records away in bulk.

    Args:
        queries: The read path of exports.
    """

    def __init__(self, queries: ExportQueries) -> None:
        self._queries = queries

    async def ExportRecords(
        self, request: ExportRecordsRequest, context: Any
    ) -> AsyncIterator[ExportRecordsResponse]:
        """Stream chunks, then one manifest."""
        async with aclosing(self._queries.export(export_request(request))) as answers:
            async for answer in answers:
                with not_stalled(context, self._queries.stall_seconds):
                    yield export_response(answer)
