"""Fixtures all tests share: one real PostgreSQL a session, one migrated database a test.

Nothing here meets a `serve` that runs beside: own data directory, port 0, no agent.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import hypothesis
import pytest
from grpc import aio

from fernando_telemetry.app import Application
from fernando_telemetry.embedded import EmbeddedPostgres
from fernando_telemetry.settings import Settings
from fernando_telemetry.storage.migrating import migrate
from fernando_telemetry.storage.partitions import Partitions, raw_tables
from fernando_telemetry.storage.sessions import ControlPool, ReaderPool, SessionSettings

# Here, and not beside them: whichever folder's tests are collected first imports them.
pytest.register_assert_rewrite(
    "tests.integration.ingest.ingest_call",
    "tests.integration.ingest.judging",
    "tests.integration.transport.server_log",
)

# What the fixture `serving` gives: runs a server with other settings than the fixture `server`.
Serving = Callable[[Settings], AbstractAsyncContextManager[Application]]

MEMORY_FOLDER = Path("/dev/shm")
MEMORY_FOLDER_BYTES = 4 * 1024**3


# Examples of a hypothesis test that names no number of its own; the whole is for `-m fuzz`.
FUZZ_EXAMPLES = 150
FUZZ_EXAMPLES_WHOLE = 5_000


def pytest_configure(config: pytest.Config) -> None:
    """Set the size of hypothesis tests, and where temporary folders lie."""
    whole = config.getoption("-m") == "fuzz"
    hypothesis.settings.register_profile(
        "share",
        max_examples=FUZZ_EXAMPLES_WHOLE if whole else FUZZ_EXAMPLES,
        # How long an example takes says more of the machine than of the program.
        deadline=None,
    )
    hypothesis.settings.load_profile("share")
    _keep_temporary_folders_in_memory()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell starts what runs behind it so, and programs under test would inherit it.
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _keep_temporary_folders_in_memory() -> None:
    """Keep temporary folders in memory where there is plenty: many hold a PostgreSQL of their own.

    What is tested does not change (kills are of processes, not of the machine), only the disk's
    time is spared.
    """
    try:
        free = shutil.disk_usage(MEMORY_FOLDER).free
    except OSError:
        return
    if free >= MEMORY_FOLDER_BYTES:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY_FOLDER))


_names = (f"test_{number}" for number in itertools.count())


def share(request: pytest.FixtureRequest, marker: str, small: int, whole: int) -> int:
    """Give the size of a long run: small in the whole suite, whole with `-m <marker>`."""
    return whole if request.config.getoption("-m") == marker else small


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep settings of the developer's shell out of every test."""
    for name in list(os.environ):
        if name.startswith("FERNANDO_"):
            monkeypatch.delenv(name)


def with_database(dsn: str, name: str) -> str:
    """Give the DSN of another database on the same server."""
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))


def session_settings(dsn: str) -> SessionSettings:
    """Give the session settings of tests."""
    return SessionSettings(dsn, "test", 5.0, 60.0, 10.0, 30.0)


@pytest.fixture(scope="session")
async def postgres(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedPostgres]:
    """The session's PostgreSQL. fsync is off: no test here cuts the power."""
    folder = tmp_path_factory.mktemp("postgres")
    async with EmbeddedPostgres(Settings(data_dir=folder, pg_fsync=False)) as running:
        connection = await asyncpg.connect(running.dsn)
        # It comes every some seconds to whichever test is running then: its ANALYZE changes plans,
        # and its locks are those that summarising and sealing do not wait for.
        await connection.execute("ALTER SYSTEM SET autovacuum = off")
        await connection.execute("SELECT pg_reload_conf()")
        await connection.close()
        yield running


class Templates:
    """Migrated databases to be copied by each test, one for each day that the run meets."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._names: dict[date, str] = {}

    async def of_today(self) -> str:
        """Give the one with the partitions of today and tomorrow."""
        now = datetime.now(UTC)
        if now.date() not in self._names:
            name = f"migrated_{now:%Y%m%d}"
            connection = await asyncpg.connect(self._dsn)
            await connection.execute(f"CREATE DATABASE {name}")
            await connection.close()
            settings = session_settings(with_database(self._dsn, name))
            await migrate(settings, allowed=True)
            control = ControlPool(settings, 1)
            await Partitions(control, raw_tables()).ensure_ahead(now, 1)
            await control.close()
            self._names[now.date()] = name
        return self._names[now.date()]


@pytest.fixture(scope="session")
def templates(postgres: EmbeddedPostgres) -> Templates:
    """The session's template databases."""
    return Templates(postgres.dsn)


@pytest.fixture
async def template_database(templates: Templates) -> str:
    """A migrated database with today's partitions, to be copied by each test."""
    return await templates.of_today()


@pytest.fixture
async def database(postgres: EmbeddedPostgres, template_database: str) -> AsyncIterator[str]:
    """DSN of a migrated database of the test's own."""
    name = next(_names)
    connection = await asyncpg.connect(postgres.dsn)
    # Copying files takes half as long as logging pages, and a database dropped soon needs no log.
    await connection.execute(
        f"CREATE DATABASE {name} TEMPLATE {template_database} STRATEGY FILE_COPY"
    )
    yield with_database(postgres.dsn, name)
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()


@pytest.fixture
def settings(database: str, tmp_path: Path) -> Settings:
    """Settings of a server on the test's database."""
    return Settings(
        dsn=database,
        data_dir=tmp_path,
        port=0,
        agent=False,
        health_interval_seconds=0,
        # A call here is sent once. Where many tests share the machine, making the partitions of a
        # new server's day can hold a flush for longer than the 2 s after which clients try again.
        unary_wait_seconds=30.0,
    )


@pytest.fixture
async def server(settings: Settings) -> AsyncIterator[Application]:
    """A running server on the test's database."""
    async with Application(settings) as running:
        yield running


@pytest.fixture
async def channel(server: Application) -> AsyncIterator[aio.Channel]:
    """A channel to the server."""
    async with aio.insecure_channel(server.address) as opened:
        yield opened


@pytest.fixture
async def connection(database: str) -> AsyncIterator[Any]:
    """A plain session on the test's database, in UTC."""
    opened = await asyncpg.connect(database, server_settings={"TimeZone": "UTC"})
    yield opened
    await opened.close()


@pytest.fixture
async def control(database: str) -> AsyncIterator[ControlPool]:
    """A server's pool for what it coordinates, on the test's database."""
    pool = ControlPool(session_settings(database), 4)
    yield pool
    await pool.close()


@pytest.fixture
async def readers(database: str) -> AsyncIterator[ReaderPool]:
    """A server's pool for queries, on the test's database."""
    pool = ReaderPool(session_settings(database), 4)
    yield pool
    await pool.close()


@pytest.fixture
def serving() -> Serving:
    """Start further servers: `async with serving(settings) as app`."""
    return Application


@pytest.fixture
def shared_data() -> Path:
    """The recorded real input beside the project; skips where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data, which is not part of the project")
    return folder
