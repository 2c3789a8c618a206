"""Reads the series there are, or those with a sample in a time range."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from fernando_telemetry.domain.paging import Position
from fernando_telemetry.storage.list_statement import Key, Parameters, Selection, Source
from fernando_telemetry.storage.lists import Row, in_order
from fernando_telemetry.storage.sessions import Connection
from fernando_telemetry.storage.statements import load

sql = load("list_series")

_KEYS: Final = (Key("metric_name", "text"), Key("series_id", "int4"))
# The contract's series_id is the identity's hash.
_EXPRESSIONS: Final = {"series_id": "identity_hash"}
_ALL: Final = Source(sql.all_series, _KEYS, _EXPRESSIONS)
_ACTIVE: Final = Source(sql.active_series, _KEYS, _EXPRESSIONS)
SERIES_KEY_TYPES: Final = _ALL.key_types


async def listed_series(
    connection: Connection, selection: Selection, *, active_only: bool
) -> AsyncIterator[tuple[Position, Row]]:
    """Give series by name and age, each with its keys.

    Args:
        connection: Inside a transaction, which the cursor needs.
        selection: Which series; its time range counts with `active_only` only.
        active_only: Only those with a sample in the time range.
    """
    source, parameters = _ALL, Parameters()
    if active_only:
        source = _ACTIVE
        parameters = Parameters(selection.time_range.start, selection.time_range.end)
    async for found in in_order(connection, source, selection, parameters):
        yield found
