from __future__ import annotations

import pytest

# Shared with tests/integration/ingest, whose conftest says the same: the first import decides.
pytest.register_assert_rewrite(
    "tests.integration.ingest.ingest_call",
    "tests.integration.transport.server_log",
)
