"""Which settings of the environment reach a benchmark's server."""

from __future__ import annotations

from fernando_telemetry.bench.server import settings_given


def test_what_a_benchmark_decides_is_not_said_to_be_given() -> None:
    environment = {
        "FERNANDO_WRITERS": "4",
        "FERNANDO_DATA_DIR": "/somewhere",
        "FERNANDO_PORT": "4317",
        "FERNANDO_DSN": "postgresql://somewhere/else",
        "HOME": "/root",
    }
    assert settings_given(environment, ["data_dir", "port"]) == {"FERNANDO_WRITERS": "4"}
