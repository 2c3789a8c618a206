"""Exports: records in bulk, in chunks that can be gone on from, and what was given in the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from fernando_telemetry.domain.errors import Draining, Overloaded
from fernando_telemetry.domain.filters import parse
from fernando_telemetry.domain.flush_ids import parse_commit_token
from fernando_telemetry.queries.export_chunks import Chunk
from fernando_telemetry.queries.export_reading import RETRY_SECONDS
from fernando_telemetry.queries.export_request import ExportOptions, ExportRequest, Manifest
from fernando_telemetry.queries.export_run import ExportRun
from fernando_telemetry.storage.export_kinds import EXPORTED
from fernando_telemetry.storage.snapshots import Snapshots

__all__ = ["Chunk", "ExportOptions", "ExportQueries", "ExportRequest", "Manifest"]


class ExportQueries:
    """Gives records away in bulk.

    Args:
        snapshots: Of the read database.
        options: Bounds.
    """

    def __init__(self, snapshots: Snapshots, options: ExportOptions) -> None:
        self._snapshots = snapshots
        self._options = options
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False

    @property
    def stall_seconds(self) -> float:
        """How long a caller may take nothing."""
        return self._options.stall_seconds

    async def drain(self, seconds: float) -> None:
        """End all exports at their next chunk, and wait; callers go on from its token elsewhere.

        Args:
            seconds: Longest wait: for one whose caller takes nothing, no next chunk comes.
        """
        self._draining = True
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._idle.wait()

    async def export(self, request: ExportRequest) -> AsyncGenerator[Chunk | Manifest]:
        """Give chunks, then one manifest.

        Raises:
            InvalidInput: An argument is not allowed; nothing was read.
            CursorTooOld: What follows the token is no longer kept.
            Overloaded: As many exports run as may.
            Draining: The server stops; the export goes on from the last token.
            QueryTooExpensive: The database gave no row for as long as a query may take.
            DatabaseUnavailable: The database does not answer.
            CommitTokenNotReached: A commit does not show in time.
        """
        exported = EXPORTED[request.kind]
        conditions = parse(request.filter, exported.filter_columns)
        min_flush_id = parse_commit_token(request.min_commit_token, "min_commit_token")
        if self._running >= self._options.at_once:
            raise Overloaded("As many exports run as may at once.", RETRY_SECONDS)
        self._running += 1
        self._idle.clear()
        try:
            run = ExportRun(self._snapshots, self._options, exported, conditions, request)
            async with aclosing(run.answer(min_flush_id)) as answer:
                async for one in answer:
                    if self._draining:
                        raise Draining("The server stops: go on from the last token.", 1.0)
                    yield one
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()
