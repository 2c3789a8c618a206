"""What `bench query --all` adds, as small as it gets: keys, never speed."""

from __future__ import annotations

from fernando_telemetry.bench.query_targets import measure_beside_load
from fernando_telemetry.bench.stand import IngestOptions


async def test_every_figure_beside_a_load_has_its_key_and_target() -> None:
    options = IngestOptions(seconds=0.4, rounds=1, batch_records=200, preload_rows=3_000)
    found = await measure_beside_load(options, lambda _line: None)
    assert {key: (one["is_met"] in (True, False)) for key, one in found.items()} == dict.fromkeys(
        ("rollups_events", "rollups_points", "fold_lag", "summary_lag", "dropping_stall"), True
    )
    assert (found["rollups_events"]["target"], found["rollups_points"]["target"]) == (0.85, 0.8)
    assert found["rollups_events"]["rows_per_second"] > 0
    assert found["dropping_stall"]["dropped_partitions"] == 30
