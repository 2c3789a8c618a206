"""What a roll-up is made of: what a flush appends for it, how that is folded, what expires.

A new one is a module with a `Rollup` and a line in storage/rollups.py, its table of deltas a line
in storage/partitions.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias

import pyarrow as pa

from fernando_telemetry.domain.series import SeriesIdentity
from fernando_telemetry.storage.fresh_rows import FreshRows
from fernando_telemetry.storage.partitions import PartitionedTable

Term: TypeAlias = Literal["minute", "hour"]
# The oldest time of which minutes, or hours, are kept.
Oldest: TypeAlias = Mapping[Term, datetime]
# (fresh rows, ids of their series, the flush's time by the database's clock): the deltas.
Grouping: TypeAlias = Callable[
    [FreshRows, Mapping[SeriesIdentity, int], datetime], pa.RecordBatch | None
]


@dataclass(frozen=True, slots=True)
class Expiry:
    """Deletes what is past its term.

    Args:
        statement: Deletes rows before $1 timestamptz, $2 int8 at most, and gives their count.
        term: Which term that is.
    """

    statement: str
    term: Term


@dataclass(frozen=True, slots=True)
class Comparison:
    """Compares whole hours of a roll-up's table, deltas included, with raw rows.

    Args:
        table: Its name.
        statement: Of $1 timestamptz to $2, exclusive, without the licences of $3 text[], it gives
            `raw_rows`, `groups` and `differences`, all int8.
        term: How long the table's rows live.
        arguments: The statement's further ones.
        proved_by: The table that it is compared with instead of raw rows, itself compared with
            them; "": raw rows. Its `raw_rows` are 0.
        planning: A statement that says for the transaction how it is planned; "": as ever.
    """

    table: str
    statement: str
    term: Term
    arguments: tuple[Any, ...] = ()
    proved_by: str = ""
    planning: str = ""


@dataclass(frozen=True, slots=True)
class RebuildStatement:
    """A step of writing whole hours anew, deleting what was there included.

    Args:
        text: For $1 timestamptz to $2, exclusive, without the licences of $3 text[].
        term: How long what it writes lives; None: it is run whatever is past its term.
        arguments: Its further ones.
    """

    text: str
    term: Term | None = None
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Proof:
    """How a roll-up is proved and mended from raw rows.

    Args:
        raw: The raw table, by name.
        kind: Of its records, as retention policies name it.
        comparisons: One for each table that its deltas are folded into.
        rebuild: Deletes whole hours and their deltas and writes them anew, in order, in one
            transaction under the fold's lock.
    """

    raw: str
    kind: str
    comparisons: tuple[Comparison, ...]
    rebuild: tuple[RebuildStatement, ...]


@dataclass(frozen=True, slots=True)
class Rollup:
    """A roll-up.

    Args:
        name: In the list of gaps.
        deltas: The table of deltas, by the hour of the flush.
        group: Makes a flush's deltas of its fresh rows; None where there are none.
        columns: The columns that it gives, in their order.
        fold: Moves $1 int8 deltas at most in one statement, drops those past their term, and
            gives how many it took. Run under the fold's lock.
        fold_arguments: Its further arguments.
        make_up: Appends the deltas that flushes have left out: of raw rows from $1 timestamptz to
            $2, exclusive, stored by flushes from $3 int8[] to $4 int8[], pair by pair.
        expiry: What expires.
        proof: How it is proved.
    """

    name: str
    deltas: PartitionedTable
    group: Grouping
    columns: tuple[str, ...]
    fold: str
    fold_arguments: Callable[[Oldest], tuple[Any, ...]]
    make_up: str
    expiry: tuple[Expiry, ...]
    proof: Proof


@dataclass(frozen=True, slots=True)
class RollupTerms:
    """How long roll-ups live, whatever the raw rows' retention."""

    minutely_days: int
    hourly_days: int

    def oldest(self, now: datetime) -> Oldest:
        """Give the oldest time that is kept, by term."""
        return {
            "minute": now - timedelta(days=self.minutely_days),
            "hour": now - timedelta(days=self.hourly_days),
        }
