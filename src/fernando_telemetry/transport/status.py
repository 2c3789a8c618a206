"""The one table: an error of the domain to a status code, an ErrorReason and details (AIP-193)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from fernando.telemetry.v1 import BadRequest, ErrorInfo, ErrorStatus, RetryInfo
from fernando_telemetry.domain import errors

DOMAIN: Final = "telemetry.fernando"
DETAILS_TRAILER: Final = "grpc-status-details-bin"
INTERNAL_TEXT: Final = "Internal error; the server's log has the details."

# Most special first: the first class an error is an instance of decides.
TABLE: Final[tuple[tuple[type[errors.TelemetryError], grpc.StatusCode, str], ...]] = (
    (errors.InvalidField, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
    (errors.InvalidFilter, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FILTER"),
    (errors.InvalidPageToken, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN"),
    (errors.InvalidTimeRange, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_TIME_RANGE"),
    (errors.Undecodable, grpc.StatusCode.INVALID_ARGUMENT, "UNDECODABLE"),
    (errors.BatchRefused, grpc.StatusCode.INVALID_ARGUMENT, "BATCH_REFUSED"),
    (
        errors.AggregationNotApplicable,
        grpc.StatusCode.INVALID_ARGUMENT,
        "AGGREGATION_NOT_APPLICABLE",
    ),
    (errors.TooLarge, grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_LARGE"),
    (errors.NotFound, grpc.StatusCode.NOT_FOUND, "NOT_FOUND"),
    (errors.NotImplementedYet, grpc.StatusCode.UNIMPLEMENTED, "NOT_IMPLEMENTED"),
    (errors.HelloRequired, grpc.StatusCode.FAILED_PRECONDITION, "HELLO_REQUIRED"),
    (errors.SequenceGap, grpc.StatusCode.FAILED_PRECONDITION, "SEQUENCE_GAP"),
    (errors.ProducerFenced, grpc.StatusCode.ABORTED, "PRODUCER_FENCED"),
    (errors.RequestIdReused, grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED"),
    (errors.Overloaded, grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED"),
    (errors.Draining, grpc.StatusCode.UNAVAILABLE, "DRAINING"),
    (errors.DatabaseUnavailable, grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE"),
    (errors.QueryTooExpensive, grpc.StatusCode.RESOURCE_EXHAUSTED, "QUERY_TOO_EXPENSIVE"),
    (errors.CursorInvalid, grpc.StatusCode.INVALID_ARGUMENT, "CURSOR_INVALID"),
    (errors.CursorTooOld, grpc.StatusCode.OUT_OF_RANGE, "CURSOR_TOO_OLD"),
    (errors.CommitTokenNotReached, grpc.StatusCode.UNAVAILABLE, "COMMIT_TOKEN_NOT_REACHED"),
    (errors.SlowConsumer, grpc.StatusCode.RESOURCE_EXHAUSTED, "SLOW_CONSUMER"),
)


def _metadata(error: errors.TelemetryError) -> dict[str, str]:
    match error:
        case errors.InvalidField() | errors.CursorInvalid():
            return {"field": error.field}
        case errors.AggregationNotApplicable():
            return {"aggregation": error.aggregation, "metric_type": error.metric_type}
        case errors.CursorTooOld() if error.oldest_available_at is not None:
            return {"oldest_available_at": _rfc3339(error.oldest_available_at)}
        case errors.InvalidFilter():
            return {"position": str(error.position)}
        case errors.SequenceGap():
            return {"expected": str(error.expected), "got": str(error.got)}
        case errors.ProducerFenced():
            return {"producer_id": error.producer_id, "producer_epoch": str(error.epoch)}
        case errors.BatchRefused():
            return {"refusal": error.reason}
        case errors.SlowConsumer():
            return {"stall_seconds": f"{error.stall_seconds:g}"}
        case errors.DiskBudgetReached():
            return {"resource": "disk"}
        case _:
            return {}


def _rfc3339(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _details(error: errors.TelemetryError, reason: str) -> list[Message]:
    details: list[Message] = [
        ErrorInfo(reason=reason, domain=DOMAIN, metadata=_metadata(error)),
    ]
    match error:
        case errors.InvalidField():
            violation = BadRequest.FieldViolation(
                field=error.field, description=error.description, reason=reason
            )
            details.append(BadRequest(field_violations=[violation]))
        case errors.InvalidFilter():
            violation = BadRequest.FieldViolation(
                field="filter", description=error.description, reason=reason
            )
            details.append(BadRequest(field_violations=[violation]))
        case errors.Passing():
            retry = RetryInfo()
            retry.retry_delay.FromMilliseconds(int(error.retry_after_seconds * 1000))
            details.append(retry)
        case _:
            pass
    return details


def _pack(detail: Message) -> AnyMessage:
    # The twins are wire-identical to google.rpc's messages and travel under their names.
    name = detail.DESCRIPTOR.name
    return AnyMessage(
        type_url=f"type.googleapis.com/google.rpc.{name}", value=detail.SerializeToString()
    )


def status_of(error: BaseException) -> tuple[grpc.StatusCode, str, bytes]:
    """Give an error's code, its text for the caller, and the bytes of google.rpc.Status.

    What is no error of the domain is INTERNAL with a constant text: its own may tell too much.
    """
    code, text = grpc.StatusCode.INTERNAL, INTERNAL_TEXT
    details: list[Message] = [ErrorInfo(reason="INTERNAL", domain=DOMAIN)]
    if isinstance(error, errors.TelemetryError):
        found = next((row for row in TABLE if isinstance(error, row[0])), None)
        if found is not None:
            _, code, reason = found
            text, details = str(error), _details(error, reason)
    number: int = code.value[0]
    status = ErrorStatus(code=number, message=text, details=[_pack(one) for one in details])
    return code, text, status.SerializeToString()
