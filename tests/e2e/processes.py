"""Runs `fernando-telemetry serve` as a person does: a process of its own, read by its output."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

# On a machine that eight test runs share, the migrations alone took 29 s.
SERVING_SECONDS = 60.0


@dataclass
class Serving:
    """A server process, its banner and its log so far."""

    process: subprocess.Popen[str]
    log: Path
    banner: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        """Where gRPC listens, from the banner."""
        return next(line.split()[1] for line in self.banner if line.strip().startswith("gRPC"))

    def command(self, name: str) -> list[str]:
        """Give a command of the banner, as printed, for a shell."""
        line = next(line for line in self.banner if line.strip().startswith(name))
        return ["bash", "-c", re.sub(r"\s+\(.*\)$", "", line.strip().removeprefix(name).strip())]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the exit code."""
        self.process.send_signal(number)
        return self.process.wait(30)


def environment(**more: str) -> dict[str, str]:
    """Give this process's environment without its FERNANDO_* settings, and with `more`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FERNANDO_")}
    return kept | more


@contextmanager
def serve(
    *arguments: str, program: Sequence[str] = (sys.executable, "-m", "fernando_telemetry")
) -> Iterator[Serving]:
    """Start `serve` and give it when its banner is complete; killed at the end if it still runs."""
    with tempfile.NamedTemporaryFile(suffix=".log") as log:
        process = subprocess.Popen(
            [*program, "serve", "--port", "0", *arguments],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment(),
            cwd="/",
        )
        serving = Serving(process, Path(log.name))
        try:
            _read_banner(serving)
            yield serving
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(30)
            assert process.stdout is not None
            process.stdout.close()


def _read_banner(serving: Serving) -> None:
    assert serving.process.stdout is not None
    # What hangs prints nothing: only its end ends the reading.
    ending = threading.Timer(SERVING_SECONDS, serving.process.kill)
    ending.start()
    try:
        for line in serving.process.stdout:
            serving.banner.append(line.rstrip())
            if line.strip().startswith("stop"):
                return
    finally:
        ending.cancel()
    raise AssertionError(f"serve ended before its banner: {serving.log.read_text()}")
