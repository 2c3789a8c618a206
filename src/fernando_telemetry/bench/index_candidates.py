"""What the benchmark of index sets compares: queries of the guide, and indexes that serve them.

Values are those of storage/sql/bench_rows.sql: skewed, so that a common, a rare and an unknown
one exist of each.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final


def _hex(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class Lookup:
    """One query and the values it is asked with.

    Attributes:
        statement: Its name in bench_lookups.sql; `<name>_guarded` beside it where there is one.
        values: By how common the value is.
    """

    statement: str
    values: dict[str, str]
    is_guarded: bool = False


@dataclass(frozen=True, slots=True)
class Candidate:
    """An index, measured alone beside the one on time."""

    label: str
    definition: str
    lookups: tuple[str, ...]


EVENT_LOOKUPS: Final = (
    Lookup(
        "events_by_user_id",
        {"common": "user-0", "rare": "user-rare", "unknown": "user-none"},
        is_guarded=True,
    ),
    Lookup(
        "events_by_license_id",
        {"common": "licence-0", "rare": "licence-rare", "unknown": "licence-none"},
        is_guarded=True,
    ),
    Lookup(
        "events_by_event_name",
        {"common": "event_0", "rare": "rare_event", "unknown": "no_event"},
        is_guarded=True,
    ),
    Lookup(
        "events_by_session_id",
        {"rare": "session-" + _hex("5"), "unknown": "session-none"},
        is_guarded=True,
    ),
    Lookup("events_by_trace_id", {"rare": _hex("t5"), "unknown": _hex("none")}, is_guarded=True),
    Lookup(
        "events_by_payload",
        {
            "common": '{"status_code": 200}',
            "rare": '{"document_id": "doc-77"}',
            "unknown": '{"document_id": "doc-none"}',
        },
    ),
    Lookup("events_by_type", {"common": "user_action", "rare": "performance_event"}),
)
SPAN_LOOKUPS: Final = (
    Lookup("spans_by_trace_id", {"rare": _hex("t5"), "unknown": _hex("none")}, is_guarded=True),
    Lookup(
        "spans_by_service_name",
        {"common": "service_0", "rare": "rare_service", "unknown": "no_service"},
    ),
    Lookup("spans_by_license_id", {"common": "licence-0", "unknown": "licence-none"}),
    Lookup("spans_by_user_id", {"rare": "user-5", "unknown": "user-none"}),
    Lookup("errors_of_service", {"common": "service_0", "unknown": "no_service"}),
)
SAMPLE_LOOKUPS: Final = (
    Lookup("samples_of_series", {"rare": "1000", "unknown": "99999"}),
    Lookup("samples_newest", {"rare": "1000", "unknown": "99999", "common": ""}),
)


def _bloom(column: str, distinct: int, rate: float = 0.01, pages: int = 64) -> str:
    return (
        f"USING brin ({column} text_bloom_ops(n_distinct_per_range = {distinct}, "
        f"false_positive_rate = {rate})) WITH (pages_per_range = {pages})"
    )


_USER, _LICENCE, _NAME = (
    ("events_by_user_id",),
    ("events_by_license_id",),
    ("events_by_event_name",),
)
_SESSION, _TRACE = ("events_by_session_id",), ("events_by_trace_id",)

EVENT_CANDIDATES: Final = (
    Candidate("user: bloom, n 300, 1 %", _bloom("user_id", 300), _USER),
    Candidate("user: bloom, n 1000, 1 %", _bloom("user_id", 1000), _USER),
    Candidate("user: bloom, n 1000, 0.1 %", _bloom("user_id", 1000, 0.001), _USER),
    Candidate("user: bloom, n 2000, 128 pages", _bloom("user_id", 2000, 0.001, 128), _USER),
    Candidate("user: B-tree (user_id)", "(user_id)", _USER),
    Candidate("user: B-tree (user_id, time)", "(user_id, event_timestamp)", _USER),
    Candidate("licence: bloom, n 300, 0.1 %", _bloom("license_id", 300, 0.001), _LICENCE),
    Candidate("licence: B-tree (license_id)", "(license_id)", _LICENCE),
    Candidate("licence: B-tree (license_id, time)", "(license_id, event_timestamp)", _LICENCE),
    Candidate("name: bloom, n 200, 0.1 %", _bloom("event_name", 200, 0.001), _NAME),
    Candidate("name: B-tree (event_name)", "(event_name)", _NAME),
    Candidate("name: B-tree (event_name, time)", "(event_name, event_timestamp)", _NAME),
    Candidate("session: bloom, n 1000, 0.1 %", _bloom("session_id", 1000, 0.001), _SESSION),
    Candidate("session: hash", "USING hash (session_id)", _SESSION),
    Candidate("session: B-tree", "(session_id)", _SESSION),
    Candidate("trace: bloom, n 500, 1 %", _bloom("trace_id", 500), _TRACE),
    Candidate("trace: bloom, n 500, 0.1 %", _bloom("trace_id", 500, 0.001), _TRACE),
    Candidate("trace: hash", "USING hash (trace_id)", _TRACE),
    Candidate("trace: B-tree", "(trace_id)", _TRACE),
    Candidate("payload: none", "", ("events_by_payload",)),
    Candidate(
        "payload: GIN jsonb_path_ops",
        "USING gin (event_data jsonb_path_ops)",
        ("events_by_payload",),
    ),
    Candidate("event_id: bloom", "USING brin (event_id uuid_bloom_ops)", ()),
    Candidate("event_id: minmax", "USING brin (event_id) WITH (pages_per_range = 64)", ()),
    Candidate("flush_id: minmax_multi", "USING brin (flush_id int8_minmax_multi_ops)", ()),
)
SPAN_CANDIDATES: Final = (
    Candidate("trace: bloom, n 500, 0.1 %", _bloom("trace_id", 500, 0.001), ("spans_by_trace_id",)),
    Candidate("trace: hash", "USING hash (trace_id)", ("spans_by_trace_id",)),
    Candidate("trace: B-tree", "(trace_id)", ("spans_by_trace_id",)),
    Candidate(
        "service: B-tree (service_name, time)",
        "(service_name, start_time)",
        ("spans_by_service_name",),
    ),
    Candidate(
        "licence: B-tree (license_id, time)", "(license_id, start_time)", ("spans_by_license_id",)
    ),
    Candidate("user: B-tree (user_id, time)", "(user_id, start_time)", ("spans_by_user_id",)),
    Candidate("errors: none", "", ("errors_of_service",)),
    Candidate(
        "errors: partial B-tree (time)",
        "(start_time) WHERE status = 'error'",
        ("errors_of_service",),
    ),
)
_BOTH = ("samples_of_series", "samples_newest")
SAMPLE_CANDIDATES: Final = (
    Candidate(
        "BRIN (series_id, time), 8 pages",
        "USING brin (series_id, time) WITH (pages_per_range = 8)",
        _BOTH,
    ),
    Candidate(
        "BRIN (series_id, time), 16 pages",
        "USING brin (series_id, time) WITH (pages_per_range = 16)",
        _BOTH,
    ),
    Candidate("B-tree (series_id)", "(series_id)", _BOTH),
    Candidate("B-tree (series_id, time)", "(series_id, time)", _BOTH),
    Candidate("B-tree (time)", "(time)", _BOTH),
)
