"""The words of `bench` are those that the benchmarks know."""

from __future__ import annotations

from fernando_telemetry.bench.ingest_targets import MEASURES
from fernando_telemetry.bench.records import KINDS
from fernando_telemetry.cli.bench import MEASURE_WORDS, RECORD_WORDS


def test_measures_and_kinds_are_those_there_are() -> None:
    assert tuple(MEASURES) == MEASURE_WORDS
    assert KINDS == RECORD_WORDS
