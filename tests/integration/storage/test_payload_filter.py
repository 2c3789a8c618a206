"""A filter on a part of a payload is served by the sealed partition's GIN index."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from fernando_telemetry.domain.filter_columns import EVENT_COLUMNS
from fernando_telemetry.domain.filters import parse
from fernando_telemetry.domain.time_range import TimeRange
from fernando_telemetry.storage.list_statement import Parameters, Selection, statement
from fernando_telemetry.storage.lists import EVENTS
from fernando_telemetry.storage.sessions import ControlPool
from tests.integration.storage.partition_rows import PAST, fill, make_partition, sealer


@pytest.mark.parametrize(
    "text",
    [
        "event_data.n = 17",
        'event_data.n = "17"',
        "event_data.n:17",
        "event_name = nothing OR event_data.n = 17",
    ],
)
async def test_equality_of_a_part_uses_the_index(
    database: str, control: ControlPool, connection: Any, text: str
) -> None:
    await make_partition(control)
    await fill(connection, 20_000)
    sealing = sealer(database, control, grace_seconds=0.0)
    end = PAST + timedelta(hours=1)
    while await sealing.seal_due(end):
        pass
    assert await sealing.count_unsealed(end) == 0
    selection = Selection(
        TimeRange(PAST, PAST + timedelta(hours=1)), parse(text, EVENT_COLUMNS), True, None, 101
    )
    parameters = Parameters(selection.time_range.start, selection.time_range.end)
    made = statement(EVENTS, selection, parameters)
    await connection.execute("SET plan_cache_mode = force_custom_plan")
    plan = "\n".join(
        row[0] for row in await connection.fetch("EXPLAIN " + made, *parameters.values)
    )
    assert "_event_data" in plan, plan
