"""What a parent and its worker say to each other: a line of JSON each way.

The order goes over the worker's stdin, not its command line: settings hold passwords.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Self

from fernando_telemetry.settings import MIB, Settings


@dataclass(frozen=True, slots=True)
class _Message:
    """What stands in one line."""

    def line(self) -> bytes:
        """Give it as a line."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def of_line(cls, line: bytes) -> Self:
        """Read it.

        Raises:
            ValueError: The line is none.
        """
        try:
            return cls(**json.loads(line))
        except TypeError as error:
            raise ValueError(str(error)) from None


@dataclass(frozen=True, slots=True)
class WorkerOrder(_Message):
    """What a worker is to be.

    Attributes:
        worker: Its number, from 1; it stays when the process is replaced.
        parent_pid: Whom it ends with.
        settings: All settings, as JSON takes them.
    """

    worker: int
    parent_pid: int
    settings: dict[str, Any]


@dataclass(frozen=True, slots=True)
class WorkerAnswer(_Message):
    """What becomes of a worker's start.

    Attributes:
        address: Where it serves, as host:port; "" where it does not.
        trouble: Why not, in one sentence.
    """

    address: str = ""
    trouble: str = ""


def settings_of_worker(settings: Settings, *, dsn: str, port: int) -> dict[str, Any]:
    """Give the settings of each worker: the parent's database and port, its share of memory."""
    return settings.model_dump(mode="json") | {
        "dsn": dsn,
        "port": port,
        "admitted_bytes": max(MIB, settings.admitted_bytes // settings.workers),
        "granted_bytes": max(MIB, settings.granted_bytes // settings.workers),
        # The parent's.
        "agent": False,
    }
