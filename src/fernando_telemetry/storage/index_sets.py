"""The indexes of partitions: which there are, and which a partition carries hot and sealed.

A *hot* partition is being written: it carries the lean set, which costs COPY little. A *sealed*
one has its time behind it and carries what queries gain most by (storage/sealing.py). Both sets
were chosen by measurement: docs/decisions/0008-partitions.md has the figures.

An index is called `<partition>_<name>`. A partition's index of a known name is taken for what
stands here, so a changed definition needs a new name.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

SetName = Literal["none", "lean", "full"]
SETS: Final[tuple[SetName, ...]] = ("none", "lean", "full")


@dataclass(frozen=True, slots=True)
class PartitionIndex:
    """One index that a partition can carry.

    Attributes:
        name: Short name, unique in its table, a suffix of the index's name in PostgreSQL.
        definition: What follows `CREATE INDEX … ON <partition>`.
        lean: Whether it belongs to the lean set.
        full: Whether it belongs to the full set.
    """

    name: str
    definition: str
    lean: bool = False
    full: bool = False

    def name_on(self, partition: str) -> str:
        """Give its name in PostgreSQL."""
        return f"{partition}_{self.name}"


IndexChoice = Mapping[str, tuple[PartitionIndex, ...]]


def _both(name: str, definition: str) -> PartitionIndex:
    return PartitionIndex(name, definition, lean=True, full=True)


def _sealed(name: str, definition: str) -> PartitionIndex:
    return PartitionIndex(name, definition, full=True)


def _bloom(column: str, distinct: int) -> str:
    """Give the part of a BRIN index that finds equal values of a column by reading little.

    `distinct` is the number of distinct values expected in 64 pages (1,000 to 2,000 rows); too
    small a number makes the filter useless, too large a one makes it big. One false positive
    costs 64 pages, so 0.1 % of them instead of the default 1 % pays for a filter half as big
    again. What is not yet summarised is found by reading it: storage/summarising.py.
    """
    return (
        f"{column} text_bloom_ops(n_distinct_per_range = {distinct}, false_positive_rate = 0.001)"
    )


def _brin(*columns: str, pages: int = 64) -> str:
    """Give a BRIN index of several columns, each found by itself.

    Summarising one index of three columns reads the rows once, three indexes read them three
    times (0.9 against 1.5 µs an event); lookups take the same time. What it keeps of a range has
    to fit a page of 8 KB: a bloom takes 1.8 bytes for each distinct value.
    """
    return f"USING brin ({', '.join(columns)}) WITH (pages_per_range = {pages})"


# Two lanes write side by side, so one range of pages holds flushes of both: multi.
_FLUSH_ID = "flush_id int8_minmax_multi_ops"
_FLUSH_BRIN = _both("flush_brin", _brin(_FLUSH_ID, pages=128))
# Flushes are sorted by series, so that few pages hold one series of one flush.
_SERIES_BRIN = _brin("series_id", "time", pages=8)

INDEXES: Final[IndexChoice] = {
    "telemetry_events": (
        _both("time", "(event_timestamp)"),
        # event_id is a UUIDv7, given in the order of arrival: the plain range of values finds one.
        _both(
            "flush_brin",
            _brin(_FLUSH_ID, "event_id", _bloom("license_id", 300), _bloom("event_name", 200)),
        ),
        PartitionIndex(
            "lookup_bloom",
            _brin(_bloom("user_id", 1000), _bloom("session_id", 1000), _bloom("trace_id", 500)),
            lean=True,
        ),
        _sealed("user_time", "(user_id, event_timestamp) WHERE user_id IS NOT NULL"),
        _sealed("license_time", "(license_id, event_timestamp) WHERE license_id IS NOT NULL"),
        _sealed("name_time", "(event_name, event_timestamp)"),
        _sealed("session", "(session_id) WHERE session_id IS NOT NULL"),
        _sealed("trace", "(trace_id) WHERE trace_id IS NOT NULL"),
        _sealed("error_time", "(event_timestamp) WHERE event_type = 'error_event'"),
        _sealed("event_data", "USING gin (event_data jsonb_path_ops)"),
    ),
    "metric_samples": (
        _FLUSH_BRIN,
        # No B-tree on time: rows come sorted by series, which makes it dear (3.5 times the COPY).
        _both("series_time_brin", _SERIES_BRIN),
        PartitionIndex("time", "(time)"),
        PartitionIndex("series", "(series_id)"),
    ),
    "metric_distributions": (
        _both("time", "(time)"),
        _FLUSH_BRIN,
        _sealed("series_time", "(series_id, time)"),
    ),
    "business_metric_versions": (
        _both("period_start", "(period_start)"),
        _both("identity", "(identity_hash, period_start)"),
        _FLUSH_BRIN,
    ),
    "traces": (
        _both("time", "(start_time)"),
        _both(
            "flush_brin",
            _brin(
                _FLUSH_ID,
                _bloom("trace_id", 500),
                _bloom("user_id", 1000),
                _bloom("license_id", 300),
            ),
        ),
        _sealed("trace", "(trace_id)"),
        _sealed("service_time", "(service_name, start_time)"),
        _sealed("license_time", "(license_id, start_time) WHERE license_id IS NOT NULL"),
        _sealed("error_time", "(start_time) WHERE status = 'error'"),
        PartitionIndex("user_time", "(user_id, start_time) WHERE user_id IS NOT NULL"),
    ),
}

# What the blooms of a lean partition find by equality, and event_id, whose range of values does.
HOT_LOOKUPS: Final[Mapping[str, frozenset[str]]] = {
    table: frozenset(
        column
        for index in indexes
        if index.lean
        for column in re.findall(r"\w+(?= text_bloom_ops)|\bevent_id\b", index.definition)
    )
    for table, indexes in INDEXES.items()
}

# KPIs are few and their partitions a month: they carry one set all the time.
SEALED_TABLES: Final = ("telemetry_events", "metric_samples", "metric_distributions", "traces")


def chosen(text: str) -> IndexChoice:
    """Read a choice as settings spell it: a set, then single indexes taken out or added.

    `full -telemetry_events.event_data +traces.user_time` is the full set without one index and
    with another.

    Raises:
        ValueError: No such set or index.
    """
    first, *changes = text.replace(",", " ").split() or [""]
    if first not in SETS:
        raise ValueError(f"the set {first!r} is none of {', '.join(SETS)}")
    taken = {
        (table, index.name)
        for table, indexes in INDEXES.items()
        for index in indexes
        if (index.lean and first == "lean") or (index.full and first == "full")
    }
    for change in changes:
        sign, (table, _, name) = change[0], change[1:].partition(".")
        if sign not in "+-" or name not in {index.name for index in INDEXES.get(table, ())}:
            raise ValueError(f"{change!r} is not -table.index or +table.index of a known index")
        if sign == "+":
            taken.add((table, name))
        else:
            taken.discard((table, name))
    return {
        table: tuple(index for index in indexes if (table, index.name) in taken)
        for table, indexes in INDEXES.items()
    }


def digest(indexes: tuple[PartitionIndex, ...]) -> str:
    """Name a set by its content: 8 hex digits."""
    parts = sorted(f"{index.name} {index.definition}" for index in indexes)
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=4).hexdigest()
