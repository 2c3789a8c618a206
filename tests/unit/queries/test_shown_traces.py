"""What is kept of traces between their pages, and for how long."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from fernando_telemetry.domain.seen_flushes import SeenFlushes
from fernando_telemetry.domain.time_range import ALL_TIME, TimeRange
from fernando_telemetry.domain.trace_summary import summarized
from fernando_telemetry.domain.trace_tree import TraceSpan, TraceTree
from fernando_telemetry.queries.shown_traces import ShownTrace, ShownTraces

LANE = 1 << 40
TODAY = datetime(2026, 1, 1, tzinfo=UTC)


def trace(spans: int, last_flush: int = LANE) -> ShownTrace:
    tree = TraceTree(
        TraceSpan(f"{n:016x}", "", "web", "", "", None, False, n, 1, last_flush, n)
        for n in range(spans)
    )
    return ShownTrace(tree, summarized("a", tree), SeenFlushes.of([last_flush]))


async def test_a_trace_is_found_by_what_its_first_page_saw() -> None:
    kept = ShownTraces()
    first, later = trace(2), trace(3, LANE + 1)
    kept.keep("a", ALL_TIME, first)
    kept.keep("a", ALL_TIME, later)
    assert kept.find("a", ALL_TIME, first.seen.packed()) is first
    assert kept.find("a", ALL_TIME, later.seen.packed()) is later
    assert kept.find("b", ALL_TIME, first.seen.packed()) is None
    day = TimeRange(TODAY, TODAY + timedelta(days=1))
    assert kept.find("a", day, first.seen.packed()) is None


async def test_the_one_read_longest_ago_goes_where_spans_are_too_many() -> None:
    kept = ShownTraces(most_spans=10)
    traces = {name: trace(4) for name in "abc"}
    seen = traces["a"].seen.packed()
    for name in "aba":
        kept.keep(name, ALL_TIME, traces[name])
    kept.keep("c", ALL_TIME, traces["c"])
    assert [kept.find(name, ALL_TIME, seen) for name in "abc"] == [traces["a"], None, traces["c"]]
    kept.keep("d", ALL_TIME, trace(11))
    assert (len(kept), kept.find("d", ALL_TIME, seen)) == (2, None)
    kept.keep("e", ALL_TIME, trace(10))
    assert len(kept) == 1


async def test_a_trace_nobody_goes_on_with_is_let_go() -> None:
    kept = ShownTraces(seconds=0.0)
    kept.keep("a", ALL_TIME, trace(2))
    assert len(kept) == 1
    # Timers that are due run before what is called later.
    passed = asyncio.Event()
    asyncio.get_running_loop().call_later(0.0, passed.set)
    await passed.wait()
    assert len(kept) == 0
