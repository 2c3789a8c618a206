"""What faults leave behind: run directories of the killed, processes that stand still."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest


@pytest.fixture
def run_folder() -> Iterator[dict[str, str]]:
    """Keep the run directories that killed servers leave where they are swept up."""
    with tempfile.TemporaryDirectory(prefix="run-", dir="/tmp") as name:
        Path(name).chmod(0o1777)
        yield {"TMPDIR": name, "XDG_RUNTIME_DIR": ""}


@pytest.fixture
def stopped() -> Iterator[list[int]]:
    """Processes that were stopped; they go on at the end of the test, come what may."""
    pids: list[int] = []
    yield pids
    go_on(pids)


def stand_still(pids: Iterable[int], stopped: list[int]) -> None:
    """Stop processes and note them; one may have ended since it was looked for."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            stopped.append(pid)


def go_on(pids: Iterable[int]) -> None:
    """Let stopped processes go on, those that still are there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
