"""Every limit on records, batches and queries, in one table.

`LIMITS` is rendered to docs/limits.md (tests/contract holds the two together). Bytes are bytes
of UTF-8, never characters: PostgreSQL's B-tree takes 2,704 bytes of a row, and a longer key
would pass the lean hot partition and then keep it from ever being sealed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

INDEXED_TEXT_BYTES: Final = 256
OTHER_TEXT_BYTES: Final = 8 * 1024
LABEL_KEY_BYTES: Final = 64
LABEL_VALUE_BYTES: Final = 256
EVENT_TAG_BYTES: Final = 256
PAYLOAD_BYTES: Final = 256 * 1024
PAYLOAD_DEPTH: Final = 64
LABELS_PER_RECORD: Final = 64
TAGS_PER_RECORD: Final = 64
SPAN_EVENTS: Final = 128
SPAN_LINKS: Final = 128
DISTRIBUTION_BUCKETS: Final = 160
RECORD_BYTES: Final = 512 * 1024
BATCH_BYTES: Final = 8 * 1024 * 1024
BATCH_RECORDS: Final = 100_000
MESSAGE_BYTES: Final = 16 * 1024 * 1024
IN_FLIGHT_BATCHES: Final = 16
VERDICTS_PER_ACK: Final = 100
DURATION_MS: Final = 1e12
FUTURE_SECONDS: Final = 86_400
PERIOD_END_FUTURE_DAYS: Final = 400
PARTITION_HORIZON_DAYS: Final = 400
RETENTION_DAYS: Final = 36_500
RETENTION_POLICIES: Final = 10_000
SERIES_PER_METRIC: Final = 100_000
OVERFLOW_SERIES_PER_METRIC: Final = 10_000

PAGE_SIZE_DEFAULT: Final = 100
PAGE_SIZE_MAXIMUM: Final = 1_000
PAGE_BYTES: Final = 2 * 1024 * 1024
EXPORT_CHUNK_BYTES: Final = 1024 * 1024
FILTER_BYTES: Final = 8 * 1024
GROUP_BY_FIELDS: Final = 8
FILTER_TERMS: Final = 64
FILTER_DEPTH: Final = 16
QUERY_ROWS: Final = 10_000_000
TRACE_SPANS: Final = 200_000
TRACE_LANES: Final = 1_000
GRAPH_PARTS: Final = 5_000
QUERY_BUCKETS: Final = 11_000
EVENT_NAMES_PER_HOUR: Final = 1_000
TAIL_BUFFER_BYTES: Final = 4 * 1024 * 1024
TAILS_BYTES: Final = 64 * 1024 * 1024
TAIL_HEARTBEAT_SECONDS: Final = 15.0
TAIL_LOOK_SECONDS: Final = 1.0
TAIL_BEHIND_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Limit:
    """One row of the published table: what, how much, and what happens above it."""

    what: str
    amount: str
    above: str


LIMITS: Final = (
    Limit(
        "indexed text (names, categories, ids, sources, versions of an event)",
        "256 bytes",
        "record rejected: text_too_long",
    ),
    Limit("other text (user agent, URL, error message)", "8 KiB", "record rejected: text_too_long"),
    Limit("label and dimension keys", "64 bytes", "record rejected: text_too_long"),
    Limit("label and dimension values", "256 bytes", "record rejected: text_too_long"),
    Limit("an event's tag", "256 bytes", "record rejected: text_too_long"),
    Limit("a span's tag or attribute key", "256 bytes", "record rejected: text_too_long"),
    Limit("a span's tag or attribute value", "8 KiB", "record rejected: text_too_long"),
    Limit("event_data", "256 KiB", "record rejected: text_too_long"),
    Limit("depth of event_data", "64", "record rejected: json_too_deep"),
    Limit("labels, dimensions or tags of a record", "64", "record rejected: too_many_labels"),
    Limit("events of a span, links of a span", "128 each", "record rejected: too_many_items"),
    Limit("buckets of a distribution", "160", "record rejected: too_many_items"),
    Limit("a duration", "0 to 1e12 ms", "record rejected: value_out_of_range"),
    Limit("a record", "512 KiB", "record rejected: record_too_large"),
    Limit("a batch", "8 MiB", "batch refused: too_many_bytes"),
    Limit("records of a batch", "100,000", "batch refused: too_many_records"),
    Limit("a gRPC message", "16 MiB", "call ended: RESOURCE_EXHAUSTED by gRPC itself"),
    Limit(
        "batches in flight on a stream", "16", "the stream is not read until one is acknowledged"
    ),
    Limit("verdicts in an ack", "100", "the counts go on, verdicts_truncated is set"),
    Limit(
        "age of a record",
        "the retention of its kind and licence (by default events 90, metrics 180, spans 30 days)",
        "record rejected: time_too_old",
    ),
    Limit("time ahead of the server's clock", "1 day", "record rejected: time_in_future"),
    Limit("period_end ahead of the server's clock", "400 days", "record rejected: time_in_future"),
    Limit("days of a retention policy", "36,500; 0: for ever", "INVALID_FIELD"),
    Limit("retention policies", "10,000", "INVALID_FIELD"),
    Limit(
        "rejected records kept (off by default)",
        "256 MiB (FERNANDO_REJECTED_BYTES), 7 days (FERNANDO_REJECTED_DAYS)",
        "further ones are not kept; older ones are deleted",
    ),
    Limit(
        "series of a metric and licence seen in the last 7 days",
        "100,000 (FERNANDO_SERIES_LIMIT)",
        "sample kept in a series with `__overflow__` for the label with most distinct values: "
        "label_cardinality",
    ),
    Limit(
        "such overflow series",
        "10,000 more; then 1,000 more without any label or instance, then one for each type and "
        "temporality",
        "sample kept in the next coarser series: label_cardinality, field_path `labels`",
    ),
    Limit("page_size", "1,000", "coerced to it; below 0: INVALID_FIELD"),
    Limit("a page", "2 MiB", "the page ends early with a next_page_token"),
    Limit("a chunk of an export", "1 MiB", "the next one begins; a record is never cut"),
    Limit("exports of a server at once", "2 (FERNANDO_EXPORTS)", "OVERLOADED"),
    Limit(
        "time that a caller of an export takes nothing",
        "60 s (FERNANDO_EXPORT_STALL_SECONDS)",
        "SLOW_CONSUMER; the last chunk's token goes on",
    ),
    Limit("a filter", "8 KiB, 64 comparisons, 16 levels of AND, OR and NOT", "INVALID_FILTER"),
    Limit("fields of a group_by", "8", "INVALID_FIELD"),
    Limit("a query", "30 s (FERNANDO_QUERY_TIMEOUT_SECONDS)", "QUERY_TOO_EXPENSIVE"),
    Limit(
        "event names of a licence and hour that summaries tell apart",
        "1,000",
        "the others are counted as `__other__`",
    ),
    Limit("time buckets of a summary", "11,000", "QUERY_TOO_EXPENSIVE"),
    Limit("time buckets of a series in QuerySystemMetrics", "11,000", "QUERY_TOO_EXPENSIVE"),
    Limit("raw samples that a page of time series reads", "10,000,000", "QUERY_TOO_EXPENSIVE"),
    Limit("raw events that a summary reads", "10,000,000", "QUERY_TOO_EXPENSIVE"),
    Limit(
        "spans that a search is about, or that a service graph reads",
        "10,000,000",
        "QUERY_TOO_EXPENSIVE",
    ),
    Limit(
        "time from a span to what it calls that a service graph sees",
        "10 minutes before to 1 minute after, by whole minutes of UTC",
        "no call is seen; both services are",
    ),
    Limit("services and edges of a service graph, together", "5,000", "QUERY_TOO_EXPENSIVE"),
    Limit("open tails of a worker", "100 (FERNANDO_TAILS)", "RESOURCE_EXHAUSTED OVERLOADED"),
    Limit(
        "events that wait for the client of a tail",
        "4 MiB, the cursor included; 64 MiB for all tails of a worker",
        "further events are dropped, dropped_count says how many",
    ),
    Limit(
        "events that a worker reads for tails in a second",
        "2,000 (FERNANDO_TAIL_EVENTS_PER_SECOND)",
        "further events are dropped, dropped_count says how many",
    ),
    Limit(
        "how far the tails of a worker fall behind, while there is more than a step to read",
        "10 s",
        "what is older is left out; dropped_count has all of it, filtered or not",
    ),
    Limit(
        "a tail without news",
        "15 s",
        "a message without events, with the cursor",
    ),
    Limit("spans of a trace in GetTrace", "200,000", "QUERY_TOO_EXPENSIVE; ListSpans has them"),
    Limit(
        "spans of the traces that a worker keeps for their next pages, for 30 s, some 0.7 kB each",
        "200,000",
        "the next page is put together anew, which takes 2 s for 100,000 spans",
    ),
    Limit(
        "lanes (runs of a server's writers) that a trace of several pages was stored by",
        "1,000",
        "QUERY_TOO_EXPENSIVE",
    ),
)


def render_markdown() -> str:
    """Render the table as docs/limits.md holds it, final line break included."""
    rows = [f"| {limit.what} | {limit.amount} | {limit.above} |" for limit in LIMITS]
    head = (
        "# Limits",
        "",
        "Rendered from `LIMITS` in `src/fernando_telemetry/domain/limits.py`. Bytes are bytes of",
        "UTF-8. A rejected record costs only itself; a refused batch stores nothing and uses its",
        "number up.",
        "",
        "| what | limit | above it |",
        "|---|---|---|",
    )
    return "\n".join([*head, *rows]) + "\n"
