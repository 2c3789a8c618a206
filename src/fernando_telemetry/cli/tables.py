"""Tables of records for people: which columns, what stands in a cell, and what fits.

    ColumnSpec  a column of a kind of record, with its rank when room is short
    Cells       the texts of one page, column by column
    fit         which columns, how wide

On a terminal a page is a table as wide as the terminal: columns that are empty on the whole page
are left out, the least important ones where there is no room, and long texts are cut; numbers have
their decimal points under each other. Elsewhere it is aligned text with whole values. Estimates
have the digits that say something, here and there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from typing import Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.cells import cell_len

from fernando.telemetry.v1 import Distribution
from fernando_telemetry.cli.record_json import Field, word_of

GAP: Final = 2
CORE_RANK: Final = 6
COMFORTABLE_WIDTH: Final = 28
_CUT_CHARACTERS: Final = 400
_NUMERIC: Final = frozenset(
    {
        FieldDescriptor.CPPTYPE_DOUBLE,
        FieldDescriptor.CPPTYPE_INT32,
        FieldDescriptor.CPPTYPE_INT64,
        FieldDescriptor.CPPTYPE_UINT32,
    }
)


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """A column of a table.

    Args:
        name: The contract's field.
        rank: 1 is kept longest when room is short; see `fit`.
        least: It may be cut down to so many characters; 0: shown whole or not at all.
        dated: Times are never shown without their date.
        digits: Significant digits of a number that is an estimate; 0: it is none.
    """

    name: str
    rank: int
    least: int = 0
    dated: bool = False
    digits: int = 0


@dataclass(frozen=True, slots=True)
class Style:
    """How values are written.

    Args:
        zone: Of times.
        today: For people: the date to leave out where all times of a column are of it, short
            numbers, cut texts. None: whole values.
    """

    zone: tzinfo
    today: datetime | None = None


@dataclass(frozen=True, slots=True)
class Cells:
    """One column of a page.

    Args:
        spec: The column.
        texts: One a record, "" for NULL.
        to_the_right: Numbers are.
    """

    spec: ColumnSpec
    texts: tuple[str, ...]
    to_the_right: bool

    @property
    def width(self) -> int:
        """Room for all of it, in cells of a terminal."""
        return max(cell_len(self.spec.name), *map(cell_len, self.texts), 0)

    @property
    def is_empty(self) -> bool:
        """It has nothing to show."""
        return not any(self.texts)


def columns_of(
    records: Sequence[Message], specs: Sequence[ColumnSpec], style: Style
) -> list[Cells]:
    """Write a page's cells; columns that are empty are left out.

    Args:
        records: All of one type, at least one.
        specs: In the order of display.
        style: How values are written.
    """
    fields = records[0].DESCRIPTOR.fields_by_name
    columns = (_column(records, fields[spec.name], spec, style) for spec in specs)
    return [column for column in columns if not column.is_empty]


def _column(records: Sequence[Message], field: Field, spec: ColumnSpec, style: Style) -> Cells:
    if field.message_type is not None and field.message_type.name == "Timestamp":
        times = (
            getattr(record, field.name) if record.HasField(spec.name) else None
            for record in records
        )
        return Cells(spec, tuple(write_times(list(times), style, dated=spec.dated)), False)
    texts = (_cell(record, field, style, spec.digits) for record in records)
    numeric = field.cpp_type in _NUMERIC and not field.is_repeated
    return Cells(spec, tuple(texts), numeric or spec.name == "metric_value")


def write_times(
    times: Sequence[Timestamp | None], style: Style, *, dated: bool = False, precision: str = ""
) -> list[str]:
    """Write a column of times with as much of each as the column needs.

    Whole: RFC 3339 with the digits there are. For people: to the millisecond, without what is 0
    in all of them (unless `precision` names it, as isoformat does), and unless `dated` without the
    date where all are of today.
    """
    moments = [
        None if one is None else one.ToDatetime(tzinfo=UTC).astimezone(style.zone) for one in times
    ]
    known = [one for one in moments if one is not None]
    if style.today is None:
        return ["" if one is None else _offset(one.isoformat()) for one in moments]
    date = dated or any(one.date() != style.today.astimezone(style.zone).date() for one in known)
    if not precision and any(one.microsecond for one in known):
        precision = "milliseconds"
    elif not precision:
        precision = "seconds" if any(one.second for one in known) else "minutes"
    written = []
    for one in moments:
        text = "" if one is None else _offset(one.isoformat(" ", precision))
        written.append(text if date else text.partition(" ")[2])
    return written


def _offset(iso: str) -> str:
    return iso.replace("+00:00", "Z")


def _cell(record: Message, field: Field, style: Style, digits: int) -> str:
    value = getattr(record, field.name)
    if field.has_presence and not record.HasField(field.name):
        return ""
    if isinstance(value, Distribution):
        return _distribution(value)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return printable(" ".join(f"{key}={text}" for key, text in sorted(value.items())), style)
    if field.is_repeated:
        return printable(" ".join(value), style)
    if field.enum_type is not None:
        return word_of(field.enum_type, value)
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, float):
        shown = float(f"{value:.{digits}g}") if digits else value
        return write_number(shown, short=style.today is not None)
    return printable(str(value), style)


def _distribution(value: Distribution) -> str:
    numbers = f"min={value.min:g} max={value.max:g} sum={value.sum:g}" if value.count else ""
    return f"count={value.count} {numbers}".rstrip()


def write_number(value: float, *, short: bool) -> str:
    """Write a number without exponent where that is readable; short: with three decimals."""
    if abs(value) < 1e15 and value == int(value):
        return str(int(value))
    if short and 1e-3 <= abs(value) < 1e15:
        return f"{value:.3f}".rstrip("0").rstrip(".")
    return f"{value:.4g}" if short else repr(value)


def on_the_point(column: Cells) -> Cells:
    """Put the decimal points of numbers under each other, by blanks behind them."""
    if not column.to_the_right:
        return column
    tails = [len(text) - text.find(".") if "." in text else 0 for text in column.texts]
    widest = max(tails, default=0)
    texts = zip(column.texts, tails, strict=True)
    return replace(column, texts=tuple(text + " " * (widest - tail) for text, tail in texts))


def printable(text: str, style: Style) -> str:
    """Escape what would move the cursor; a sender's text must not steer the terminal."""
    if style.today is not None and len(text) > _CUT_CHARACTERS:
        text = text[:_CUT_CHARACTERS]
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def fit(columns: Sequence[Cells], width: int) -> list[tuple[Cells, int]]:
    """Choose the columns that fit a width and give each its own.

    The first column stays. By rank each further one comes in if there is room for it: up to
    CORE_RANK for its least width, behind that only where nobody else has to be cut below
    COMFORTABLE_WIDTH for it. What is left over goes to those that are cut, in equal parts.

    Args:
        columns: In the order of display.
        width: Of the whole table, in cells.
    """
    chosen = [0] if columns else []
    for index in sorted(range(1, len(columns)), key=lambda one: columns[one].spec.rank):
        core = columns[index].spec.rank <= CORE_RANK
        wanted = [*chosen, index]
        needed = sum((_least if core else _comfortable)(columns[one]) for one in wanted)
        if needed + GAP * len(chosen) <= width:
            chosen = wanted
    widths = {index: min(_least(columns[index]), width) for index in sorted(chosen)}
    _spread(columns, widths, width - sum(widths.values()) - GAP * (len(widths) - 1))
    return [(columns[index], given) for index, given in widths.items()]


def _spread(columns: Sequence[Cells], widths: dict[int, int], room: int) -> None:
    while room > 0:
        cut = [index for index in widths if widths[index] < columns[index].width]
        if not cut:
            return
        share = max(1, room // len(cut))
        for index in cut:
            more = min(share, room, columns[index].width - widths[index])
            widths[index] += more
            room -= more


def _comfortable(column: Cells) -> int:
    return min(column.width, max(COMFORTABLE_WIDTH, column.spec.least or column.width))


def _least(column: Cells) -> int:
    return min(column.width, column.spec.least or column.width)


def plain_lines(columns: Sequence[Cells], *, header: bool) -> Iterator[str]:
    """Give aligned lines with whole values, the names first where asked for."""
    widths = [column.width for column in columns]
    rows: Iterator[tuple[str, ...]] = zip(*(column.texts for column in columns), strict=True)
    if header:
        yield _aligned([column.spec.name for column in columns], widths, columns)
    for row in rows:
        yield _aligned(row, widths, columns)


def _aligned(texts: Sequence[str], widths: Sequence[int], columns: Sequence[Cells]) -> str:
    parts = []
    for text, width, column in zip(texts, widths, columns, strict=True):
        blank = " " * (width - cell_len(text))
        parts.append(blank + text if column.to_the_right else text + blank)
    return (" " * GAP).join(parts).rstrip()
