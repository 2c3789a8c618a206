"""How a call failed, read as a client with grpcio and protobuf alone reads it: by wire twins."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass, field

from grpc import StatusCode, aio

from fernando.telemetry.v1 import BadRequest, ErrorInfo, ErrorStatus, RetryInfo

DETAILS_KEY = "grpc-status-details-bin"
TYPE_PREFIX = "type.googleapis.com/google.rpc."


@dataclass(frozen=True)
class Failure:
    """A status with its details; `reason` is "" where gRPC itself ended the call."""

    code: StatusCode
    message: str
    reason: str = ""
    domain: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    fields: tuple[str, ...] = ()
    retry_after_seconds: float | None = None


def failure_of(error: aio.AioRpcError) -> Failure:
    """Read a failed call's details."""
    return read_failure(error.code(), error.details() or "", error.trailing_metadata())


async def failure(call: Awaitable[object]) -> Failure:
    """Await a call that has to fail."""
    try:
        answer = await call
    except aio.AioRpcError as error:
        return failure_of(error)
    raise AssertionError(f"no failure but {answer}")


def read_failure(code: StatusCode, message: str, trailer: aio.Metadata | None) -> Failure:
    """Read the details from a trailer."""
    packed = (trailer or aio.Metadata()).get(DETAILS_KEY)
    if packed is None:
        return Failure(code, message)
    assert isinstance(packed, bytes)
    status = ErrorStatus.FromString(packed)
    assert status.code == code.value[0]
    assert status.message == message
    info, fields, retry = ErrorInfo(), [], None
    for detail in status.details:
        match detail.type_url.removeprefix(TYPE_PREFIX):
            case "ErrorInfo":
                info = ErrorInfo.FromString(detail.value)
            case "BadRequest":
                bad = BadRequest.FromString(detail.value)
                fields = [violation.field for violation in bad.field_violations]
                assert all(violation.description for violation in bad.field_violations)
            case "RetryInfo":
                delay = RetryInfo.FromString(detail.value).retry_delay
                retry = delay.seconds + delay.nanos / 1e9
            case other:
                raise AssertionError(f"unknown detail {other}")
    return Failure(
        code, message, info.reason, info.domain, dict(info.metadata), tuple(fields), retry
    )


def expected(
    code: StatusCode,
    reason: str,
    metadata: dict[str, str] | None = None,
    fields: tuple[str, ...] = (),
) -> tuple[StatusCode, str, str, dict[str, str], tuple[str, ...]]:
    """Give what `summary` has to be."""
    return code, reason, "telemetry.fernando", metadata or {}, fields


def summary(failure: Failure) -> tuple[StatusCode, str, str, dict[str, str], tuple[str, ...]]:
    """Give the parts that programs go by, without the sentence and the delay."""
    return failure.code, failure.reason, failure.domain, failure.metadata, failure.fields
