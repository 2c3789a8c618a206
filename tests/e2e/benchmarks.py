"""Runs `fernando-telemetry bench …` as a person does."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from tests.e2e.processes import environment


async def run_bench(folder: Path, *arguments: str, code: int = 0) -> tuple[str, str]:
    """Run the command with its data in a folder; gives its output and its errors."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fernando_telemetry", "bench", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(TMPDIR=str(folder)),
    )
    out, err = await process.communicate()
    assert process.returncode == code, (out, err)
    assert b"Traceback" not in err
    # Server and data are gone.
    assert not await asyncio.to_thread(os.listdir, folder)
    return out.decode(), err.decode()
