"""Which series time series are computed of, and which of them become one line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from fernando_telemetry.domain.alignment import Aggregation, Buckets
from fernando_telemetry.domain.filters import Condition, Filter
from fernando_telemetry.domain.grouping import GroupField, group_column
from fernando_telemetry.domain.paging import KeyType, Position
from fernando_telemetry.domain.rollup_cover import Cover
from fernando_telemetry.domain.time_range import TimeRange
from fernando_telemetry.storage.list_statement import (
    Key,
    Parameters,
    Source,
    compiled,
    filtered,
    group_expression,
    order,
)
from fernando_telemetry.storage.sessions import Connection
from fernando_telemetry.storage.statements import load

sql = load("time_series")


@dataclass(frozen=True, slots=True)
class Computation:
    """What is computed.

    Args:
        time_range: Of the samples.
        buckets: Of the range.
        align: How the samples of a series in a bucket become one value.
        reduce: How series of a group become one; None: each by itself.
        fields: Of `group_by`.
        conditions: On samples.
        cover: Which parts of the range roll-ups may answer for; growth, percentiles and conditions
            need raw rows.
    """

    time_range: TimeRange
    buckets: Buckets
    align: Aggregation
    reduce: Aggregation | None
    fields: tuple[GroupField, ...]
    conditions: Filter
    cover: Cover

    @property
    def key_types(self) -> tuple[KeyType, ...]:
        """Types of a line's place."""
        if self.reduce is None:
            return ("int4",)
        text: KeyType = "text"
        return (text,) * len(self.fields)


@dataclass(frozen=True, slots=True)
class Member:
    """A series that was found.

    Args:
        series_id: Its number.
        metric_type: The type's word.
        metric_unit: "" for none.
        is_cumulative: Whether its values count on from sample to sample.
    """

    series_id: int
    metric_type: str
    metric_unit: str
    is_cumulative: bool


@dataclass(frozen=True, slots=True)
class Group:
    """Series that become one line.

    Args:
        place: Its keys in the order of the answer.
        members: At least one.
    """

    place: Position
    members: tuple[Member, ...]


async def groups_of(
    connection: Connection, asked: Computation, conditions: Iterable[Condition]
) -> list[Group]:
    """Find the series and put them into groups, in the order of the answer.

    Args:
        connection: Inside a repeatable-read transaction: series and samples fit together.
        asked: What is computed.
        conditions: On series.
    """
    parameters = Parameters(asked.time_range.start)
    source = Source("", (), {"series_id": "identity_hash"})
    found = filtered(sql.series, compiled(conditions, source, parameters))
    keys = [Key(group_column(place), "text") for place in range(len(asked.fields))]
    groups = "".join(
        f", coalesce(({group_expression(one, parameters)})::text, '') AS {key.name}"
        for key, one in zip(keys, asked.fields, strict=True)
    )
    # Made of fixed expressions and parameters only.
    text = f"""
SELECT * FROM (
    SELECT series_id, metric_type::text, coalesce(metric_unit, '') AS metric_unit,
        temporality IS NOT DISTINCT FROM 'cumulative' AS is_cumulative{groups}
    FROM ({found}) AS found
) AS members {order([*keys, Key("series_id", "int4")], descending=False)}"""  # noqa: S608
    rows = await connection.fetch(text, *parameters.values)
    members = (
        (tuple(row[key.name] for key in keys), Member(*(row[place] for place in range(4))))
        for row in rows
    )
    if asked.reduce is None:
        return [Group((member.series_id,), (member,)) for _, member in members]
    return [
        Group(place, tuple(member for _, member in grouped))
        for place, grouped in groupby(members, key=lambda one: one[0])
    ]
