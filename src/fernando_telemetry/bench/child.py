"""A child process that is spoken to in JSON lines."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Final

from fernando_telemetry.bench.failure import BenchFailed

# A slice's latencies come in one line.
_LINE_BYTES: Final = 64 * 1024 * 1024


class Child:
    """The talk with one child: a line out, a line in."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self._name = name
        self._process = process

    async def say(self, fields: dict[str, Any]) -> None:
        """Send a line.

        Raises:
            BenchFailed: It has ended.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(fields).encode() + b"\n")
        try:
            await self._process.stdin.drain()
        except ConnectionError:
            raise BenchFailed(f"The {self._name} has ended.") from None

    async def answer(self, patience_seconds: float) -> dict[str, Any]:
        """Wait for a line.

        Raises:
            BenchFailed: None came in this time, it ended, or it says `failed`.
        """
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(patience_seconds):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise BenchFailed(f"The {self._name} does not answer.") from None
        fields: dict[str, Any] = json.loads(line) if line else {"failed": "it ended."}
        if "failed" in fields:
            raise BenchFailed(f"The {self._name} failed: {fields['failed']}")
        return fields


@contextlib.asynccontextmanager
async def child(name: str, module: str) -> AsyncIterator[Child]:
    """Run a module of this package as a process; killed when this is left.

    Args:
        name: What it is, for sentences.
        module: Its last part, such as `load_generator`.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"fernando_telemetry.bench.{module}"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LINE_BYTES,
    )
    try:
        yield Child(name, process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def say(fields: dict[str, Any]) -> None:
    """Answer, from inside the child."""
    print(json.dumps(fields), flush=True)


async def listen() -> dict[str, Any] | None:
    """Wait for a line, inside the child; None: no more will come."""
    line = await asyncio.to_thread(sys.stdin.readline)
    return dict(json.loads(line)) if line else None


def run_child(work: Coroutine[Any, Any, None]) -> int:
    """Run the child's work; trouble is a line `{"failed": …}` and exit code 1."""
    try:
        asyncio.run(work)
    except BenchFailed as error:
        say({"failed": str(error)})
        return 1
    return 0
