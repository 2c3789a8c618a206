"""The words of every enum, in their order: PostgreSQL enums, filters, JSON and CLI use these.

The contract's number of a word is its place in the tuple plus one (0 is "unspecified");
tests/contract holds the two together. Order matters where people sort: severity.
"""

from __future__ import annotations

from typing import Final

EVENT_TYPES: Final = (
    "user_action",
    "api_event",
    "error_event",
    "system_event",
    "business_event",
    "security_event",
    "performance_event",
)
METRIC_TYPES: Final = ("counter", "gauge", "histogram", "timer", "distribution")
TEMPORALITIES: Final = ("cumulative", "delta")
PERIOD_TYPES: Final = ("hourly", "daily", "weekly", "monthly", "quarterly", "yearly", "custom")
CALCULATION_METHODS: Final = (
    "sum",
    "count",
    "average",
    "median",
    "distinct_count",
    "ratio",
    "last",
    "min",
    "max",
)
AGGREGATIONS: Final = (
    "average",
    "min",
    "max",
    "sum",
    "count",
    "last",
    "rate",
    "delta",
    "p50",
    "p90",
    "p95",
    "p99",
)
GAP_FILLS: Final = ("none", "nan", "previous", "zero")
SPAN_KINDS: Final = ("internal", "server", "client", "producer", "consumer")
SPAN_STATUSES: Final = ("ok", "error")
SEVERITIES: Final = ("info", "warning", "error", "critical")
ALERT_STATUSES: Final = ("pending", "active", "acknowledged", "suppressed", "resolved")
IMPACT_LEVELS: Final = ("low", "medium", "high", "critical")

RECORD_KINDS: Final = ("event", "system_metric", "business_metric", "span", "metric_columns")
BATCH_REFUSALS: Final = (
    "sequence_conflict",
    "record_count_mismatch",
    "column_length_mismatch",
    "too_many_bytes",
    "too_many_records",
    "undecodable",
)
VERDICTS: Final = (
    "field_missing",
    "unknown_enum_value",
    "text_too_long",
    "nul_in_text",
    "invalid_utf8",
    "invalid_json",
    "json_too_deep",
    "time_too_old",
    "time_in_future",
    "value_not_finite",
    "invalid_decimal",
    "invalid_currency",
    "invalid_period",
    "invalid_id",
    "invalid_ip",
    "too_many_labels",
    "unknown_series_index",
    "label_cardinality",
    "license_not_allowed",
    "refused_by_database",
    "record_too_large",
    "invalid_distribution",
    "invalid_time_zone",
    "value_out_of_range",
    "too_many_items",
)
