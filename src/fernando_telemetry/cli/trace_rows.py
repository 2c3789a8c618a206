"""A trace for people: its tree, and when in its time each span ran.

TRACE       the kind of record that `query trace` lists
TraceRows   writes its cells; it has to know the trace's begin and length
branches    the lines of a tree, from its depths
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, cast

from google.protobuf.message import Message
from rich.cells import cell_len

from fernando.telemetry import v1
from fernando_telemetry.cli.kinds import SPANS, ListKind
from fernando_telemetry.cli.record_json import json_line, word_of
from fernando_telemetry.cli.tables import (
    Cells,
    ColumnSpec,
    Style,
    columns_of,
    printable,
    write_number,
)

CRITICAL_MARK: Final = "*"
# A chain of 1,000 spans would be a line of 3,000 characters; deeper ones have their depth written.
DEEPEST_BRANCH: Final = 16
TIMELINE_CELLS: Final = 32
# For people deeper trees than this are indented less.
_ROOMY_DEPTH: Final = 4
# So much of a span's name is shown before other columns are.
_NAME_CELLS: Final = 24

_COLUMNS: Final = (
    ColumnSpec("span", 1, 28),
    ColumnSpec("duration_ms", 2),
    ColumnSpec("self_time_ms", 8),
    ColumnSpec("start_ms", 3),
    ColumnSpec("timeline", 7),
    ColumnSpec("status", 4),
    ColumnSpec("flags", 5, 9),
    ColumnSpec("http_status_code", 10),
    ColumnSpec("kind", 9),
    ColumnSpec("start_time", 16),
    ColumnSpec("host_name", 14, 9),
    ColumnSpec("span_id", 11),
    ColumnSpec("parent_span_id", 12),
    ColumnSpec("user_id", 13, 8),
    ColumnSpec("error_message", 6, 16),
    ColumnSpec("tags", 15, 12),
)
_OF_TREE: Final = frozenset({"span", "start_ms", "timeline", "flags"})


def branches(depths: Sequence[int], *, narrow: bool = False) -> list[str]:
    """Draw the lines before each row of a tree.

    Args:
        depths: Of the rows, depth-first; a row behind the last one is not known of.
        narrow: Two cells a level instead of three.
    """
    blank, bar, fork, end = ("  ", "│ ", "├ ", "└ ") if narrow else ("   ", "│  ", "├─ ", "└─ ")
    drawn: list[str] = []
    # Depths at which a further row comes under the same parent.
    going_on: set[int] = set()
    for depth in reversed(depths):
        last = fork if depth in going_on else end
        going_on = {one for one in going_on if one < depth} | {depth}
        if depth > DEEPEST_BRANCH:
            drawn.append(f"{blank * (DEEPEST_BRANCH - 1)}… {depth} {last}")
        elif depth:
            bars = (bar if level in going_on else blank for level in range(1, depth))
            drawn.append("".join(bars) + last)
        else:
            drawn.append("")
    return drawn[::-1]


class TraceRows:
    """Writes the rows of one trace; `summary` is to be filled before the first one."""

    def __init__(self) -> None:
        self.summary = v1.TraceSummary()
        self.has_critical = False

    @property
    def kind(self) -> ListKind:
        """What is printed, and how."""
        return ListKind(
            SPANS.noun,
            SPANS.service,
            "GetTrace",
            SPANS.time_field,
            SPANS.records_field,
            "30d",
            _COLUMNS,
            self.cells,
            _line,
        )

    def cells(
        self, records: Sequence[Message], specs: Sequence[ColumnSpec], style: Style
    ) -> list[Cells]:
        """Write a page's cells: columns of the tree, of the placed spans and of the spans."""
        placed = [cast("v1.TraceSpan", record) for record in records]
        spans = [one.span for one in placed]
        of_placed = v1.TraceSpan.DESCRIPTOR.fields_by_name
        names, least = self._tree(placed, style)
        tree = {
            "span": names,
            "start_ms": [write_number(self._start(one), short=True) for one in spans],
            "timeline": [self._bar(one) for one in placed] if style.today else [],
            "flags": [_flags(one) for one in placed],
        }
        cells = [
            Cells(spec, tuple(tree[spec.name]), spec.name == "start_ms")
            for spec in specs
            if any(tree.get(spec.name, ()))
        ]
        others = [spec for spec in specs if spec.name not in _OF_TREE]
        cells += columns_of(placed, [one for one in others if one.name in of_placed], style)
        cells += columns_of(spans, [one for one in others if one.name not in of_placed], style)
        cells.sort(key=lambda one: list(specs).index(one.spec))
        return [
            replace(one, spec=replace(one.spec, least=max(one.spec.least, least)))
            if one.spec.name == "span"
            else one
            for one in cells
        ]

    def _tree(self, placed: Sequence[v1.TraceSpan], style: Style) -> tuple[list[str], int]:
        """Give the tree and the room it needs so that each span can be told by its name."""
        depths = [one.depth for one in placed]
        narrow = style.today is not None and max(depths, default=0) > _ROOMY_DEPTH
        lines = branches(depths, narrow=narrow)
        texts = []
        least = 0
        for line, one in zip(lines, placed, strict=True):
            critical = _is_critical(one)
            self.has_critical |= critical
            mark = CRITICAL_MARK if critical else " "
            name = f"{one.span.service_name} {one.span.operation_name}".rstrip()
            shown = printable(name, style)
            lead = f"{mark} {line}"
            least = max(least, cell_len(lead) + min(cell_len(shown), _NAME_CELLS))
            texts.append(lead + shown)
        return texts, least

    def _start(self, span: v1.Span) -> float:
        """Milliseconds behind the begin of the trace."""
        begin = self.summary.start_time
        return (span.start_time.ToMicroseconds() - begin.ToMicroseconds()) / 1000

    def _bar(self, one: v1.TraceSpan) -> str:
        """Draw when it ran, of the trace's whole time, on the clock it was sent with."""
        whole = self.summary.duration_ms or 1.0
        first = min(int(self._start(one.span) / whole * TIMELINE_CELLS), TIMELINE_CELLS - 1)
        length = max(1, round(one.span.duration_ms / whole * TIMELINE_CELLS))
        line = "━" if _is_critical(one) else "─"
        return (" " * first + line * min(length, TIMELINE_CELLS - first)).ljust(TIMELINE_CELLS)


def _is_critical(one: v1.TraceSpan) -> bool:
    return v1.SpanFlag.SPAN_FLAG_CRITICAL_PATH in one.flags


def _flags(one: v1.TraceSpan) -> str:
    """Give what is odd about a span, in the contract's words; the critical path has its mark."""
    enum = v1.SpanFlag.DESCRIPTOR
    words = []
    for flag in one.flags:
        if flag == v1.SpanFlag.SPAN_FLAG_CRITICAL_PATH:
            continue
        word = word_of(enum, flag)
        if flag == v1.SpanFlag.SPAN_FLAG_CLOCK_SKEW:
            sign = "+" if one.clock_skew_ms > 0 else ""
            word += f" {sign}{write_number(one.clock_skew_ms, short=True)} ms"
        words.append(word)
    return ", ".join(words)


def _line(record: Message) -> str:
    return json_line(cast("v1.TraceSpan", record).span)
