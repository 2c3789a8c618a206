"""A process that owns a data directory, to be killed by the tests.

`python owner_program.py SETTINGS_JSON KERNEL_OR_WATCHDOG`: starts the cluster, prints one JSON
line, stops when its stdin ends. A StartupError is one line on stderr and exit code 1.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import structlog

from fernando_telemetry.domain.errors import StartupError
from fernando_telemetry.embedded import EmbeddedPostgres
from fernando_telemetry.settings import load_settings


async def own(fields: dict[str, object], *, watchdog: bool) -> None:
    postgres = EmbeddedPostgres(load_settings(**fields), watchdog=watchdog)
    async with postgres:
        told = {
            "dsn": postgres.dsn,
            "postmaster": postgres.postmaster_pid,
            "data_dir": str(postgres.data_dir),
        }
        print(json.dumps(told), flush=True)
        await asyncio.to_thread(sys.stdin.read)


def main() -> int:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    fields = json.loads(sys.argv[1])
    fields["data_dir"] = Path(fields["data_dir"])
    try:
        asyncio.run(own(fields, watchdog=sys.argv[2] == "watchdog"))
    except StartupError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
