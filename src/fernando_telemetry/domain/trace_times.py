"""Times in a trace: differences of clocks, time of a span's own, the critical path.

Spans keep the times they were sent with. Where a child on another host cannot have been when it
says, the difference of the two clocks is estimated, and taken off only to compare times here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

NO_PARENT: Final = -1


class TimedSpan(Protocol):
    """What of a span is needed here; times in microseconds."""

    @property
    def service_name(self) -> str:
        """Who did the work."""

    @property
    def host_name(self) -> str:
        """Where; "" where it is not known."""

    @property
    def kind(self) -> str | None:
        """The enum's word."""

    @property
    def start(self) -> int:
        """Unix microseconds."""

    @property
    def duration(self) -> int | None:
        """None: not known."""

    @property
    def end(self) -> int:
        """Unix microseconds."""


def clock_skew(parent: TimedSpan, child: TimedSpan) -> int | None:
    """Estimate how far a child's clock is ahead of its parent's; None where nothing tells of it.

    Of a call and its serving, each with its duration, the shorter serving is taken to lie in the
    middle of the call, as Zipkin does. Else a child that starts before its parent is taken to
    start with it. What only ends later is no sign: work that is not waited for does.
    """
    if _are_on_one_host(parent, child):
        return None
    is_call = (parent.kind, child.kind) == ("client", "server")
    if is_call and parent.duration is not None and child.duration is not None:
        room = parent.duration - child.duration
        if room >= 0:
            if lies_within(parent, child):
                return None
            return child.start - parent.start - room // 2
    return child.start - parent.start if child.start < parent.start else None


def lies_within(parent: TimedSpan, child: TimedSpan) -> bool:
    """Tell whether a child's time is in its parent's, as they were sent."""
    return parent.start <= child.start and child.end <= parent.end


def _are_on_one_host(one: TimedSpan, other: TimedSpan) -> bool:
    if one.host_name and other.host_name:
        return one.host_name == other.host_name
    return one.service_name == other.service_name


class TraceTimes:
    """The times of a tree's spans, each on the clock of its root.

    Args:
        spans: The spans.
        parents: The index of each one's parent, NO_PARENT for roots.
        children: The indexes of each one's children.
        order: All indexes, parents before their children.
    """

    def __init__(
        self,
        spans: Sequence[TimedSpan],
        parents: Sequence[int],
        children: Sequence[Sequence[int]],
        order: Sequence[int],
    ) -> None:
        self._children = children
        self.skews: list[int | None] = [None] * len(spans)
        self._starts = [0] * len(spans)
        ahead = [0] * len(spans)
        hosts: dict[str, int] = {}
        for index in order:
            span, parent = spans[index], parents[index]
            if parent != NO_PARENT:
                skew = clock_skew(spans[parent], span)
                self.skews[index] = skew
                ahead[index] = ahead[parent] + (skew or 0)
                # A host has one clock, which a call back to it does not show by itself.
                if skew is None and not lies_within(spans[parent], span):
                    ahead[index] = hosts.get(span.host_name, ahead[index])
            if span.host_name:
                hosts.setdefault(span.host_name, ahead[index])
            self._starts[index] = span.start - ahead[index]
        self._ends = [
            start + (span.duration or 0) for start, span in zip(self._starts, spans, strict=True)
        ]
        # When all below a span has ended too.
        self._last_ends = self._ends.copy()
        for index in reversed(order):
            parent = parents[index]
            if parent != NO_PARENT:
                self._last_ends[parent] = max(self._last_ends[parent], self._last_ends[index])

    def self_time(self, index: int) -> int:
        """Give a span's microseconds that are not covered by its children."""
        end = self._ends[index]
        covered, reached = 0, self._starts[index]
        for start, child_end in sorted(
            (self._starts[child], self._ends[child]) for child in self._children[index]
        ):
            further = min(child_end, end) - max(start, reached)
            if further > 0:
                covered += further
                reached = min(child_end, end)
        return end - self._starts[index] - covered

    def critical_path(self, root: int) -> set[int]:
        """Give the spans that made the tree of a root take as long as it did.

        Back from its last end: the child that ends last is on the path, then the one that ends
        last before that one's start, and so on; below each of them likewise. What overlaps them
        and ends later does not count, nor does what took no time.
        """
        path = {root}
        waiting = [root]
        while waiting:
            index = waiting.pop()
            reached = self._last_ends[index]
            for child in sorted(
                self._children[index], key=self._last_ends.__getitem__, reverse=True
            ):
                if reached <= self._starts[index]:
                    break
                if self._starts[child] < self._last_ends[child] <= reached:
                    path.add(child)
                    waiting.append(child)
                    reached = self._starts[child]
        return path
