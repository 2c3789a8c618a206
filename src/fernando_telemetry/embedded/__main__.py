"""`python -m fernando_telemetry.embedded`: the PostgreSQL alone, for maintenance.

It serves the data directory of the settings, without the telemetry server, until Ctrl-C or
SIGTERM: to dump, restore or look at the data.
"""

from __future__ import annotations

import asyncio
import signal
import sys

from fernando_telemetry.domain.errors import StartupError
from fernando_telemetry.embedded.cluster import EmbeddedPostgres
from fernando_telemetry.settings import load_settings


async def serve_alone() -> None:
    """Serve until a signal comes.

    Raises:
        StartupError: It does not start, or died and could not be brought back.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with EmbeddedPostgres(load_settings()) as postgres:
        print(f"PostgreSQL {postgres.version} serves {postgres.data_dir}")
        print(f"DSN       {postgres.dsn}")
        print(f"programs  {postgres.programs_folder}")
        print("Ctrl-C stops it.", flush=True)
        failed = asyncio.create_task(postgres.wait_failed())
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([failed, stopped], return_when=asyncio.FIRST_COMPLETED)
            if failed.done():
                raise failed.result()
        finally:
            failed.cancel()
            stopped.cancel()


def main() -> int:
    """Run it; gives the exit code."""
    try:
        asyncio.run(serve_alone())
    except StartupError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
