from __future__ import annotations

from collections.abc import Iterator

import pytest

from fernando_telemetry.ingest import group_check
from tests.integration.transport.server_log import ServerLog, watched_log

ALL, NONE = 1, 1_000_000


@pytest.fixture(autouse=True)
def server_log(caplog: pytest.LogCaptureFixture) -> Iterator[ServerLog]:
    """Every test here also holds that the server logged no traceback."""
    with watched_log(caplog) as log:
        yield log


@pytest.fixture(params=["columns", "records"])
def each_path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test twice: with every group checked as columns, and with none."""
    fewest = ALL if request.param == "columns" else NONE
    monkeypatch.setattr(group_check, "FEWEST_RECORDS", fewest)
    return str(request.param)
