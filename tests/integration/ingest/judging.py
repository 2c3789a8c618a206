"""Sends a batch of good and bad records in turn and holds what became of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message
from grpc import aio

from fernando.telemetry.v1 import (
    BatchCommitted,
    BusinessMetric,
    Event,
    RecordKind,
    Span,
    SystemMetric,
    VerdictReason,
)
from tests.integration.ingest.ingest_call import IngestCall
from tests.integration.ingest.records import LISTS, event, field, kpi, sample, span

STORED = {
    Event: "SELECT count(*) FROM telemetry_events",
    SystemMetric: "SELECT (SELECT count(*) FROM metric_samples)"
    " + (SELECT count(*) FROM metric_distributions)",
    BusinessMetric: "SELECT count(*) FROM business_metric_versions",
    Span: "SELECT count(*) FROM traces",
}
ALL_STORED = "SELECT " + " + ".join(f"({count})" for count in STORED.values())
KINDS = {
    Event: RecordKind.RECORD_KIND_EVENT,
    SystemMetric: RecordKind.RECORD_KIND_SYSTEM_METRIC,
    BusinessMetric: RecordKind.RECORD_KIND_BUSINESS_METRIC,
    Span: RecordKind.RECORD_KIND_SPAN,
}
GOOD: dict[type[Message], Any] = {
    Event: event,
    SystemMetric: sample,
    BusinessMetric: kpi,
    Span: span,
}


@dataclass(frozen=True)
class Raw:
    """A record given by its bytes."""

    kind: type[Message]
    data: bytes


@dataclass(frozen=True)
class Bad:
    """A record that is not stored as sent, and the field its verdict has to name."""

    record: Message | Raw
    field_path: str

    @property
    def kind(self) -> type[Message]:
        return self.record.kind if isinstance(self.record, Raw) else type(self.record)

    @property
    def data(self) -> bytes:
        return self.record.data if isinstance(self.record, Raw) else self.record.SerializeToString()


async def judge(
    channel: aio.Channel, connection: Any, reason: str, *cases: Bad, kept: bool = False
) -> BatchCommitted:
    """Send the cases with good neighbours on both sides, as one batch.

    Asserts one verdict per case, in order, with `reason`, and that all neighbours are stored, and
    nothing of the cases unless they are `kept`.
    """
    number = VerdictReason.Value(f"VERDICT_REASON_{reason}")
    data, verdicts = b"", []
    for kind in LISTS:
        of_kind = [case for case in cases if case.kind is kind]
        for place, case in enumerate(of_kind):
            data += field(LISTS[kind], GOOD[kind]().SerializeToString())
            data += field(LISTS[kind], case.data)
            verdicts.append((KINDS[kind], 2 * place + 1, number, case.field_path, kept))
        if of_kind:
            data += field(LISTS[kind], GOOD[kind]().SerializeToString())
    async with IngestCall(channel) as stream:
        await stream.welcome()
        committed = await stream.commit(1, data)
        await stream.end()
    given = [
        (one.kind, one.index, one.reason, one.field_path, one.kept) for one in committed.verdicts
    ]
    assert given == verdicts
    assert all(one.detail for one in committed.verdicts)
    assert committed.rejected_count == (0 if kept else len(cases))
    assert committed.adjusted_count == (len(cases) if kept else 0)
    stored = 0
    for kind, count in STORED.items():
        bad = sum(case.kind is kind for case in cases)
        expected = bad + 1 + (bad if kept else 0) if bad else 0
        assert await connection.fetchval(count) == expected, kind
        stored += expected
    assert committed.accepted_count == stored
    return committed
