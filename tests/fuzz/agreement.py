"""Checks batches on both paths, as columns and record by record, and wants the same of them."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from fernando_telemetry.domain.retention import Retention
from fernando_telemetry.ingest.checks.context import RecordDefaults, context_for
from fernando_telemetry.ingest.columnar.decoding import GivenBatch
from fernando_telemetry.ingest.group_check import GroupChecker
from fernando_telemetry.ingest.record_check import CheckedBatch
from fernando_telemetry.storage.rows import EVENTS, RAW_TABLES, SPANS, RawTable

NOW = datetime.now(UTC)
RETENTION = Retention.of_days(90, 180, 180, 30)
DEFAULTS = (
    RecordDefaults(),
    RecordDefaults(license_id="acme", source="web", service_name="billing", host_name="h1"),
    RecordDefaults(license_id="other", source_version="2", instance_id="i"),
)
JSON_COLUMNS = {
    EVENTS.name: {EVENTS.given.index("event_data")},
    SPANS.name: {SPANS.given.index(name) for name in ("tags", "events", "links")},
}

fast = GroupChecker(fewest_records=1)
plain = GroupChecker(use_columns=False)


def comparable(table: RawTable, row: tuple[Any, ...]) -> str:
    """Give a row as text; JSON by what it means (jsonb keeps the last of equal keys, as Python)."""
    json_places = JSON_COLUMNS.get(table.name, set())

    def shown(place: int, value: Any) -> Any:
        if isinstance(value, datetime):
            return value.isoformat(timespec="microseconds")
        if place not in json_places or value is None:
            return value
        # Numbers by their text: Python neither reads the longest nor tells 1e5 from 100000.0.
        return json.dumps(json.loads(value, parse_int=str, parse_float=str), sort_keys=True)

    return repr([shown(place, value) for place, value in enumerate(row)])


def outcome(result: CheckedBatch) -> Any:
    """Give what became of a batch, in a form that can be compared."""
    assert result.digest
    if result.refused is not None:
        return result.refused.reason, result.refused.detail, result.digest
    rows: Counter[tuple[str, str, int, str]] = Counter()
    for table in RAW_TABLES:
        pairs = zip(result.rows.rows[table.name], result.rows.places[table.name], strict=True)
        for row, (kind, index) in pairs:
            rows[table.name, kind, index, comparable(table, row)] += 1
    for part in result.slices:
        block = part.block
        indexes = block.indexes[part.start : part.stop].tolist()
        for row, index in zip(part.rows(), indexes, strict=True):
            rows[block.table.name, block.kind, index, comparable(block.table, row)] += 1
    tally = result.tally
    counts = (tally.accepted, tally.rejected, tally.adjusted, tally.truncated)
    return rows, counts, tally.verdicts, result.digest


async def both(*batches: bytes, defaults: tuple[RecordDefaults, ...] = DEFAULTS[:1]) -> list[Any]:
    """Check a group both ways, want the same, and give it."""
    given = [
        GivenBatch(data, context_for(NOW, defaults[place % len(defaults)], RETENTION), True)
        for place, data in enumerate(batches)
    ]
    one = [outcome(result) for result in await fast.check(given)]
    other = [outcome(result) for result in await plain.check(given)]
    for mine, its in zip(one, other, strict=True):
        if mine != its and len(mine) == len(its) == 4:
            assert mine[0] - its[0] == its[0] - mine[0]
        assert mine == its
    return one
