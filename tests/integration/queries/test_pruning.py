"""Lists read the partitions of their time range only."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from fernando_telemetry.domain.calendar import midnight
from fernando_telemetry.domain.time_range import TimeRange
from fernando_telemetry.storage.list_statement import Parameters, Selection, Source, statement
from fernando_telemetry.storage.lists import EVENTS, SPANS
from fernando_telemetry.storage.partitions import Partitions, raw_tables
from fernando_telemetry.storage.sessions import ControlPool
from fernando_telemetry.storage.statements import load
from tests.conftest import session_settings

TODAY = midnight(datetime.now(UTC))


@pytest.fixture
async def three_days(database: str) -> None:
    control = ControlPool(session_settings(database), 1)
    await Partitions(control, raw_tables()).ensure_ahead(TODAY - timedelta(days=2), 2)
    await control.close()


async def partitions_read(connection: Any, text: str, parameters: Parameters) -> set[str]:
    await connection.execute("SET plan_cache_mode = force_custom_plan")
    plan = await connection.fetch("EXPLAIN " + text, *parameters.values)
    return set(re.findall(r"_p(\d{8})", "\n".join(row[0] for row in plan)))


@pytest.mark.usefixtures("three_days")
@pytest.mark.parametrize(
    ("source", "keys"),
    [
        (EVENTS, (UUID(int=1),)),
        (SPANS, ("a", "b", 1, 1)),
    ],
)
async def test_partitions_of_the_range_and_beyond_the_place(
    connection: Any, source: Source, keys: tuple[Any, ...]
) -> None:
    whole = TimeRange(TODAY - timedelta(days=2), TODAY + timedelta(days=1))
    place = (TODAY - timedelta(hours=13), *keys)

    async def read(time_range: TimeRange, after: Any, *, descending: bool = True) -> int:
        parameters = Parameters(time_range.start, time_range.end)
        selection = Selection(time_range, (), descending, after, 101)
        text = statement(source, selection, parameters)
        return len(await partitions_read(connection, text, parameters))

    assert await read(whole, None) == 3
    assert await read(TimeRange(TODAY, TODAY + timedelta(hours=1)), None) == 1
    assert await read(whole, place) == 2
    assert await read(whole, place, descending=False) == 2


@pytest.mark.usefixtures("three_days")
async def test_whole_spans_are_read_from_the_partitions_that_have_them(connection: Any) -> None:
    sql = load("list_trace")
    parameters = Parameters(TODAY, TODAY + timedelta(hours=1), "a", [1, 1], [1, 2])
    assert len(await partitions_read(connection, sql.placed_spans, parameters)) == 1
    parameters = Parameters(TODAY - timedelta(hours=13), TODAY, "a", 101)
    assert len(await partitions_read(connection, sql.outline, parameters)) == 1
