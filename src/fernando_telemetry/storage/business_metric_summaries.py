"""Adds current KPIs up by groups.

Values of different units, currencies or period types never meet in one group, and neither do
different KPIs. A total is given only where every value is a sum or a count.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Final

from fernando_telemetry.domain.grouping import GroupField, group_column
from fernando_telemetry.domain.paging import KeyType, Position
from fernando_telemetry.storage.list_statement import (
    Key,
    Parameters,
    Selection,
    Source,
    compiled,
    filtered,
    group_expression,
)
from fernando_telemetry.storage.lists import CURRENT_BUSINESS_METRICS, Row, in_order
from fernando_telemetry.storage.sessions import Connection

_ALWAYS: Final = ("metric_name", "metric_category", "metric_unit", "currency", "period_type")
_VALUE: Final = "metric_value::numeric"
_ADDS_UP: Final = "bool_and(coalesce(calculation_method IN ('sum', 'count'), false))"
# Of values of one period the newest record decides.
_LATEST: Final = "period_end DESC, period_start DESC, metric_id DESC"
_AGGREGATES: Final = f"""count(*) AS value_count,
    CASE WHEN {_ADDS_UP} THEN sum({_VALUE})::text END AS total_value,
    trim_scale(avg({_VALUE}))::text AS avg_value,
    min({_VALUE})::text AS min_value, max({_VALUE})::text AS max_value,
    (array_agg(metric_value ORDER BY {_LATEST}))[1] AS last_value,
    count(DISTINCT license_id) AS active_licenses, count(DISTINCT user_id) AS unique_users"""


def summary_key_types(fields: Sequence[GroupField]) -> tuple[KeyType, ...]:
    """Give the types of the order that summaries by these fields come in."""
    text: KeyType = "text"
    return (text,) * (len(_ALWAYS) + len(fields))


async def summarized_business_metrics(
    connection: Connection, selection: Selection, fields: Sequence[GroupField]
) -> AsyncIterator[tuple[Position, Row]]:
    """Give the groups of the current KPIs of a selection in order, each with its keys.

    Args:
        connection: Inside a transaction, which the cursor needs.
        selection: Its filter says which KPIs; place and limit are about groups.
        fields: Of `group_by`.
    """
    parameters = Parameters(selection.time_range.start, selection.time_range.end)
    conditions = compiled(selection.conditions, CURRENT_BUSINESS_METRICS, parameters)
    current = filtered(CURRENT_BUSINESS_METRICS.base, conditions)
    columns = [f"coalesce({name}, '') AS {name}" for name in _ALWAYS]
    columns += [
        f"coalesce({group_expression(field, parameters)}, '') AS {group_column(place)}"
        for place, field in enumerate(fields)
    ]
    places = ", ".join(str(place) for place in range(1, len(columns) + 1))
    grouped = " ".join(
        ("SELECT", ", ".join([*columns, _AGGREGATES]), "FROM (", current, ") kpis GROUP BY", places)
    )
    names = (*_ALWAYS, *(group_column(place) for place in range(len(fields))))
    source = Source(
        # Fixed expressions; what a caller gave are parameters.
        f"SELECT * FROM ({grouped}) summaries WHERE true",  # noqa: S608
        tuple(Key(name, "text") for name in names),
    )
    unfiltered = replace(selection, conditions=())
    async for found in in_order(connection, source, unfiltered, parameters):
        yield found
