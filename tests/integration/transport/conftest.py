from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.transport.server_log import ServerLog, watched_log


@pytest.fixture(autouse=True)
def server_log(caplog: pytest.LogCaptureFixture) -> Iterator[ServerLog]:
    """Every test here also holds that the server logged no traceback."""
    with watched_log(caplog) as log:
        yield log
