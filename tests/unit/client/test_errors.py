"""Reading the details of a failed call."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage

from fernando.telemetry.client import FieldViolation, ProducerFenced, RpcFailed, decode_error
from fernando.telemetry.client.errors import DETAILS_KEY
from fernando.telemetry.v1 import BadRequest, ErrorInfo, ErrorStatus
from tests.unit.client.scripted_server import packed, status_trailer


def failed(
    code: grpc.StatusCode, trailer: tuple[tuple[str, bytes], ...] = ()
) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(
        code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailer), details="words"
    )


def test_reason_metadata_and_delay_are_read() -> None:
    trailer = status_trailer(grpc.StatusCode.UNAVAILABLE, "DRAINING", retry_after=1.5, server="a")
    error = decode_error(failed(grpc.StatusCode.UNAVAILABLE, trailer))
    assert type(error) is RpcFailed
    assert (error.reason, dict(error.metadata)) == ("DRAINING", {"server": "a"})
    assert error.retry_after_seconds == 1.5
    assert error.retryable
    assert str(error) == "UNAVAILABLE DRAINING: words"


def test_reason_with_the_enum_prefix_is_the_same_reason() -> None:
    trailer = status_trailer(grpc.StatusCode.ABORTED, "ERROR_REASON_PRODUCER_FENCED")
    error = decode_error(failed(grpc.StatusCode.ABORTED, trailer))
    assert isinstance(error, ProducerFenced)
    assert not error.retryable


def test_field_violations_are_read() -> None:
    bad = BadRequest()
    bad.field_violations.add(field="page_size", description="must not be negative", reason="RANGE")
    status = ErrorStatus(code=3, details=[packed(bad, "BadRequest")])
    trailer = ((DETAILS_KEY, status.SerializeToString()),)
    error = decode_error(failed(grpc.StatusCode.INVALID_ARGUMENT, trailer))
    assert error.field_violations == (FieldViolation("page_size", "must not be negative", "RANGE"),)
    assert not error.retryable


def test_detail_under_the_name_of_the_twin_is_read_too() -> None:
    detail = AnyMessage()
    detail.Pack(ErrorInfo(reason="TOO_LARGE"))
    status = ErrorStatus(code=3, details=[detail])
    error = decode_error(
        failed(grpc.StatusCode.INVALID_ARGUMENT, ((DETAILS_KEY, status.SerializeToString()),))
    )
    assert error.reason == "TOO_LARGE"


@pytest.mark.parametrize(
    "trailer",
    [
        (),
        ((DETAILS_KEY, b"\xff\xff\xff"),),
        (
            (
                DETAILS_KEY,
                ErrorStatus(
                    details=[
                        AnyMessage(type_url="x/google.rpc.ErrorInfo", value=b"\x0a\xff"),
                        AnyMessage(type_url="x/google.rpc.Help", value=b"\x0a\xff"),
                    ]
                ).SerializeToString(),
            ),
        ),
    ],
)
def test_absent_or_damaged_details_leave_the_status(
    trailer: tuple[tuple[str, bytes], ...],
) -> None:
    error = decode_error(failed(grpc.StatusCode.UNAVAILABLE, trailer))
    assert (error.code, error.reason, error.message) == (grpc.StatusCode.UNAVAILABLE, "", "words")
    assert error.retry_after_seconds is None
