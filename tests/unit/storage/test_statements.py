"""Figures of the domain in the statements of storage/sql, and in the functions they call."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from fernando_telemetry.storage.advisory_locks import LOCK_CLASS
from fernando_telemetry.storage.migrating import scripts_folder
from fernando_telemetry.storage.statements import every_statement, parse


def test_a_figure_is_written_out() -> None:
    text = (
        "-- name: near\n-- Chunks.\nSELECT '{}', now() - {chunk}, {bucket_base}, {zero_bucket};\n"
    )
    assert parse(text)["near"].splitlines()[1] == (
        "SELECT '{}', now() - interval '10 minutes', 1.04::float8, -32768;"
    )


def test_locks_are_named_so_that_no_two_share_a_number() -> None:
    text = "-- name: hold\nSELECT pg_advisory_xact_lock({closing_gaps_lock});"
    assert parse(text)["hold"] == "SELECT pg_advisory_xact_lock(1179603533, 11);\n"
    folder = files("fernando_telemetry.storage") / "sql"
    texts = [path.read_text(encoding="utf-8") for path in folder.iterdir()]
    assert not [text for text in texts if str(LOCK_CLASS) in text]


def test_every_figure_is_known() -> None:
    assert not [name for name, text in every_statement().items() if re.search(r"\{[a-z_]+\}", text)]


@pytest.mark.parametrize(
    "words",
    [
        "ln({bucket_base})",
        "({zero_bucket})::smallint",
        "generate_series(minute - interval '1 minute', minute + {callers_before},",
        "- {callers_before} AND t.start_time < range_start",
    ],
)
def test_the_function_that_finds_calls_has_the_same_figures(words: str) -> None:
    function = (scripts_folder() / "idempotent" / "service_calls.sql").read_text(encoding="utf-8")
    assert parse(f"-- name: words\n{words}")["words"].strip() in function
