"""Prints pages of records: a table on a terminal, aligned text elsewhere, or JSON."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any, Final

from google.protobuf.message import Message

from fernando_telemetry.cli.kinds import ListKind
from fernando_telemetry.cli.tables import Cells, Style, fit, on_the_point, plain_lines

# Words that a reader looks for.
_ALARMING: Final = frozenset({"error", "error_event"})


def shown_zone(*, local: bool) -> tzinfo:
    """Give the zone that times are shown in."""
    return (datetime.now().astimezone().tzinfo or UTC) if local else UTC


class Printer:
    """Prints pages of one kind of record, and counts rows.

    Args:
        kind: The kind.
        as_json: One JSON object a record, else a table or aligned text.
        local: Times of this machine's zone, else of UTC.
    """

    def __init__(self, kind: ListKind, *, as_json: bool, local: bool) -> None:
        self._kind = kind
        self._json = as_json
        self._count = 0
        self._ended = True
        self._hidden: dict[str, None] = {}
        self._header: list[str] | None = None
        self._terminal = sys.stdout.isatty()
        self.zone = shown_zone(local=local)

    @property
    def count(self) -> int:
        """How many rows were printed."""
        return self._count

    def print_page(self, records: Sequence[Message], *, is_last: bool) -> None:
        """Print the next rows.

        Args:
            records: They may be none.
            is_last: There are no more in the server.
        """
        self._count += len(records)
        self._ended = is_last
        if self._json:
            for record in records:
                print(self._kind.line(record))
        elif records and self._terminal:
            self._print_table(records)
        elif records:
            self._print_plain(records)

    def print_end(self, about: str, *, of_count: int | None = None) -> None:
        """Say on standard error how many rows there were and whether there are more.

        Args:
            about: What the sentence goes on with.
            of_count: How many there are in all, where that is known.
        """
        sys.stdout.flush()
        more = "" if self._ended else "; there are more: raise --limit or give --all"
        noun = self._kind.noun
        if (self._count if of_count is None else of_count) != 1:
            noun = self._kind.plural or f"{noun}s"
        count = f"{self._count}" if of_count is None else f"{self._count} of {of_count}"
        lines = [f"{count} {noun}{about}{more}."]
        if self._hidden:
            lines.append(f"No room for {', '.join(self._hidden)}; --json has everything.")
        print("\n".join(lines), file=sys.stderr)

    def _print_plain(self, records: Sequence[Message]) -> None:
        columns = self._kind.cells(records, self._kind.columns, Style(self.zone))
        names = [column.spec.name for column in columns]
        for line in plain_lines(columns, header=names != self._header):
            print(line)
        self._header = names

    def _print_table(self, records: Sequence[Message]) -> None:
        from rich.console import Console

        console = Console(highlight=False, emoji=False, markup=False)
        style = Style(self.zone, today=datetime.now(UTC))
        columns = self._kind.cells(records, self._kind.columns, style)
        fitted = fit([on_the_point(column) for column in columns], console.width)
        shown = {column.spec.name for column, _ in fitted}
        self._hidden.update(
            dict.fromkeys(one.spec.name for one in columns if one.spec.name not in shown)
        )
        console.print(table_of(fitted))


def table_of(fitted: Sequence[tuple[Cells, int]]) -> Any:
    """Give a table for a terminal, of columns with their widths."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for column, width in fitted:
        table.add_column(
            Text(column.spec.name),
            width=width,
            no_wrap=True,
            overflow="ellipsis",
            justify="right" if column.to_the_right else "left",
        )
    for row in zip(*(_placed(column, width) for column, width in fitted), strict=True):
        table.add_row(
            *(Text(text, style="red" if text in _ALARMING else "", justify="left") for text in row)
        )
    return table


def _placed(column: Cells, width: int) -> Sequence[str]:
    """Give the texts with the blanks before them; rich would drop those behind a number."""
    return [text.rjust(width) for text in column.texts] if column.to_the_right else column.texts
