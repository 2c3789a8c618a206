"""Each ErrorReason's comment shows its status and a full ErrorInfo, and the server sends those."""

from __future__ import annotations

import json
import re
import textwrap
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

import grpc
import pytest

from fernando.telemetry.v1 import ErrorInfo, ErrorReason, ErrorStatus
from fernando_telemetry.domain import errors
from fernando_telemetry.transport.status import TABLE, status_of
from tests.contract.repository import PACKAGE, PROTOS

PREFIX = "ERROR_REASON_"
UNSPECIFIED = "UNSPECIFIED"
SAMPLES: dict[type[errors.TelemetryError], errors.TelemetryError] = {
    errors.InvalidField: errors.InvalidField("page_size", "must not be negative"),
    errors.InvalidFilter: errors.InvalidFilter(14, "expected a value"),
    errors.SequenceGap: errors.SequenceGap(42, 44),
    errors.ProducerFenced: errors.ProducerFenced("checkout-7f9c", 3),
    errors.BatchRefused: errors.BatchRefused("too_many_records", "split it"),
    errors.Overloaded: errors.Overloaded("full", 1.0),
    errors.Draining: errors.Draining("stopping", 1.0),
    errors.DatabaseUnavailable: errors.DatabaseUnavailable("away", 1.0),
    errors.CommitTokenNotReached: errors.CommitTokenNotReached("behind", 1.0),
    errors.SlowConsumer: errors.SlowConsumer(60.0),
    errors.CursorInvalid: errors.CursorInvalid("cursor", "it is damaged"),
    errors.AggregationNotApplicable: errors.AggregationNotApplicable("rate", "gauge", "why"),
    errors.CursorTooOld: errors.CursorTooOld(datetime(2026, 1, 31, tzinfo=UTC)),
}


@dataclass(frozen=True)
class Described:
    """What the comment of one reason says."""

    status: str
    text: str
    info: dict[str, object]


@cache
def described() -> dict[str, Described]:
    text = PROTOS.joinpath(PACKAGE, "error_reason.proto").read_text()
    found = {}
    for match in re.finditer(r"((?:^  //.*\n)+)  ERROR_REASON_(\w+) = \d+;$", text, re.MULTILINE):
        comment = textwrap.dedent(re.sub(r"^  // ?", "", match[1], flags=re.MULTILINE))
        status, _, rest = comment.partition(". ")
        prose, _, example = rest.partition("\n\n")
        found[match[2]] = Described(
            status, " ".join(prose.split()), json.loads(example) if example else {}
        )
    return found


def names() -> list[str]:
    return [name.removeprefix(PREFIX) for name in ErrorReason.keys()]  # noqa: SIM118  # no mapping


def test_every_reason_is_described() -> None:
    assert set(described()) == set(names())


@pytest.mark.parametrize("name", [name for name in names() if name != UNSPECIFIED])
def test_a_reason_names_its_status_and_shows_its_error_info(name: str) -> None:
    reason = described()[name]
    assert reason.status in grpc.StatusCode.__members__
    assert reason.status != "OK"
    assert set(reason.info) == {"reason", "domain", "metadata"}
    assert reason.info["reason"] == name
    assert reason.info["domain"] == "telemetry.fernando"
    metadata = reason.info["metadata"]
    assert isinstance(metadata, dict)
    assert all(isinstance(value, str) for value in metadata.values())


def sent(error: BaseException) -> tuple[grpc.StatusCode, ErrorStatus, ErrorInfo]:
    code, _, details = status_of(error)
    status = ErrorStatus.FromString(details)
    infos = [
        ErrorInfo.FromString(detail.value)
        for detail in status.details
        if detail.type_url == "type.googleapis.com/google.rpc.ErrorInfo"
    ]
    assert len(infos) == 1
    return code, status, infos[0]


@pytest.mark.parametrize("kind", [row[0] for row in TABLE], ids=lambda kind: kind.__name__)
def test_the_server_sends_what_the_comment_shows(kind: type[errors.TelemetryError]) -> None:
    error = SAMPLES[kind] if kind in SAMPLES else kind("a sentence")
    code, status, info = sent(error)
    reason = described()[info.reason]
    assert (code.name, status.code) == (reason.status, code.value[0])
    assert reason.info == {
        "reason": info.reason,
        "domain": info.domain,
        "metadata": dict(info.metadata),
    }
    if "Not sent yet." in reason.text:
        return
    retries = [detail.type_url for detail in status.details if "RetryInfo" in detail.type_url]
    assert bool(retries) == ("RetryInfo says when" in reason.text)


def test_a_fault_of_the_server_is_internal() -> None:
    code, _, info = sent(RuntimeError("secret"))
    assert code.name == described()["INTERNAL"].status
    assert info.reason == "INTERNAL"


def test_reasons_the_server_has_no_error_for_are_marked() -> None:
    sendable = {row[2] for row in TABLE} | {"INTERNAL", UNSPECIFIED}
    marked = {name for name, reason in described().items() if "Not sent yet." in reason.text}
    assert set(names()) - sendable <= marked
