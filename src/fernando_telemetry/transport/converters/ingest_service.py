"""Answers of the write path to the messages of ingest_service.proto."""

from __future__ import annotations

from typing import assert_never

from fernando.telemetry.v1 import (
    BatchAck,
    BatchCommitted,
    BatchRefused,
    IngestLimits,
    IngestTelemetryResponse,
    RecordVerdict,
    StreamTelemetryResponse,
    StreamWelcome,
)
from fernando.telemetry.v1 import GoAway as GoAwayMessage
from fernando_telemetry.domain import limits
from fernando_telemetry.domain.flush_ids import commit_token
from fernando_telemetry.domain.verdicts import Tally, Verdict
from fernando_telemetry.domain.vocabulary import BATCH_REFUSALS, RECORD_KINDS, VERDICTS
from fernando_telemetry.ingest.pending import Outcome
from fernando_telemetry.ingest.stream import Ack, GoAway, Message, Welcome

CONTRACT_REVISION = 1


def limits_message(max_batch_bytes: int, max_stream_age_seconds: float) -> IngestLimits:
    """Give the limits of a stream, or of the server."""
    message = IngestLimits(
        max_batch_bytes=max_batch_bytes,
        max_batch_records=limits.BATCH_RECORDS,
        max_in_flight_batches=limits.IN_FLIGHT_BATCHES,
    )
    if max_stream_age_seconds:
        message.max_stream_age.FromMilliseconds(int(max_stream_age_seconds * 1000))
    return message


def verdict_message(verdict: Verdict) -> RecordVerdict:
    """Give a verdict in the contract's numbers."""
    return RecordVerdict(
        kind=RECORD_KINDS.index(verdict.kind) + 1,  # type: ignore[arg-type]
        index=verdict.index,
        reason=VERDICTS.index(verdict.reason) + 1,  # type: ignore[arg-type]
        field_path=verdict.field_path,
        detail=verdict.detail,
        kept=verdict.kept,
    )


def committed_message(tally: Tally, flush_id: int | None) -> BatchCommitted:
    """Give counts and verdicts; the commit token is opaque to clients."""
    return BatchCommitted(
        accepted_count=tally.accepted,
        rejected_count=tally.rejected,
        adjusted_count=tally.adjusted,
        verdicts=[verdict_message(verdict) for verdict in tally.verdicts],
        verdicts_truncated=tally.truncated,
        commit_token="" if flush_id is None else commit_token(flush_id),
    )


def ack_message(ack: Ack) -> BatchAck:
    """Give the ack of one batch."""
    outcome = ack.outcome
    message = BatchAck(sequence=ack.sequence)
    match outcome.status:
        case "committed":
            message.committed.CopyFrom(committed_message(outcome.tally, outcome.flush_id))
        case "duplicate":
            message.duplicate.CopyFrom(committed_message(outcome.tally, outcome.flush_id))
        case "refused":
            message.refused.CopyFrom(
                BatchRefused(
                    reason=BATCH_REFUSALS.index(outcome.refusal) + 1,  # type: ignore[arg-type]
                    detail=outcome.detail,
                )
            )
        case _:
            assert_never(outcome.status)
    return message


def stream_response(message: Message) -> StreamTelemetryResponse:
    """Give a message of an ingest stream."""
    match message:
        case Ack():
            return StreamTelemetryResponse(ack=ack_message(message))
        case Welcome():
            welcome = StreamWelcome(
                last_sequence=message.state.last_sequence,
                producer_epoch=message.state.epoch,
                limits=limits_message(message.max_batch_bytes, message.max_stream_age_seconds),
                contract_revision=CONTRACT_REVISION,
            )
            return StreamTelemetryResponse(welcome=welcome)
        case GoAway():
            go_away = GoAwayMessage(last_accepted_sequence=message.last_accepted_sequence)
            go_away.reconnect_after.FromMilliseconds(int(message.reconnect_after_seconds * 1000))
            return StreamTelemetryResponse(go_away=go_away)
        case _:
            assert_never(message)


def unary_response(outcome: Outcome) -> IngestTelemetryResponse:
    """Give the answer to a unary ingest call."""
    return IngestTelemetryResponse(
        duplicate=outcome.status == "duplicate",
        result=committed_message(outcome.tally, outcome.flush_id),
    )
