"""The tree of a trace: who called whom, how deep, and what is odd about it.

    TraceSpan   what of a span the tree is made of
    TraceTree   the spans in the order of the tree, each with what a reader should know about it

Everything is done in loops over arrays: a trace may be a chain of 100,000 spans. What a parent is
with shared ids follows Zipkin: the receiving side of a call that has the caller's id is the
caller's child, and a span whose parent's id is shared belongs to the side of its own service.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from fernando_telemetry.domain.trace_times import NO_PARENT, TraceTimes

CALLING_KINDS: Final = frozenset({"client", "producer"})
RECEIVING_KINDS: Final = frozenset({"server", "consumer"})


@dataclass(frozen=True, slots=True)
class TraceSpan:
    """What of a span the tree is made of.

    Args:
        span_id: 16 hex digits; several spans may share it.
        parent_span_id: "" where it names none.
        service_name: Who did the work.
        operation_name: "" where it has none.
        host_name: "" where it is not known.
        kind: The enum's word; None: not known.
        is_error: Whether its status is error.
        start: Unix microseconds.
        duration: Microseconds; None: not known.
        flush_id: Which flush stored it.
        ordinal: Its place there, which makes the two unique.
    """

    span_id: str
    parent_span_id: str
    service_name: str
    operation_name: str
    host_name: str
    kind: str | None
    is_error: bool
    start: int
    duration: int | None
    flush_id: int
    ordinal: int

    @property
    def end(self) -> int:
        """Unix microseconds; a span without a duration ends where it starts."""
        return self.start + (self.duration or 0)

    @property
    def place(self) -> tuple[int, str, int, int]:
        """What siblings go by."""
        return self.start, self.span_id, self.flush_id, self.ordinal


@dataclass(frozen=True, slots=True)
class PlacedSpan:
    """A span in its place in the tree.

    Args:
        span: The span.
        depth: Distance from its root.
        is_orphan: It names a parent that is not in the trace; a root.
        has_shared_id: Another span of the trace has its id.
        is_in_cycle: Following its parents leads back to it; cut there, it is a root.
        is_critical: The tree of the trace's root took as long as it did because of it.
        self_time: Microseconds not covered by its children.
        clock_skew: Microseconds that its clock seems to be ahead of its parent's; None: none seen.
    """

    span: TraceSpan
    depth: int
    is_orphan: bool
    has_shared_id: bool
    is_in_cycle: bool
    is_critical: bool
    self_time: int
    clock_skew: int | None


class TraceTree:
    """The tree of the spans of one trace, depth-first, siblings by start.

    Args:
        spans: At least one, in any order.
    """

    def __init__(self, spans: Iterable[TraceSpan]) -> None:
        # In this order children are found in the order of their start.
        self.spans: Sequence[TraceSpan] = sorted(spans, key=lambda span: span.place)
        self._counts = Counter(span.span_id for span in self.spans)
        self._orphans: set[int] = set()
        self._cycles: set[int] = set()
        self.parents = self._parents()
        self._cut_cycles()
        children: list[list[int]] = [[] for _ in self.spans]
        roots: list[int] = []
        for index, parent in enumerate(self.parents):
            (roots if parent == NO_PARENT else children[parent]).append(index)
        self._order, self._depths = _depth_first(roots, children)
        self._times = TraceTimes(self.spans, self.parents, children, self._order)
        self._critical = self._times.critical_path(self._root(roots))

    @property
    def orphan_count(self) -> int:
        """How many spans name a parent that is not in the trace."""
        return len(self._orphans)

    def __len__(self) -> int:
        return len(self.spans)

    def placed(self, first: int, count: int) -> list[PlacedSpan]:
        """Give the spans at the places `first` to `first + count`, those that there are."""
        return [self._placed(index) for index in self._order[first : first + count]]

    def _placed(self, index: int) -> PlacedSpan:
        span = self.spans[index]
        return PlacedSpan(
            span=span,
            depth=self._depths[index],
            is_orphan=index in self._orphans,
            has_shared_id=self._counts[span.span_id] > 1,
            is_in_cycle=index in self._cycles,
            is_critical=index in self._critical,
            self_time=self._times.self_time(index),
            clock_skew=self._times.skews[index],
        )

    def _root(self, roots: list[int]) -> int:
        """Give the earliest span without a parent, else the earliest that is shown as a root."""
        without = (index for index in roots if not self.spans[index].parent_span_id)
        return next(without, roots[0])

    def _parents(self) -> list[int]:
        """Give each span's parent, NO_PARENT for roots."""
        first: dict[str, int] = {}
        callers: dict[str, int] = {}
        of_service: dict[tuple[str, str], int] = {}
        for index, span in enumerate(self.spans):
            first.setdefault(span.span_id, index)
            if span.kind in CALLING_KINDS:
                callers.setdefault(span.span_id, index)
            side = (span.span_id, span.service_name)
            known = of_service.setdefault(side, index)
            # What a service does for a call it received hangs below the receiving side.
            if span.kind in RECEIVING_KINDS and self.spans[known].kind not in RECEIVING_KINDS:
                of_service[side] = index
        parents = []
        for index, span in enumerate(self.spans):
            found: int | None = None
            if span.kind in RECEIVING_KINDS:
                found = callers.get(span.span_id)
            if found is None and span.parent_span_id == span.span_id:
                self._cycles.add(index)
            elif found is None and span.parent_span_id:
                wanted = span.parent_span_id
                found = of_service.get(
                    (wanted, span.service_name), callers.get(wanted, first.get(wanted))
                )
                if found is None:
                    self._orphans.add(index)
            parents.append(NO_PARENT if found is None else found)
        return parents

    def _cut_cycles(self) -> None:
        """Make the earliest span of each cycle a root."""
        seen = [False] * len(self.parents)
        for start in range(len(self.parents)):
            path: dict[int, None] = {}
            index = start
            while index != NO_PARENT and not seen[index]:
                seen[index] = True
                path[index] = None
                index = self.parents[index]
            if index in path:
                way = list(path)
                earliest = min(way[way.index(index) :])
                self.parents[earliest] = NO_PARENT
                self._cycles.add(earliest)


def _depth_first(roots: list[int], children: list[list[int]]) -> tuple[list[int], list[int]]:
    """Give the spans depth-first, and the depth of each by its index."""
    order: list[int] = []
    depths = [0] * len(children)
    waiting = roots[::-1]
    while waiting:
        index = waiting.pop()
        order.append(index)
        for child in reversed(children[index]):
            depths[child] = depths[index] + 1
            waiting.append(child)
    return order, depths
