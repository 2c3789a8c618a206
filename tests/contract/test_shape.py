"""The contract's shape: what is in it, and that its words are the words used elsewhere."""

from __future__ import annotations

import re
from importlib import import_module
from types import ModuleType

import pytest
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FileDescriptor
from google.protobuf.message import Message

from fernando.telemetry.v1 import (
    BadRequest,
    BusinessMetric,
    ErrorInfo,
    ErrorStatus,
    Event,
    MetricSeries,
    RetryInfo,
    Span,
    SystemMetric,
)
from fernando_telemetry.domain import vocabulary
from tests.contract.repository import PROTOS, sources

WORDS = {
    "EventType": vocabulary.EVENT_TYPES,
    "MetricType": vocabulary.METRIC_TYPES,
    "Temporality": vocabulary.TEMPORALITIES,
    "PeriodType": vocabulary.PERIOD_TYPES,
    "CalculationMethod": vocabulary.CALCULATION_METHODS,
    "Aggregation": vocabulary.AGGREGATIONS,
    "GapFill": vocabulary.GAP_FILLS,
    "SpanKind": vocabulary.SPAN_KINDS,
    "SpanStatus": vocabulary.SPAN_STATUSES,
    "Severity": vocabulary.SEVERITIES,
    "AlertStatus": vocabulary.ALERT_STATUSES,
    "ImpactLevel": vocabulary.IMPACT_LEVELS,
    "RecordKind": vocabulary.RECORD_KINDS,
    "BatchRefusalReason": vocabulary.BATCH_REFUSALS,
    "VerdictReason": vocabulary.VERDICTS,
}
SERVICES = {
    "IngestService": 2,
    "EventService": 3,
    "MetricService": 5,
    "TraceService": 4,
    "AlertRuleService": 6,
    "AlertService": 16,
    "NotificationChannelService": 5,
    "ExportService": 1,
    "AdminService": 9,
}


def descriptors() -> list[FileDescriptor]:
    modules: list[ModuleType] = [
        import_module(".".join(source.with_suffix("").parts) + "_pb2") for source in sources()
    ]
    return [module.DESCRIPTOR for module in modules]


def messages() -> list[Descriptor]:
    found: list[Descriptor] = []
    queue = [message for file in descriptors() for message in file.message_types_by_name.values()]
    while queue:
        message = queue.pop()
        found.append(message)
        queue += message.nested_types
    return found


def enums() -> dict[str, EnumDescriptor]:
    top = {name: enum for file in descriptors() for name, enum in file.enum_types_by_name.items()}
    nested = {enum.full_name: enum for message in messages() for enum in message.enum_types}
    return {**top, **nested}


def snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def words(enum: EnumDescriptor) -> dict[int, str]:
    prefix = snake(enum.name) + "_"
    return {value.number: value.name.lower().removeprefix(prefix) for value in enum.values}


def test_there_are_eighteen_files_nine_services_and_fifty_one_methods() -> None:
    services = {
        name: len(service.methods)
        for file in descriptors()
        for name, service in file.services_by_name.items()
    }
    assert len(sources()) == 18
    assert services == SERVICES
    assert sum(services.values()) == 51


def test_only_google_protobuf_and_the_contract_itself_are_imported() -> None:
    for source in sources():
        for name in re.findall(
            r'^import "(.+)";$', PROTOS.joinpath(source).read_text(), re.MULTILINE
        ):
            assert name.startswith(("google/protobuf/", "fernando/telemetry/v1/")), (source, name)


def test_every_enum_value_is_its_enums_prefix_and_a_word() -> None:
    for enum in enums().values():
        prefix = snake(enum.name).upper() + "_"
        assert all(value.name.startswith(prefix) for value in enum.values), enum.full_name
        lowered = list(words(enum).values())
        assert lowered[0] == "unspecified"
        assert len(set(lowered)) == len(lowered), enum.full_name
        assert all(re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", word) for word in lowered)


@pytest.mark.parametrize("name", WORDS)
def test_the_words_of_an_enum_are_the_servers_words_in_their_order(name: str) -> None:
    assert words(enums()[name]) == dict(enumerate(("unspecified", *WORDS[name])))


@pytest.mark.parametrize("entity", [Event, SystemMetric, BusinessMetric, Span, MetricSeries])
def test_what_the_server_gives_a_record_has_numbers_from_thirty(entity: type[Message]) -> None:
    given = {"event_id", "metric_id", "series_id", "ingested_at", "superseded"}
    descriptor = entity.DESCRIPTOR
    assert {field.name for field in descriptor.fields if field.number >= 30} == {
        field.name for field in descriptor.fields if field.name in given
    }


@pytest.mark.parametrize(
    ("entity", "names"),
    [
        (Event, {"duration_ms"}),
        (Span, {"duration_ms", "http_status_code"}),
        (
            SystemMetric,
            {"metric_value", "percentile_50", "percentile_90", "percentile_95", "percentile_99"},
        ),
    ],
)
def test_numbers_whose_zero_means_something_have_presence(
    entity: type[Message], names: set[str]
) -> None:
    descriptor = entity.DESCRIPTOR
    numbers = {field.CPPTYPE_DOUBLE for field in descriptor.fields} | {
        field.CPPTYPE_INT32 for field in descriptor.fields
    }
    found = {field.name for field in descriptor.fields if field.cpp_type in numbers}
    assert found == names
    assert all(descriptor.fields_by_name[name].has_presence for name in names)


def test_the_error_details_are_wire_twins_of_google_rpc() -> None:
    error_details = pytest.importorskip(
        "google.rpc.error_details_pb2", reason="googleapis-common-protos is not installed"
    )
    status = pytest.importorskip("google.rpc.status_pb2")
    twins: list[tuple[type[Message], type[Message]]] = [
        (ErrorStatus, status.Status),
        (ErrorInfo, error_details.ErrorInfo),
        (BadRequest, error_details.BadRequest),
        (BadRequest.FieldViolation, error_details.BadRequest.FieldViolation),
        (RetryInfo, error_details.RetryInfo),
    ]
    for ours, theirs in twins:
        other = theirs.DESCRIPTOR.fields_by_name
        for field in ours.DESCRIPTOR.fields:
            twin = other[field.name]
            assert (field.number, field.type, field.is_repeated) == (
                twin.number,
                twin.type,
                twin.is_repeated,
            ), field.full_name
