"""How settings choose indexes."""

from __future__ import annotations

from pathlib import Path

import pytest

from fernando_telemetry.app import Application
from fernando_telemetry.domain.errors import StartupError
from fernando_telemetry.settings import Settings
from fernando_telemetry.storage.index_sets import INDEXES, IndexChoice, chosen, digest


def names(choice: IndexChoice, table: str = "telemetry_events") -> set[str]:
    return {index.name for index in choice[table]}


def test_sets_and_changes() -> None:
    assert names(chosen("none")) == set()
    assert "event_data" in names(chosen("full"))
    assert "event_data" not in names(chosen("lean"))
    changed = chosen("full -telemetry_events.event_data, +traces.user_time")
    assert names(chosen("full")) - names(changed) == {"event_data"}
    assert names(changed, "traces") - names(chosen("full"), "traces") == {"user_time"}
    assert names(changed, "metric_samples") == names(chosen("full"), "metric_samples")


@pytest.mark.parametrize("set_name", ["lean", "full"])
def test_every_set_finds_rows_by_flush(set_name: str) -> None:
    """Cursors ask every partition, sealed ones too."""
    assert all("flush_brin" in names(chosen(set_name), table) for table in INDEXES)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "most",
        "lean telemetry_events.event_data",
        "lean +telemetry_events.nothing",
        "lean -events.time",
        "-telemetry_events.time",
    ],
)
def test_other_choices_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"set|known index"):
        chosen(text)


async def test_a_wrong_choice_is_one_sentence_at_the_start(database: str, tmp_path: Path) -> None:
    settings = Settings(dsn=database, data_dir=tmp_path, port=0, sealed_indexes="most")
    with pytest.raises(StartupError, match="sealed_indexes") as caught:
        await Application(settings).start()
    assert "\n" not in str(caught.value)


def test_a_digest_names_the_content_of_a_set() -> None:
    full = chosen("full")["traces"]
    assert digest(full) == digest(tuple(reversed(full)))
    assert digest(full) != digest(full[1:])


def test_names_fit_postgresql() -> None:
    longest = "_before_p20260101", "_p20260101_131020"
    for table, indexes in INDEXES.items():
        assert len({index.name for index in indexes}) == len(indexes)
        for index in indexes:
            assert all(len(index.name_on(table + suffix)) <= 63 for suffix in longest)
