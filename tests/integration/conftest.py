"""Pools of sessions on the test's own database, as a server has them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from fernando_telemetry.storage.sessions import ControlPool, ReaderPool
from tests.conftest import session_settings


@pytest.fixture
async def control(database: str) -> AsyncIterator[ControlPool]:
    pool = ControlPool(session_settings(database), 4)
    yield pool
    await pool.close()


@pytest.fixture
async def readers(database: str) -> AsyncIterator[ReaderPool]:
    pool = ReaderPool(session_settings(database), 4)
    yield pool
    await pool.close()
