"""The schema: SQLAlchemy metadata that Alembic compares the migrations with.

columns.py            the metadata, and columns that many tables have
enums.py              PostgreSQL's enum types
raw_records.py        events, samples, distributions, KPIs and spans, by their time
series.py             what samples and distributions refer to by a number
write_protocol.py     lanes, flushes, producers and marks
rejected_records.py   records that got a verdict
event_rollups.py      events by the hour, and their users
sample_rollups.py     samples by the minute and by the hour
span_rollups.py       spans by the minute
service_edges.py      calls between services by ten minutes
rollup_gaps.py        what roll-ups lack
rule_windows.py       what alert rules look at
installation.py       what this database is
retention.py          how long records live
alerts.py             alert rules and alerts

Rules that hold from the first migration and that a catalogue test keeps (DESIGN section 8):
every append-only table carries `shard smallint not null`, and it is part of every unique key such
a table has (the other tables are small, and whole on every node); no triggers; keys contain the
time column where a table is partitioned; BRIN and GIN indexes are made per partition
(storage/partitions.py), never on a parent.

Optional texts of raw tables are NULL when empty. Keys (marks, producers, roll-ups) use '' instead:
NULL never conflicts, so an upsert would double.

A roll-up has a table of *deltas* beside it: partial aggregates, appended in the flush. The fold
moves them into the roll-up (storage/fold.py).
"""

from __future__ import annotations

from fernando_telemetry.storage.schema import (
    alerts,
    event_rollups,
    installation,
    raw_records,
    rejected_records,
    retention,
    rollup_gaps,
    rule_windows,
    sample_rollups,
    series,
    service_edges,
    span_rollups,
    write_protocol,
)
from fernando_telemetry.storage.schema.columns import metadata

# The modules too: to import one is to add its tables to the metadata.
__all__ = [
    "APPEND_ONLY_TABLES",
    "RAW_TABLES",
    "alerts",
    "event_rollups",
    "installation",
    "metadata",
    "raw_records",
    "rejected_records",
    "retention",
    "rollup_gaps",
    "rule_windows",
    "sample_rollups",
    "series",
    "service_edges",
    "span_rollups",
    "write_protocol",
]

RAW_TABLES = raw_records.RAW_TABLES

APPEND_ONLY_TABLES = (
    *RAW_TABLES,
    event_rollups.event_deltas,
    event_rollups.event_user_deltas,
    event_rollups.event_hours,
    event_rollups.event_type_hours,
    event_rollups.event_hour_names,
    event_rollups.event_user_hours,
    event_rollups.event_type_user_hours,
    sample_rollups.sample_deltas,
    sample_rollups.sample_minutes,
    sample_rollups.sample_hours,
    span_rollups.span_deltas,
    span_rollups.span_minutes,
    service_edges.service_edges,
    service_edges.service_edge_chunks,
    rollup_gaps.rollup_gaps,
    rule_windows.rule_window_deltas,
    write_protocol.flushes,
    write_protocol.producers,
    write_protocol.claims,
    write_protocol.progress,
    write_protocol.batch_marks,
    write_protocol.request_marks,
    rejected_records.rejected_records,
)
