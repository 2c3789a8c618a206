from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite(
    "tests.integration.ingest.judging",
    "tests.integration.ingest.ingest_call",
    "tests.integration.transport.server_log",
)

from tests.integration.transport.server_log import ServerLog, watched_log  # noqa: E402


@pytest.fixture(autouse=True)
def server_log(caplog: pytest.LogCaptureFixture) -> Iterator[ServerLog]:
    """Every test here also holds that the server logged no traceback."""
    with watched_log(caplog) as log:
        yield log
