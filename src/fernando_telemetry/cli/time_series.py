"""`query metrics --align`: time series that the server computes, as a table or as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import typer
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import aio

from fernando.telemetry import v1
from fernando_telemetry.cli.connection import CALL_TIMEOUT_SECONDS, call, complain, find_address
from fernando_telemetry.cli.kinds import METRICS, ListKind
from fernando_telemetry.cli.listing import (
    LIMIT,
    Wanted,
    fill_selection,
    method_of,
    pages,
    show,
    time_range,
    words_of_range,
)
from fernando_telemetry.cli.printing import Printer
from fernando_telemetry.cli.record_json import number_of, to_json
from fernando_telemetry.cli.span_filter import quoted
from fernando_telemetry.cli.tables import (
    Cells,
    ColumnSpec,
    Style,
    columns_of,
    write_number,
    write_times,
)
from fernando_telemetry.cli.times import parse_duration

# What fields were typed as. `reduce` is its flag's name and a word of sentences.
_FLAGS: Final = {"alignment_period": "--align", "align": "--aggregation", "group_by": "--group-by"}


@dataclass(frozen=True, slots=True)
class Alignment:
    """How samples become time series, as typed.

    Args:
        align: `--align`, the length of a bucket; None: samples are listed.
        metric_name: `--metric-name`.
        aggregation: `--aggregation`.
        reduce: `--reduce`.
        group_by: `--group-by`.
        gap_fill: `--gap-fill`.
    """

    align: str | None = None
    metric_name: str | None = None
    aggregation: str | None = None
    reduce: str | None = None
    group_by: tuple[str, ...] = ()
    gap_fill: str | None = None


def _cells(records: Sequence[Message], specs: Sequence[ColumnSpec], style: Style) -> list[Cells]:
    """Write a row for each bucket of each series."""
    times: list[Timestamp | None] = []
    values: list[str] = []
    counts: list[str] = []
    series: list[Message] = []
    for one in records:
        assert isinstance(one, v1.TimeSeries)
        series += [one.series] * len(one.values)
        values += [write_number(value, short=style.today is not None) for value in one.values]
        counts += [str(count) for count in one.sample_counts]
        for micros in one.bucket_start_unix_micros:
            time = Timestamp()
            time.FromMicroseconds(micros)
            times.append(time)
    return [
        Cells(ColumnSpec("bucket_start", 1), tuple(write_times(times, style)), False),
        Cells(ColumnSpec("value", 2), tuple(values), True),
        Cells(ColumnSpec("samples", 4), tuple(counts), True),
        *columns_of(series, specs, style),
    ]


def _line(record: Message) -> str:
    """Give a series as a line of JSON; what JSON has no number for as protobuf's JSON has it."""
    assert isinstance(record, v1.TimeSeries)
    fields = to_json(record)
    fields["values"] = [
        value if math.isfinite(value) else _NOT_FINITE[repr(value)] for value in record.values
    ]
    return json.dumps(fields, ensure_ascii=False)


_NOT_FINITE: Final = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
TIME_SERIES: Final = ListKind(
    "series",
    "Metric",
    "QuerySystemMetrics",
    "metric_timestamp",
    "time_series",
    "1h",
    (
        ColumnSpec("metric_unit", 7, 11),
        ColumnSpec("service_name", 5, 12),
        ColumnSpec("host_name", 5, 9),
        ColumnSpec("instance_id", 6, 11),
        ColumnSpec("labels", 3, 12),
        ColumnSpec("license_id", 8, 10),
        ColumnSpec("metric_type", 9),
        ColumnSpec("temporality", 10),
        ColumnSpec("metric_name", 11, 16),
    ),
    cells=_cells,
    line=_line,
    plural="series",
)


def show_metrics(wanted: Wanted, alignment: Alignment) -> None:
    """List samples, or print the time series that were asked for."""
    if alignment.align is not None:
        show_time_series(wanted, alignment, alignment.align)
        return
    for name in ("metric_name", "aggregation", "reduce", "group_by", "gap_fill"):
        if getattr(alignment, name):
            raise typer.BadParameter(
                "it needs --align, the length of a bucket", param_hint=_option(name)
            )
    show(METRICS, wanted)


def show_time_series(wanted: Wanted, alignment: Alignment, period: str) -> None:
    """Print time series."""
    if wanted.oldest_first:
        raise typer.BadParameter("buckets come in the order of time", param_hint="--oldest-first")
    if alignment.metric_name is None:
        raise typer.BadParameter("--align needs it", param_hint="--metric-name")
    start, end = time_range(wanted, TIME_SERIES.last, datetime.now(UTC))
    limit = wanted.rows(LIMIT)
    request = v1.QuerySystemMetricsRequest(min_commit_token=wanted.min_commit_token)
    fill_selection(request, wanted, start, end)
    try:
        request.alignment_period.FromTimedelta(parse_duration(period))
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(str(error), param_hint="--align") from None
    try:
        request.metric_name = alignment.metric_name
        request.group_by.extend(alignment.group_by)
    except ValueError:
        raise typer.BadParameter("it is not valid UTF-8", param_hint="--metric-name") from None
    _set_word(request, "align", alignment.aggregation, "aggregation")
    _set_word(request, "reduce", alignment.reduce)
    _set_word(request, "gap_fill", alignment.gap_fill)
    address = find_address(wanted.target, wanted.data_dir)
    printer = Printer(TIME_SERIES, as_json=wanted.as_json, local=wanted.local)

    async def work(channel: aio.Channel) -> None:
        ask = method_of(TIME_SERIES, channel)
        async for page, is_last in pages(ask, request, TIME_SERIES.records_field, limit):
            printer.print_page(list(page.time_series), is_last=is_last)

        if printer.count == 0 and await _is_unknown(channel, request.metric_name):
            complain(
                f"note: no series is called {request.metric_name!r}; "
                "`query metrics` without --align shows names."
            )

    call(address, work, wanted.filter, _FLAGS)
    printer.print_end(words_of_range(start, end, printer.zone))


async def _is_unknown(channel: aio.Channel, name: str) -> bool:
    """Whether there is no series of that name, of whatever time; False where that is not told."""
    stub: Any = v1.MetricServiceStub(channel)
    request = v1.ListMetricSeriesRequest(filter=f"metric_name = {quoted(name)}", page_size=1)
    try:
        found = await stub.ListMetricSeries(request, timeout=CALL_TIMEOUT_SECONDS)
    except aio.AioRpcError:  # the question asked was answered already
        return False
    return not found.series


def _set_word(request: Any, field: str, word: str | None, flag: str = "") -> None:
    """Set an enum by its word.

    Raises:
        typer.BadParameter: There is no such word.
    """
    if word is None:
        return
    enum = request.DESCRIPTOR.fields_by_name[field].enum_type
    try:
        setattr(request, field, number_of(enum, word))
    except KeyError:
        prefix = enum.values[0].name.removesuffix("UNSPECIFIED")
        words = ", ".join(one.name.removeprefix(prefix).lower() for one in enum.values[1:])
        raise typer.BadParameter(
            f"there is no {word!r}; there are {words}", param_hint=_option(flag or field)
        ) from None


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
