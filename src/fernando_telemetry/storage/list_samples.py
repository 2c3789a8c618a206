"""Reads samples: plain ones and distributions in one order, with the identity of their series.

A filter on series columns is resolved to series ids first, in the same snapshot. Plain samples
have no identity of their own: those equal in time, series, flush and value are interchangeable,
and the place in the order says how many of them were given.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Final

from fernando_telemetry.domain.filter_columns import SERIES_COLUMNS
from fernando_telemetry.domain.filters import Condition, columns_of
from fernando_telemetry.domain.paging import KeyType, Position
from fernando_telemetry.storage.list_statement import (
    Joined,
    Key,
    Parameters,
    Selection,
    Source,
    compiled,
    filtered,
    order,
    statement,
)
from fernando_telemetry.storage.lists import Row, slices
from fernando_telemetry.storage.sessions import Connection
from fernando_telemetry.storage.statements import load

sql = load("list_samples")

_ORDER: Final = (
    Key("time", "time"),
    Key("series_id", "int4"),
    Key("flush_id", "int8"),
    Key("ordinal", "int4"),
    Key("key_value", "float8"),
)
# The last one counts the rows equal in all others that were given.
SAMPLE_KEY_TYPES: Final[tuple[KeyType, ...]] = (*(key.type for key in _ORDER), "int8")

_SERIES: Final = Source(sql.matching_series, (), {"series_id": "identity_hash"})
# For conditions that speak of series and samples; others are resolved to ids beforehand.
_OF_SERIES: Final = Joined("series_id", SERIES_COLUMNS, _SERIES)
_COLUMNS: Final = {"metric_timestamp": "time", "metric_value": "value"}
_PERCENTILES: Final = ("percentile_50", "percentile_90", "percentile_95", "percentile_99")
SAMPLES: Final = Source(
    sql.samples,
    (*_ORDER[:3], Key("ordinal", "int4", "(-1)::integer"), Key("key_value", "float8", "value")),
    {**_COLUMNS, **dict.fromkeys(_PERCENTILES, "NULL::double precision")},
    inclusive=True,
    joined=_OF_SERIES,
)
DISTRIBUTIONS: Final = Source(
    sql.distributions,
    (*_ORDER[:4], Key("key_value", "float8", "0::double precision")),
    _COLUMNS,
    inclusive=True,
    joined=_OF_SERIES,
)
_keys_of = itemgetter(*(key.name for key in _ORDER))


@dataclass(frozen=True, slots=True)
class SampleRow:
    """A sample and the identity of its series; samples of one series share the latter's object.

    The series is None where expiry took it while its sample is still there.
    """

    sample: Row
    series: Row | None


async def listed_samples(
    connection: Connection, selection: Selection
) -> AsyncIterator[tuple[Position, SampleRow]]:
    """Give the samples of a selection in order, each with its place.

    Args:
        connection: Inside a repeatable-read transaction: series and samples fit together.
        selection: Which samples; the place is the keys and the count of equal rows given.
    """
    of_series = [one for one in selection.conditions if is_of_series(one)]
    series_ids = await _matching_series(connection, of_series) if of_series else None
    if series_ids == []:
        return
    keys, given = (selection.after[:-1], selection.after[-1]) if selection.after else (None, 0)
    text, parameters = _statement(
        replace(
            selection,
            conditions=tuple(one for one in selection.conditions if one not in of_series),
            after=keys,
            limit=selection.limit + given,
        ),
        series_ids,
    )
    known: dict[int, Row] = {}
    to_skip, count = given, given
    async for rows in slices(connection, text, parameters):
        await _learn_series(connection, rows, known)
        for row in rows:
            found = _keys_of(row)
            if found != keys:
                keys, to_skip, count = found, 0, 0
            elif to_skip:
                to_skip -= 1
                continue
            count += 1
            yield (*found, count), SampleRow(row, known.get(row["series_id"]))


def is_of_series(condition: Condition) -> bool:
    """Tell whether a condition speaks of series alone, and not of samples as well."""
    return all(column.name in SERIES_COLUMNS for column in columns_of(condition))


async def _matching_series(connection: Connection, conditions: list[Condition]) -> list[int]:
    parameters = Parameters()
    text = filtered(_SERIES.base, compiled(conditions, _SERIES, parameters))
    return [row[0] for row in await connection.fetch(text, *parameters.values)]


async def _learn_series(connection: Connection, rows: list[Row], known: dict[int, Row]) -> None:
    unknown = {row["series_id"] for row in rows} - known.keys()
    if unknown:
        known |= await series_by_id(connection, unknown)


async def series_by_id(connection: Connection, series_ids: Iterable[int]) -> dict[int, Row]:
    """Give the identities of series, by number; those that are there."""
    rows = await connection.fetch(sql.series, list(series_ids))
    return {row["series_id"]: row for row in rows}


def _statement(selection: Selection, series_ids: list[int] | None) -> tuple[str, Parameters]:
    """Put the page's statement together: each table sorted and cut, then both merged."""
    parameters = Parameters(selection.time_range.start, selection.time_range.end)
    of_series = ""
    if series_ids is not None:
        of_series = f" AND series_id = ANY ({parameters.add(series_ids, 'integer[]')})"
    branches = [
        statement(replace(source, base=source.base.rstrip() + of_series), selection, parameters)
        for source in (SAMPLES, DISTRIBUTIONS)
    ]
    limit = parameters.add(selection.limit, "bigint")
    merged = " UNION ALL ".join(f"({branch})" for branch in branches)
    return f"{merged}\n{order(_ORDER, descending=selection.descending)} LIMIT {limit}", parameters
