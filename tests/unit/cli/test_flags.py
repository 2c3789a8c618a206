"""The flags of `send` are the contract's fields, all of them, with its words."""

from __future__ import annotations

import re

import pytest

from fernando.telemetry import v1
from fernando_telemetry.cli.flags import RECORD_TYPES, RecordType
from fernando_telemetry.cli.record_json import word_of
from fernando_telemetry.cli.rejected import FILTER_EXAMPLE
from fernando_telemetry.domain.filter_columns import REJECTED_COLUMNS
from fernando_telemetry.domain.filters import parse

OUTPUT_ONLY = {"event_id", "ingested_at", "series_id", "metric_id", "superseded"}


@pytest.mark.parametrize("kind", RECORD_TYPES, ids=lambda kind: str(kind.name))
def test_every_field_of_the_contract_has_its_flag(kind: RecordType) -> None:
    fields = {field.name for field in getattr(v1, kind.message).DESCRIPTOR.fields}
    assert {flag.field for flag in kind.flags} == fields - OUTPUT_ONLY
    for flag in kind.flags:
        assert re.fullmatch(r"--[a-z0-9]+(-[a-z0-9]+)*", flag.option)


@pytest.mark.parametrize("kind", RECORD_TYPES, ids=lambda kind: str(kind.name))
def test_words_are_those_of_the_enum(kind: RecordType) -> None:
    fields = getattr(v1, kind.message).DESCRIPTOR.fields_by_name
    for flag in kind.flags:
        enum = fields[flag.field].enum_type
        assert (enum is not None) == (flag.kind == "word")
        if enum is not None:
            words = [word_of(enum, value.number) for value in enum.values if value.number]
            assert list(flag.words) == words


def test_the_filter_that_help_shows_for_rejected_records_is_one() -> None:
    assert len(parse(FILTER_EXAMPLE, REJECTED_COLUMNS)) == 2


@pytest.mark.parametrize("kind", RECORD_TYPES, ids=lambda kind: str(kind.name))
def test_records_go_into_a_list_of_their_kind(kind: RecordType) -> None:
    field = v1.TelemetryRecords.DESCRIPTOR.fields_by_name[kind.records_field]
    assert field.message_type is not None
    assert field.message_type.name == kind.message
