"""Which columns a filter may name, per record kind, and what each may be compared with.

A filter field is called as its SQL column and its field in the contract. The tables here are the
allow-list: a name that is not in them never reaches SQL.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal

from fernando_telemetry.domain import vocabulary

Operator = Literal["=", "!=", "<", "<=", ">", ">=", ":"]

EQUALITY: Final[tuple[Operator, ...]] = ("=", "!=")
ORDERING: Final[tuple[Operator, ...]] = ("=", "!=", "<", "<=", ">", ">=")
# "Has": a list an element, a map or an object a key; with * anything at all.
HAS: Final[Operator] = ":"


class ColumnType(Enum):
    """What a column holds; the value is the word for it in messages."""

    TEXT = "text"
    ENUM = "one of its words"
    NUMBER = "a number"
    DECIMAL = "a decimal number of at most 20 digits before and 18 after the point"
    INTEGER = "a whole number of 32 bits"
    TIMESTAMP = "an RFC 3339 time with its offset, such as 2026-05-17T09:30:00Z"
    UUID = "a UUID, such as 01890a5d-ac96-774b-bcce-b302099a8057"
    INET = "an IPv4 or IPv6 address without zone or mask"
    TRACE_ID = "16 or 32 hexadecimal digits"
    SPAN_ID = "16 hexadecimal digits"
    SERIES_ID = "32 hexadecimal digits"
    TEXT_LIST = "a text, which it has or has not"
    TEXT_MAP = "a key, which it has or has not"
    JSON = "a key, which the object has or has not"


ORDERED_TYPES: Final = frozenset(
    {
        ColumnType.TEXT,
        ColumnType.NUMBER,
        ColumnType.DECIMAL,
        ColumnType.INTEGER,
        ColumnType.TIMESTAMP,
    }
)
# Of these a path names a part: `labels.region`, `event_data.login.method`.
NESTED_TYPES: Final = frozenset({ColumnType.TEXT_MAP, ColumnType.JSON})
# Of these "" is the wire's word for "not set", which is NULL in the tables.
EMPTY_MEANS_NULL: Final = frozenset(
    {
        ColumnType.TEXT,
        ColumnType.ENUM,
        ColumnType.INET,
        ColumnType.TRACE_ID,
        ColumnType.SPAN_ID,
    }
)


@dataclass(frozen=True, slots=True)
class Column:
    """A column that filters may name.

    Args:
        name: As in SQL and in the contract.
        type: What it holds.
        words: The values of an enum, else empty.
    """

    name: str
    type: ColumnType
    words: tuple[str, ...] = ()

    @property
    def operators(self) -> tuple[Operator, ...]:
        """The operators that make sense for the type; `:*` does for every one."""
        if self.type in NESTED_TYPES or self.type is ColumnType.TEXT_LIST:
            return (HAS,)
        return ORDERING if self.type in ORDERED_TYPES else EQUALITY

    @property
    def path_operators(self) -> tuple[Operator, ...]:
        """The operators of a part of it."""
        return (*ORDERING, HAS)


Columns = Mapping[str, Column]


def _columns(of_types: Mapping[ColumnType, Iterable[str]], **enums: tuple[str, ...]) -> Columns:
    plain = {name: Column(name, kind) for kind, names in of_types.items() for name in names}
    words = {name: Column(name, ColumnType.ENUM, values) for name, values in enums.items()}
    return {**plain, **words}


EVENT_COLUMNS: Final = _columns(
    {
        ColumnType.UUID: ("event_id",),
        ColumnType.TIMESTAMP: ("event_timestamp", "ingested_at"),
        ColumnType.TEXT: (
            "event_name",
            "event_category",
            "user_id",
            "license_id",
            "session_id",
            "source",
            "source_version",
            "user_agent",
        ),
        ColumnType.NUMBER: ("duration_ms",),
        ColumnType.INET: ("source_ip",),
        ColumnType.TRACE_ID: ("trace_id",),
        ColumnType.SPAN_ID: ("span_id",),
        ColumnType.TEXT_LIST: ("tags",),
        ColumnType.JSON: ("event_data",),
    },
    event_type=vocabulary.EVENT_TYPES,
)

SERIES_COLUMNS: Final = _columns(
    {
        ColumnType.SERIES_ID: ("series_id",),
        ColumnType.TEXT: (
            "metric_name",
            "metric_unit",
            "service_name",
            "host_name",
            "instance_id",
            "license_id",
        ),
        ColumnType.TEXT_MAP: ("labels",),
    },
    metric_type=vocabulary.METRIC_TYPES,
    temporality=vocabulary.TEMPORALITIES,
)

SAMPLE_COLUMNS: Final = _columns(
    {
        ColumnType.TIMESTAMP: ("metric_timestamp",),
        ColumnType.NUMBER: (
            "metric_value",
            "percentile_50",
            "percentile_90",
            "percentile_95",
            "percentile_99",
        ),
    }
)

SYSTEM_METRIC_COLUMNS: Final = {**SERIES_COLUMNS, **SAMPLE_COLUMNS}

BUSINESS_METRIC_COLUMNS: Final = _columns(
    {
        ColumnType.UUID: ("metric_id",),
        ColumnType.TIMESTAMP: ("period_start", "period_end", "ingested_at"),
        ColumnType.TEXT: (
            "metric_name",
            "metric_category",
            "metric_unit",
            "currency",
            "license_id",
            "customer_id",
            "user_id",
            "time_zone",
        ),
        ColumnType.DECIMAL: ("metric_value",),
        ColumnType.TEXT_MAP: ("dimensions",),
    },
    period_type=vocabulary.PERIOD_TYPES,
    calculation_method=vocabulary.CALCULATION_METHODS,
)

SPAN_COLUMNS: Final = _columns(
    {
        ColumnType.TRACE_ID: ("trace_id",),
        ColumnType.SPAN_ID: ("span_id", "parent_span_id"),
        ColumnType.TIMESTAMP: ("start_time", "end_time", "ingested_at"),
        ColumnType.TEXT: (
            "service_name",
            "operation_name",
            "error_message",
            "http_method",
            "http_url",
            "user_id",
            "license_id",
            "session_id",
            "host_name",
            "instance_id",
            "service_version",
            "trace_state",
        ),
        ColumnType.NUMBER: ("duration_ms",),
        ColumnType.INTEGER: ("http_status_code",),
        ColumnType.TEXT_MAP: ("tags",),
    },
    kind=vocabulary.SPAN_KINDS,
    status=vocabulary.SPAN_STATUSES,
)

REJECTED_COLUMNS: Final = _columns(
    {
        ColumnType.UUID: ("rejected_id",),
        ColumnType.TIMESTAMP: ("rejected_at",),
        ColumnType.TEXT: ("field_path", "detail", "producer_id", "license_id"),
        ColumnType.INTEGER: ("index",),
        # Wider than an integer of 32 bits.
        ColumnType.DECIMAL: ("sequence",),
    },
    kind=vocabulary.RECORD_KINDS,
    reason=vocabulary.VERDICTS,
)

# Columns that exist and that no filter may name: lists of objects, and bytes.
UNFILTERED_COLUMNS: Final = frozenset({"distribution", "events", "links"})
