"""What `rejected` does: how kept records look, and their replay."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, cast

from google.protobuf.message import DecodeError, Message
from grpc import aio

from fernando.telemetry import v1
from fernando_telemetry.cli.connection import call, find_address
from fernando_telemetry.cli.kinds import ListKind
from fernando_telemetry.cli.listing import Wanted, fill_selection, time_range, words_of_range
from fernando_telemetry.cli.printing import shown_zone
from fernando_telemetry.cli.record_json import to_json
from fernando_telemetry.cli.tables import Cells, ColumnSpec, Style, columns_of

# A replay answers when it is through; what is broken off can be started again.
REPLAY_TIMEOUT_SECONDS: Final = 3_600.0

_MESSAGES: Final[dict[int, type[Message]]] = {
    v1.RecordKind.RECORD_KIND_EVENT: v1.Event,
    v1.RecordKind.RECORD_KIND_SYSTEM_METRIC: v1.SystemMetric,
    v1.RecordKind.RECORD_KIND_BUSINESS_METRIC: v1.BusinessMetric,
    v1.RecordKind.RECORD_KIND_SPAN: v1.Span,
    v1.RecordKind.RECORD_KIND_METRIC_COLUMNS: v1.MetricColumns,
}


def rejected_cells(
    records: Sequence[Message], specs: Sequence[ColumnSpec], style: Style
) -> list[Cells]:
    """Write a page's cells: fields of the records and of their verdicts side by side."""
    own = v1.RejectedRecord.DESCRIPTOR.fields_by_name
    verdicts = [cast("v1.RejectedRecord", record).verdict for record in records]
    cells = columns_of(records, [spec for spec in specs if spec.name in own], style)
    cells += columns_of(verdicts, [spec for spec in specs if spec.name not in own], style)
    return sorted(cells, key=lambda one: list(specs).index(one.spec))


def rejected_line(record: Message) -> str:
    """Write one as a line of JSON: the contract's fields, `record` as the object it holds.

    Where that has no form in JSON (text that is not UTF-8, NaN, a time out of range), it is the
    bytes in base64.
    """
    assert isinstance(record, v1.RejectedRecord)
    fields = to_json(record) | {"record": _content(record)}
    return json.dumps(fields, ensure_ascii=False)


def _content(record: v1.RejectedRecord) -> Any:
    try:
        message = _MESSAGES[record.verdict.kind].FromString(record.record)
        content = to_json(message)
        json.dumps(content, allow_nan=False)
    except (KeyError, DecodeError, ValueError):
        return base64.b64encode(record.record).decode("ascii")
    return content


REJECTED: Final = ListKind(
    "rejected record",
    "Admin",
    "ListRejectedRecords",
    "rejected_at",
    "rejected_records",
    "24h",
    (
        ColumnSpec("rejected_at", 1),
        ColumnSpec("kind", 3),
        ColumnSpec("reason", 2),
        ColumnSpec("field_path", 4, 12),
        ColumnSpec("detail", 5, 16),
        ColumnSpec("producer_id", 6, 10),
        ColumnSpec("sequence", 7),
        ColumnSpec("index", 8),
        ColumnSpec("license_id", 9, 10),
        ColumnSpec("rejected_id", 10),
    ),
    rejected_cells,
    rejected_line,
)


def replay(wanted: Wanted, *, dry_run: bool) -> None:
    """Replay kept records and print what became of them."""
    start, end = time_range(wanted, REJECTED.last, datetime.now(UTC))
    request = v1.ReplayRejectedRecordsRequest(dry_run=dry_run)
    fill_selection(request, wanted, start, end)

    async def work(channel: aio.Channel) -> v1.ReplayRejectedRecordsResponse:
        stub: Any = v1.AdminServiceStub(channel)
        answer: v1.ReplayRejectedRecordsResponse = await stub.ReplayRejectedRecords(
            request, timeout=REPLAY_TIMEOUT_SECONDS
        )
        return answer

    answer = call(find_address(wanted.target, wanted.data_dir), work, wanted.filter)
    if wanted.as_json:
        print(json.dumps(to_json(answer)))
        return
    zone = shown_zone(local=wanted.local)
    stored, still = answer.replayed_count, answer.still_rejected_count
    plural = "" if stored == 1 else "s"
    words = (
        f"Would store {stored} rejected record{plural}; {still} would be rejected again"
        if dry_run
        else f"Stored {stored} rejected record{plural}; {still} rejected again"
    )
    print(f"{words};{words_of_range(start, end, zone)}.")
