"""What `send` takes on the command line: the contract's fields, one flag each.

Names are the contract's with dashes for underscores. Which values are right is the server's to
say: nothing is checked here that a verdict would tell. A test holds the tables complete.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from fernando_telemetry.domain import vocabulary

FlagKind = Literal["text", "word", "number", "integer", "time", "texts", "pairs", "json", "jsons"]

REPEATABLE: Final = frozenset({"texts", "pairs", "jsons"})


@dataclass(frozen=True, slots=True)
class Flag:
    """One field of a record as a flag.

    Args:
        field: The contract's name.
        help: For `--help`.
        kind: How its text is read. `pairs` are `key=value`; `json` is the protobuf JSON form of a
            message; those in REPEATABLE may be given more than once.
        words: The values of an enum.
    """

    field: str
    help: str
    kind: FlagKind = "text"
    words: tuple[str, ...] = ()

    @property
    def option(self) -> str:
        """Its name on the command line."""
        return "--" + self.field.replace("_", "-")


@dataclass(frozen=True, slots=True)
class RecordType:
    """A kind of record that `send` knows.

    Args:
        name: The command.
        message: Name of its message in the contract.
        records_field: Its list in TelemetryRecords.
        noun: For sentences, singular; the plural has an s.
        flags: All its fields but those the server sets.
    """

    name: str
    message: str
    records_field: str
    noun: str
    flags: tuple[Flag, ...]


def _word(field: str, text: str, words: tuple[str, ...]) -> Flag:
    return Flag(field, f"{text}: {', '.join(words)}.", "word", words)


_TIME: Final = "RFC 3339, now or -5m"
_LICENSE: Final = Flag("license_id", "Licence (tenant) it belongs to.")

EVENT: Final = RecordType(
    "event",
    "Event",
    "events",
    "event",
    (
        _word("event_type", "Required. What kind it is", vocabulary.EVENT_TYPES),
        Flag("event_name", "Required. What happened, such as user_login."),
        Flag("event_timestamp", f"When: {_TIME}. Default: when the server gets it.", "time"),
        Flag("event_category", "Group of the name, such as authentication."),
        Flag("event_data", "Payload: one JSON object as text."),
        Flag("tags", "A word to find it by.", "texts"),
        Flag("duration_ms", "How long it took, in milliseconds.", "number"),
        Flag("user_id", "Who did it or whom it concerns."),
        _LICENSE,
        Flag("session_id", "The user's session."),
        Flag("source", "Program that reports it, such as web."),
        Flag("source_version", "Version of the source."),
        Flag("source_ip", "Address of the user's machine."),
        Flag("user_agent", "User-Agent header of the request."),
        Flag("trace_id", "Trace it belongs to: 32 or 16 hex digits."),
        Flag("span_id", "Span it belongs to: 16 hex digits."),
    ),
)

METRIC: Final = RecordType(
    "metric",
    "SystemMetric",
    "system_metrics",
    "metric",
    (
        Flag("metric_name", "Required. What is measured, such as cpu_usage."),
        _word("metric_type", "Required. How values are read", vocabulary.METRIC_TYPES),
        Flag("metric_value", "The value; or give percentiles or a distribution.", "number"),
        Flag("metric_unit", "Unit of the values, such as percentage, ms or bytes."),
        Flag("metric_timestamp", f"When: {_TIME}. Default: when the server gets it.", "time"),
        Flag("service_name", "The service measured."),
        Flag("host_name", "The machine measured."),
        Flag("instance_id", "The instance of the service."),
        Flag("labels", "A further dimension.", "pairs"),
        Flag("percentile_50", "Median of the values behind the sample.", "number"),
        Flag("percentile_90", "Their 90th percentile.", "number"),
        Flag("percentile_95", "Their 95th percentile.", "number"),
        Flag("percentile_99", "Their 99th percentile.", "number"),
        _word("temporality", "What a counter counts from", vocabulary.TEMPORALITIES),
        Flag("distribution", 'Counted buckets: {"count": …, "sum": …, …}.', "json"),
        _LICENSE,
    ),
)

KPI: Final = RecordType(
    "kpi",
    "BusinessMetric",
    "business_metrics",
    "KPI",
    (
        Flag("metric_name", "Required. What is counted, such as monthly_recurring_revenue."),
        Flag("metric_value", "Required. A decimal such as 49.90, stored with these digits."),
        Flag("currency", "ISO 4217 code of money, such as EUR."),
        Flag("metric_unit", "Unit of what is not money, such as requests."),
        Flag("metric_category", "Group of the name, such as revenue."),
        Flag("period_start", f"Required. First moment of the period: {_TIME}.", "time"),
        Flag("period_end", f"Required. End of the period, exclusive: {_TIME}.", "time"),
        _word("period_type", "What kind of period", vocabulary.PERIOD_TYPES),
        _word("calculation_method", "How it was computed", vocabulary.CALCULATION_METHODS),
        Flag("customer_id", "The customer it is about."),
        Flag("user_id", "The user it is about."),
        _LICENSE,
        Flag("dimensions", "A further dimension.", "pairs"),
        Flag("time_zone", "IANA time zone of the period. Default: UTC."),
    ),
)

SPAN: Final = RecordType(
    "span",
    "Span",
    "spans",
    "span",
    (
        Flag("trace_id", "The trace: 32 or 16 hex digits. Default: a new random one."),
        Flag("span_id", "The span: 16 hex digits. Default: a new random one."),
        Flag("parent_span_id", "The span that caused it: 16 hex digits."),
        Flag("service_name", "Required. The service that did the work."),
        Flag("operation_name", "What it did, such as GET /users/{id}."),
        Flag("duration_ms", "How long it took, in milliseconds.", "number"),
        Flag("start_time", f"When it began: {_TIME}. Default: just now, less duration.", "time"),
        _word("kind", "Which side of a call", vocabulary.SPAN_KINDS),
        _word("status", "How it ended", vocabulary.SPAN_STATUSES),
        Flag("error_message", "What went wrong, for people."),
        Flag("http_method", "Method of the HTTP request."),
        Flag("http_url", "URL of the HTTP request."),
        Flag("http_status_code", "Status of the HTTP response.", "integer"),
        Flag("user_id", "On whose behalf the work was done."),
        _LICENSE,
        Flag("session_id", "The user's session."),
        Flag("host_name", "The machine that did the work."),
        Flag("instance_id", "The instance of the service."),
        Flag("service_version", "Version of the service."),
        Flag("trace_state", "W3C tracestate header."),
        Flag("tags", "A further attribute.", "pairs"),
        Flag("events", 'A moment inside it: {"time": …, "name": …, "attributes": {…}}.', "jsons"),
        Flag("links", 'Another span: {"trace_id": …, "span_id": …}.', "jsons"),
    ),
)

RECORD_TYPES: Final = (EVENT, METRIC, KPI, SPAN)
