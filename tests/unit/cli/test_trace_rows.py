"""A trace's rows for people."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from fernando.telemetry import v1
from fernando_telemetry.cli.tables import GAP, Style, fit
from fernando_telemetry.cli.trace_rows import (
    DEEPEST_BRANCH,
    TIMELINE_CELLS,
    TraceRows,
    branches,
)

START = datetime(2026, 5, 17, 9, 30, tzinfo=UTC)
CRITICAL = v1.SpanFlag.SPAN_FLAG_CRITICAL_PATH


def placed(
    name: str, depth: int, start_ms: float, duration_ms: float | None, *flags: v1.SpanFlag.ValueType
) -> v1.TraceSpan:
    one = v1.TraceSpan(depth=depth, flags=flags)
    one.span.service_name = name
    one.span.start_time.FromMicroseconds(int(START.timestamp() * 1e6 + start_ms * 1000))
    if duration_ms is not None:
        one.span.duration_ms = duration_ms
    return one


def texts(style: Style, *spans: v1.TraceSpan) -> dict[str, tuple[str, ...]]:
    rows = TraceRows()
    rows.summary.start_time.FromDatetime(START)
    rows.summary.duration_ms = 320
    kind = rows.kind
    return {one.spec.name: one.texts for one in rows.cells(spans, kind.columns, style)}


def test_branches_say_who_is_below_whom() -> None:
    assert branches([0, 1, 2, 2, 1, 2, 0, 1]) == [
        "",
        "├─ ",
        "│  ├─ ",
        "│  └─ ",
        "└─ ",
        "   └─ ",
        "",
        "└─ ",
    ]
    assert branches([]) == []


def test_a_chain_of_a_thousand_stays_narrow() -> None:
    drawn = branches(range(1000))
    assert len(set(drawn)) == 1000
    assert max(map(len, drawn)) < 3 * DEEPEST_BRANCH + 10
    assert drawn[999].endswith("… 999 └─ ")


def test_a_page_that_begins_deep_in_the_tree() -> None:
    assert branches([2, 1, 1]) == ["│  └─ ", "├─ ", "└─ "]


@pytest.mark.parametrize("width", [40, 80, 100, 120])
def test_names_of_a_deep_tree_are_kept_before_other_columns(width: int) -> None:
    spans = [placed(f"service-{depth} operation", depth, depth, 300) for depth in range(15)]
    for one in spans:
        one.span.kind = v1.SpanKind.SPAN_KIND_SERVER
        one.span.error_message = "no " * 20
        one.self_time_ms = 5
    rows = TraceRows()
    fitted = fit(rows.cells(spans, rows.kind.columns, Style(UTC, today=START)), width)
    shown = {cells.spec.name: given for cells, given in fitted}
    assert sum(shown.values()) + GAP * (len(shown) - 1) <= width
    tree = fitted[0][0]
    if width >= 80:
        assert shown["span"] == tree.width
        assert "duration_ms" in shown
    assert tree.texts[2] == "    └ service-2 operation"


def test_rows_on_a_terminal() -> None:
    skewed = placed("db", 2, 150, 80, v1.SpanFlag.SPAN_FLAG_CLOCK_SKEW)
    skewed.clock_skew_ms = -3.25
    found = texts(
        Style(UTC, today=START),
        placed("web", 0, 0, 320, CRITICAL),
        placed("shop", 1, 160, 100, v1.SpanFlag.SPAN_FLAG_SHARED_ID, CRITICAL),
        skewed,
        placed("late", 0, 310, 40, v1.SpanFlag.SPAN_FLAG_ORPHAN),
        placed("\x1b[2J", 1, 320, None, v1.SpanFlag.SPAN_FLAG_PARENT_CYCLE),
    )
    assert found["span"] == (
        "* web",
        "* └─ shop",
        "     └─ db",
        "  late",
        r"  └─ \x1b[2J",
    )
    assert found["flags"] == (
        "",
        "shared_id",
        "clock_skew -3.25 ms",
        "orphan",
        "parent_cycle",
    )
    assert found["start_ms"] == ("0", "160", "150", "310", "320")
    bars = found["timeline"]
    assert {len(bar) for bar in bars} == {TIMELINE_CELLS}
    assert bars[0] == "━" * TIMELINE_CELLS
    assert bars[1] == " " * 16 + "━" * 10 + " " * 6
    assert [bar.strip() for bar in bars[2:]] == ["─" * 8, "─", "─"]


@pytest.mark.parametrize("today", [None, START])
def test_a_trace_that_took_no_time(today: datetime | None) -> None:
    rows = TraceRows()
    rows.summary.start_time.FromDatetime(START)
    spans = [placed("web", 0, 0, None)]
    cells = {
        one.spec.name: one.texts
        for one in rows.cells(spans, rows.kind.columns, Style(UTC, today=today))
    }
    assert cells["start_ms"] == ("0",)
    assert ("timeline" in cells) == (today is not None)
    assert not rows.has_critical
