"""Errors a client meets, with the details the server put into the trailer.

    TelemetryError
    ├── RpcFailed            a call or stream ended with a status; carries the decoded details
    │   └── ProducerFenced   another stream of the same producer_id took over
    ├── StreamCut            a stream ended without a status of its own (time-out, cancelled)
    └── ProducerClosed       the producer was closed, or failed, before this was acknowledged

The server sends `google.rpc.Status` in `grpc-status-details-bin`. The contract has wire twins of
those messages (error_detail.proto), so grpcio and protobuf alone are enough to read them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import grpc
from google.protobuf.message import DecodeError

from fernando.telemetry.v1 import BadRequest, ErrorInfo, ErrorStatus, RetryInfo

DETAILS_KEY: Final = "grpc-status-details-bin"

# The reasons of this contract are sent without their enum prefix, as AIP-193 spells reasons.
_REASON_PREFIX: Final = "ERROR_REASON_"

# Statuses that say that the same call may succeed later. UNKNOWN and INTERNAL are among them:
# proxies and resets produce both, and resending a numbered batch is harmless.
_RETRYABLE: Final = frozenset(
    {
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.UNKNOWN,
    }
)


class TelemetryError(Exception):
    """Root of the client's errors."""


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field of a request that the server did not accept.

    Attributes:
        field: Path of the field as the contract spells it.
        description: What is wrong, as a sentence.
        reason: A word for programs, or "".
    """

    field: str
    description: str
    reason: str


class RpcFailed(TelemetryError):
    """A call or stream ended with a status other than OK.

    Attributes:
        code: The gRPC status.
        message: The status text.
        reason: `ErrorReason` without its prefix, such as `DATABASE_UNAVAILABLE`; "" where the
            status did not come from this service (a proxy, gRPC itself).
        metadata: The ErrorInfo's metadata, such as `expected` of a SEQUENCE_GAP.
        field_violations: Fields that are to blame, if the server named any.
        retry_after_seconds: RetryInfo's delay, or None.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        *,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        field_violations: tuple[FieldViolation, ...] = (),
        retry_after_seconds: float | None = None,
    ) -> None:
        self.code = code
        self.message = message
        self.reason = reason
        self.metadata: Mapping[str, str] = dict(metadata or {})
        self.field_violations = field_violations
        self.retry_after_seconds = retry_after_seconds
        words = f"{code.name} {reason}".rstrip()
        super().__init__(f"{words}: {message}")

    @property
    def retryable(self) -> bool:
        """Whether the same call may succeed later."""
        return self.code in _RETRYABLE


class ProducerFenced(RpcFailed):
    """A newer stream with the same producer_id took over; do not reconnect under this id.

    Two live producers that answered this with a reconnect would fence each other for ever.
    """

    @property
    def retryable(self) -> bool:
        """Never: the other producer would be fenced in turn."""
        return False


class StreamCut(TelemetryError):
    """A stream ended without a status: the server cancelled it, or it did not answer in time."""


class ProducerClosed(TelemetryError):
    """The producer ended before this was acknowledged: it may be stored or not."""


def decode_error(error: grpc.aio.AioRpcError) -> RpcFailed:
    """Read ErrorInfo, BadRequest and RetryInfo from a failed call.

    Details that are absent or damaged leave their fields empty: the status still counts.
    """
    reason = ""
    metadata: dict[str, str] = {}
    violations: list[FieldViolation] = []
    retry_after: float | None = None
    for name, value in _details(error):
        with contextlib.suppress(DecodeError):
            match name:
                case "ErrorInfo":
                    info = ErrorInfo.FromString(value)
                    reason = info.reason.removeprefix(_REASON_PREFIX)
                    metadata = dict(info.metadata)
                case "BadRequest":
                    violations += (
                        FieldViolation(violation.field, violation.description, violation.reason)
                        for violation in BadRequest.FromString(value).field_violations
                    )
                case "RetryInfo":
                    delay = RetryInfo.FromString(value).retry_delay
                    retry_after = max(0.0, delay.seconds + delay.nanos / 1e9)
    kind = ProducerFenced if reason == "PRODUCER_FENCED" else RpcFailed
    return kind(
        error.code(),
        error.details() or "",
        reason=reason,
        metadata=metadata,
        field_violations=tuple(violations),
        retry_after_seconds=retry_after,
    )


def _details(error: grpc.aio.AioRpcError) -> list[tuple[str, bytes]]:
    """Give (message name, wire bytes) of each detail.

    The name is the last word of the full one: google.rpc's messages and our twins differ in
    their package only.
    """
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                status = ErrorStatus.FromString(value)
            except DecodeError:
                return []
            return [
                (detail.type_url.rpartition("/")[2].rpartition(".")[2], detail.value)
                for detail in status.details
            ]
    return []
