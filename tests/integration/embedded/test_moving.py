"""The steps of docs/how-to/move-data-to-a-newer-postgresql.md, from PostgreSQL 15."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from fernando_telemetry.embedded import running_server
from fernando_telemetry.embedded.binaries import find_binaries
from tests.integration.embedded.conftest import POSTGRESQL_15, needs_postgresql_15, query


async def run(*command: str | Path) -> None:
    process = await asyncio.create_subprocess_exec(*command, stderr=subprocess.PIPE)
    _output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()


@contextlib.asynccontextmanager
async def alone(data_dir: Path, pg_bin: Path | None) -> AsyncIterator[str]:
    """Run the program for maintenance; gives the DSN it prints."""
    chosen = {"FERNANDO_PG_BIN": str(pg_bin)} if pg_bin else {}
    fields = {"FERNANDO_DATA_DIR": str(data_dir), "FERNANDO_PG_FSYNC": "off"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fernando_telemetry.embedded"),
        stdout=subprocess.PIPE,
        env=os.environ | fields | chosen,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            lines = [line.decode() async for line in _until_last(process.stdout)]
        (dsn,) = [line.split()[1] for line in lines if line.startswith("DSN ")]
        yield dsn
    finally:
        process.send_signal(signal.SIGINT)
        await process.communicate()
    assert process.returncode == 0


async def _until_last(output: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while line := await output.readline():
        yield line
        if line.startswith(b"Ctrl-C"):
            return


@needs_postgresql_15
async def test_the_way_by_dump_and_restore(data_dir: Path, tmp_path: Path) -> None:
    programs = find_binaries(None).folder
    dump = tmp_path / "telemetry.dump"
    async with alone(data_dir, POSTGRESQL_15) as dsn:
        found = running_server(data_dir)
        assert found is not None
        assert found.dsn == dsn, "the text says `fernando-telemetry dsn`"
        await query(dsn, "CREATE TABLE kept AS SELECT n FROM generate_series(1, 1000) n")
        await run(programs / "pg_dump", "--format=custom", f"--file={dump}", dsn)
    (data_dir / "pgdata").rename(tmp_path / "data-of-15")
    async with alone(data_dir, None) as dsn:
        await run(programs / "pg_restore", "--exit-on-error", f"--dbname={dsn}", dump)
        assert await query(dsn, "SELECT sum(n) FROM kept") == 500_500
