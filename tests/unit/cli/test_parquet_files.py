"""Files of an export: by day, hidden until they are published, and gone when they are discarded."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fernando_telemetry.cli import parquet_files
from fernando_telemetry.cli.parquet_files import ParquetFiles

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
SCHEMA = pa.schema(
    [("event_timestamp", pa.timestamp("us", "UTC")), ("event_name", pa.string())],
    {"fernando_telemetry.schema_version": "1"},
)


def batch(*times: datetime) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [pa.array(times, SCHEMA.field(0).type), pa.array([f"{time}" for time in times])],
        schema=SCHEMA,
    )


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def files(folder: Path) -> ParquetFiles:
    return ParquetFiles(folder, 7, SCHEMA, "event_timestamp")


def test_a_file_for_each_day(tmp_path: Path) -> None:
    made = files(tmp_path)
    midnight = NOON + timedelta(hours=12)
    before = midnight - timedelta(microseconds=1)
    early = datetime(1969, 12, 31, 23, tzinfo=UTC)
    made.write(batch(NOON, before, midnight, early))
    made.write(batch())
    made.write(batch(midnight))
    written = made.close()
    assert all(name.split("/")[1].startswith(".part-") for name in files_in(tmp_path))
    made.publish()
    assert files_in(tmp_path) == sorted(one.path for one in written)
    found = {one.path.split("/")[0]: one for one in written}
    assert {day: one.row_count for day, one in found.items()} == {
        "day=1969-12-31": 1,
        "day=2026-01-31": 2,
        "day=2026-02-01": 2,
    }
    for one in written:
        content = (tmp_path / one.path).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (one.size_bytes, one.sha256)
        table = pq.read_table(tmp_path / one.path, partitioning=None)
        assert len(table) == one.row_count
        assert table.schema.equals(SCHEMA, check_metadata=True)


def test_columns_are_written_for_what_they_hold(tmp_path: Path) -> None:
    texts = {name: [f"{name}-{n}" for n in range(9)] for name in ("event_data", "event_name")}
    table = pa.table(
        {"event_timestamp": pa.array([NOON] * 9, SCHEMA.field(0).type), "metric_value": [1.5] * 9}
        | texts
    )
    made = ParquetFiles(tmp_path, 1, table.schema, "event_timestamp")
    made.write(table.to_batches()[0])
    (written,) = made.close()
    made.publish()
    file = pq.ParquetFile(tmp_path / written.path)
    assert file.read().equals(table)
    group = file.metadata.row_group(0)
    time, value, data, name = (group.column(place) for place in range(4))
    assert "DELTA_BINARY_PACKED" in time.encodings
    assert "RLE_DICTIONARY" in name.encodings
    assert {"PLAIN", "RLE_DICTIONARY"} & set(data.encodings) == {"PLAIN"}
    # What a reader leaves row groups out by.
    assert [one.is_stats_set for one in (time, value, data, name)] == [True, True, False, True]


def test_few_files_are_open_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_files, "MOST_OPEN", 2)
    made = files(tmp_path)
    days = [NOON + timedelta(days=day) for day in (0, 1, 2, 0, 1, 2)]
    for day in days:
        made.write(batch(day))
    assert len(made._open) == 2
    written = made.close()
    made.publish()
    assert sum(one.row_count for one in written) == len(days)
    times = [
        time
        for one in written
        for time in pq.read_table(tmp_path / one.path)["event_timestamp"].to_pylist()
    ]
    assert sorted(times) == sorted(days)


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_files, "BUFFERED_BYTES", 2_000)
    made = files(tmp_path)
    for day in range(20):
        made.write(batch(*[NOON + timedelta(days=day)] * 20))
        assert sum(part.buffered for part in made._open.values()) <= 2_000
    assert sum(one.row_count for one in made.close()) == 400
    made.discard()


@pytest.mark.parametrize("published", [False, True])
def test_what_is_discarded_is_gone(tmp_path: Path, published: bool) -> None:
    (tmp_path / "day=2026-01-31").mkdir()
    (tmp_path / "day=2026-01-31" / "mine").write_text("kept")
    made = files(tmp_path)
    made.write(batch(NOON, NOON + timedelta(days=1)))
    if published:
        made.close()
        made.publish()
    made.discard()
    assert files_in(tmp_path) == ["day=2026-01-31/mine"]
    assert [path.name for path in tmp_path.iterdir()] == ["day=2026-01-31"]
