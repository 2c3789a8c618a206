"""A bar on a terminal: how far an export has come in its time range, or how much it has taken."""

from __future__ import annotations

import sys
from datetime import datetime
from types import TracebackType
from typing import Any, Self


class ExportProgress:
    """Shows progress on standard error where that is a terminal; use as a context.

    Args:
        span: The time range; None: how much there is to come is not known.
    """

    def __init__(self, span: tuple[datetime, datetime] | None) -> None:
        self._span = span
        self._bar: Any = None
        self._task: Any = None
        self._bytes = 0

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            self._bar = Progress(
                BarColumn(),
                TextColumn("{task.fields[rows]:,} rows, {task.fields[megabytes]:,.0f} MB"),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            total = (self._span[1] - self._span[0]).total_seconds() if self._span else None
            self._task = self._bar.add_task("", total=total, rows=0, megabytes=0.0)
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, rows: int, batch: Any, time_column: str) -> None:
        """Show what has come so far, the last batch of it given."""
        if self._bar is None:
            return
        self._bytes += batch.nbytes
        fields: dict[str, Any] = {"rows": rows, "megabytes": self._bytes / 1e6}
        if self._span is not None:
            # Records of a range come in the order of their time.
            at: datetime = batch.column(time_column)[len(batch) - 1].as_py()
            fields["completed"] = (at - self._span[0]).total_seconds()
        self._bar.update(self._task, **fields)
