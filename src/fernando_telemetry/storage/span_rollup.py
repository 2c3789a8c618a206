"""The roll-up of spans by minute, licence, service and operation.

What is proved and what expires of calls between services (storage/service_edges.py) goes with it.
"""

from __future__ import annotations

from typing import Final

from fernando_telemetry.storage.partitions import SPAN_DELTAS
from fernando_telemetry.storage.rollup import Comparison, Expiry, Proof, RebuildStatement, Rollup
from fernando_telemetry.storage.span_deltas import SPAN_DELTA_COLUMNS, span_deltas
from fernando_telemetry.storage.statements import load

sql = load("span_rollup")
edges_sql = load("service_edges")

SPAN_ROLLUP: Final = Rollup(
    "span",
    SPAN_DELTAS,
    lambda fresh, _, flushed_at: span_deltas(fresh, flushed_at),
    SPAN_DELTA_COLUMNS,
    sql.fold,
    lambda oldest: (oldest["minute"],),
    sql.make_up,
    (
        Expiry(sql.expire_minutes, "minute"),
        Expiry(edges_sql.expire_chunks, "minute"),
        Expiry(edges_sql.expire_edges, "minute"),
    ),
    Proof(
        "traces",
        "span",
        (
            Comparison("span_minutes", sql.compare_minutes, "minute"),
            Comparison(
                "service_edges",
                edges_sql.compare_edges,
                "minute",
                planning=load("service_graph").join_by_hash,
            ),
        ),
        (
            RebuildStatement(sql.forget_deltas),
            RebuildStatement(sql.forget_minutes),
            RebuildStatement(sql.fill_minutes, "minute"),
            RebuildStatement(edges_sql.unlist_chunks),
        ),
    ),
)
