"""`serve` as a process of its own, so that it can be killed, stopped and weighed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEADLINE_SECONDS = 60.0


@dataclass
class ServerProcess:
    """A server that said that it serves, and its log."""

    process: asyncio.subprocess.Process
    address: str
    log_file: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def log_entries(self) -> list[dict[str, Any]]:
        return _entries(self.log_file)

    def count(self, event: str) -> int:
        """Tell how often the log has an event."""
        return sum(entry["event"] == event for entry in self.log_entries())

    def assert_no_traceback(self) -> None:
        text = self.log_file.read_text()
        assert "Traceback" not in text, text
        assert '"exception"' not in text, text

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end; gives its exit code."""
        self.process.send_signal(number)
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await self.process.wait()

    def memory_bytes(self) -> int:
        """Proportional set size: shared pages count by their share."""
        for line in Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no Pss in smaps_rollup")


def _entries(log_file: Path) -> list[dict[str, Any]]:
    entries = []
    for line in log_file.read_text().splitlines():
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            if isinstance(entry, dict) and "event" in entry:
                entries.append(entry)
    return entries


@contextlib.asynccontextmanager
async def serve(
    data_dir: Path,
    log_file: Path,
    environment: dict[str, str] | None = None,
    **settings: object,
) -> AsyncIterator[ServerProcess]:
    """Run a server with these settings; killed at the end if it still runs."""
    small = {"port": 0, "agent": "false", "health_interval_seconds": 0, "data_dir": data_dir}
    variables = {
        name: value for name, value in os.environ.items() if not name.startswith("FERNANDO_")
    } | {f"FERNANDO_{name.upper()}": str(value) for name, value in (small | settings).items()}
    with log_file.open("w") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "fernando_telemetry", "serve", "--log-format", "json"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=output,
            env=variables | (environment or {}),
            cwd="/",
        )
    try:
        yield ServerProcess(process, await _address(process, log_file), log_file)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _address(process: asyncio.subprocess.Process, log_file: Path) -> str:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            for entry in _entries(log_file):
                if entry["event"] == "serving":
                    return str(entry["address"])
            if process.returncode is not None:
                raise AssertionError(_entries(log_file))
            await asyncio.sleep(0.02)


async def until(condition: Callable[[], bool], seconds: float = DEADLINE_SECONDS) -> None:
    """Poll a condition; fails if it does not come true in time."""
    async with asyncio.timeout(seconds):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)
