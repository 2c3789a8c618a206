"""The trees of large traces that are read page by page, kept from one page to the next.

A page needs the tree of the whole trace: to read 100,000 spans and put them together takes seconds,
a page of them milliseconds. What is not kept is put together anew, so pages may go to any server.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from fernando_telemetry.domain.limits import TRACE_SPANS
from fernando_telemetry.domain.seen_flushes import SeenFlushes
from fernando_telemetry.domain.time_range import TimeRange
from fernando_telemetry.domain.trace_summary import TraceSummary
from fernando_telemetry.domain.trace_tree import TraceTree

# A caller that is slower between two pages pays for the tree again.
KEPT_SECONDS: Final = 30.0

# Trace, range, and what was seen of it.
_Key = tuple[str, TimeRange, bytes]


@dataclass(frozen=True, slots=True)
class ShownTrace:
    """A trace as its first page saw it.

    Args:
        tree: Its spans in their places.
        summary: The whole summed up.
        seen: The flushes that its spans came with.
    """

    tree: TraceTree
    summary: TraceSummary
    seen: SeenFlushes


class ShownTraces:
    """Keeps traces for their next pages, the latest ones; for one event loop.

    Args:
        most_spans: Of all traces together, some 0.7 kB each.
        seconds: How long one is kept behind its last page.
    """

    def __init__(self, most_spans: int = TRACE_SPANS, seconds: float = KEPT_SECONDS) -> None:
        self._most_spans = most_spans
        self._seconds = seconds
        # The one that goes first in front.
        self._kept: dict[_Key, tuple[ShownTrace, asyncio.TimerHandle]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, trace_id: str, time_range: TimeRange, trace: ShownTrace) -> None:
        """Keep a trace, or keep it for longer; the oldest go where it takes their room."""
        key = (trace_id, time_range, trace.seen.packed())
        self._drop(key)
        if len(trace.tree) > self._most_spans:
            return
        spans = len(trace.tree) + sum(len(one.tree) for one, _ in self._kept.values())
        for old, (one, _) in list(self._kept.items()):
            if spans <= self._most_spans:
                break
            spans -= len(one.tree)
            self._drop(old)
        timer = asyncio.get_running_loop().call_later(self._seconds, self._drop, key)
        self._kept[key] = (trace, timer)

    def find(self, trace_id: str, time_range: TimeRange, seen: bytes) -> ShownTrace | None:
        """Give the trace of which a page's token says what was seen; None: it is not kept."""
        found = self._kept.get((trace_id, time_range, seen))
        return found[0] if found else None

    def _drop(self, key: _Key) -> None:
        if key in self._kept:
            _, timer = self._kept.pop(key)
            timer.cancel()
