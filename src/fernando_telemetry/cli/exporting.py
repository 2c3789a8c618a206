"""What `export` does: take records from a server and write Parquet files with a manifest."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import typer
from grpc import aio

from fernando.telemetry import v1
from fernando_telemetry.cli.connection import call, complain, find_address
from fernando_telemetry.cli.export_folder import MANIFEST_FORMAT, ExportFolder, FolderUnusable
from fernando_telemetry.cli.export_progress import ExportProgress
from fernando_telemetry.cli.export_stream import ExportDamaged, ExportStream
from fernando_telemetry.cli.listing import time_range, words_of_range
from fernando_telemetry.cli.parquet_files import ParquetFiles
from fernando_telemetry.heap import Heap

# Batches that have arrived and are not yet encoded, of at most 1 MiB each.
WAITING_BATCHES: Final = 32
_INTERRUPTED: Final = 130


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of record that can be exported.

    Args:
        kind: In the contract.
        noun: For sentences, plural.
        time_column: Its day decides about a record's file.
    """

    kind: Any
    noun: str
    time_column: str


KINDS: Final = {
    "events": Kind(v1.RecordKind.RECORD_KIND_EVENT, "events", "event_timestamp"),
    "metrics": Kind(v1.RecordKind.RECORD_KIND_SYSTEM_METRIC, "samples", "metric_timestamp"),
    "business": Kind(v1.RecordKind.RECORD_KIND_BUSINESS_METRIC, "KPIs", "period_start"),
    "spans": Kind(v1.RecordKind.RECORD_KIND_SPAN, "spans", "start_time"),
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for on the command line: the flags, as typed."""

    out: Path
    last: str | None
    start: str | None
    end: str | None
    incremental: bool
    filter: str
    min_commit_token: str
    as_json: bool
    target: str | None
    data_dir: Path | None

    @property
    def has_range(self) -> bool:
        """Whether a time range was asked for."""
        return any(text is not None for text in (self.last, self.start, self.end))


def export(name: str, wanted: Wanted) -> None:
    """Export records of a kind.

    Raises:
        typer.Exit: Code 1 after a sentence: nothing of the export is kept.
    """
    if wanted.incremental and wanted.has_range:
        raise typer.BadParameter("it excludes a time range", param_hint="--incremental")
    span = time_range(wanted, "1h", datetime.now(UTC)) if wanted.has_range else None
    address = find_address(wanted.target, wanted.data_dir)
    # Megabytes come and go; given back each time, they would be cleared anew each time.
    Heap().begin()
    folder = ExportFolder(wanted.out / name)
    try:
        with folder.held():
            run = _Run(folder, KINDS[name], wanted, span)
            try:
                manifest = call(address, run.work, wanted.filter)
            except typer.Exit as ended:
                if ended.exit_code == _INTERRUPTED and not run.is_kept:
                    complain("broken off; nothing of it was kept.")
                raise
    except (FolderUnusable, ExportDamaged) as error:
        complain(str(error))
        raise typer.Exit(1) from None
    except OSError as error:
        complain(
            f"The export into {folder.folder} failed: {error.strerror or error}. "
            "Nothing of it was kept."
        )
        raise typer.Exit(1) from None
    if wanted.as_json:
        print(json.dumps(manifest))
    print(_words(KINDS[name], manifest, span, folder.folder), file=sys.stderr)


class _Run:
    """One export into a held folder."""

    def __init__(
        self,
        folder: ExportFolder,
        kind: Kind,
        wanted: Wanted,
        span: tuple[datetime, datetime] | None,
    ) -> None:
        self._folder = folder
        self._kind = kind
        self._wanted = wanted
        self._span = span
        self._started_at = datetime.now(UTC)
        self._after = self._token_before()
        self.is_kept = False

    def _token_before(self) -> str:
        """Give the token to go on from; "": all that is stored.

        Raises:
            FolderUnusable: The folder has an export that this one does not go on from.
        """
        last = self._folder.last()
        if last is None:
            return ""
        if not self._wanted.incremental:
            raise FolderUnusable(
                f"{self._folder.folder} has an export: go on from it with --incremental, or "
                "choose another --out."
            )
        if last["filter"] != self._wanted.filter:
            raise FolderUnusable(
                f"{self._folder.folder} was exported with the filter {last['filter']!r}: "
                "go on with it, or choose another --out."
            )
        token: str = last["next_token"]
        return token

    async def work(self, channel: aio.Channel) -> dict[str, Any]:
        """Export; gives the manifest, which is written then."""
        wanted = self._wanted
        request = v1.ExportRecordsRequest(
            kind=self._kind.kind,
            filter=wanted.filter,
            format=v1.ExportFormat.EXPORT_FORMAT_ARROW_IPC,
            min_commit_token=wanted.min_commit_token,
        )
        if self._span is not None:
            request.time_range.start_time.FromDatetime(self._span[0])
            request.time_range.end_time.FromDatetime(self._span[1])
        else:
            request.after_token = self._after
        stream = ExportStream(channel, request)
        number = self._folder.next_number()
        with ExitStack() as undo:
            files: ParquetFiles | None = None
            writing: asyncio.Task[None] | None = None
            room = asyncio.Semaphore(WAITING_BATCHES)
            with ExportProgress(self._span) as progress:
                try:
                    async for batch in stream.batches():
                        if files is None:
                            files = self._files(number, batch.schema)
                            undo.callback(files.discard)
                        # Batches are encoded while others arrive.
                        await room.acquire()
                        if writing is not None and writing.done():
                            writing.result()
                        writing = asyncio.create_task(_written(files, batch, writing, room))
                        progress.show(stream.row_count, batch, self._kind.time_column)
                    if writing is not None:
                        await writing
                finally:
                    # What is being written is not taken away beneath its writer.
                    if writing is not None:
                        await asyncio.gather(writing, return_exceptions=True)
                written = await asyncio.to_thread(files.close) if files else []
            manifest = self._manifest(stream, number) | {"files": [asdict(one) for one in written]}
            if files is not None:
                files.publish()
            self._folder.write(number, manifest)
            undo.pop_all()
            self.is_kept = True
        return manifest

    def _files(self, number: int, schema: Any) -> ParquetFiles:
        return ParquetFiles(self._folder.folder, number, schema, self._kind.time_column)

    def _manifest(self, stream: ExportStream, number: int) -> dict[str, Any]:
        told = stream.manifest
        span = self._span
        return {
            "format": MANIFEST_FORMAT,
            "number": number,
            "kind": v1.RecordKind.Name(self._kind.kind).removeprefix("RECORD_KIND_").lower(),
            "schema_version": told.schema_version,
            "filter": self._wanted.filter,
            "start_time": _time(span[0]) if span else None,
            "end_time": _time(span[1]) if span else None,
            "after_token": self._after,
            "next_token": told.next_token,
            "started_at": _time(self._started_at),
            "completed_at": _time(datetime.now(UTC)),
            "row_count": stream.row_count,
            "expired_row_count": told.expired_row_count,
            "expired_before": _time(told.expired_before.ToDatetime(UTC))
            if told.HasField("expired_before")
            else None,
        }


async def _written(
    files: ParquetFiles, batch: Any, before: asyncio.Task[None] | None, room: asyncio.Semaphore
) -> None:
    """Write a batch behind the one before."""
    try:
        if before is not None:
            await before
        await asyncio.to_thread(files.write, batch)
    finally:
        room.release()


def _time(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _words(
    kind: Kind,
    manifest: dict[str, Any],
    span: tuple[datetime, datetime] | None,
    folder: Path,
) -> str:
    """Give what was exported as a sentence."""
    files = len(manifest["files"])
    about = words_of_range(*span, UTC) if span else ""
    sentence = (
        f"{manifest['row_count']:,} {kind.noun}{about} into {files} "
        f"file{'' if files == 1 else 's'} in {folder}."
    )
    if manifest["expired_row_count"]:
        sentence += (
            f" {manifest['expired_row_count']:,} more had been committed since the last export "
            "and are gone: retention took them."
        )
    return sentence
