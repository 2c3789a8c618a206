"""The test stand of an ingest figure: a server, a session on its database, and load for it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime

from fernando_telemetry.bench.failure import BenchFailed
from fernando_telemetry.bench.figures import Figures, Report, load_average
from fernando_telemetry.bench.load_generator import LoadPlan
from fernando_telemetry.bench.records import POOL_BYTES, base_micros, default_batch_records
from fernando_telemetry.bench.server import Connection, Server, serving
from fernando_telemetry.bench.tables import TABLES, count_rows
from fernando_telemetry.storage.statements import load

sql = load("bench")

# A short run needs fewer different batches.
POOL_BYTES_A_SECOND = 10_000_000


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """What the flags of `bench ingest` say.

    Attributes:
        kind: One of `records.KINDS`.
        seconds: Of load, and as many of what it is compared with.
        streams: Open at once.
        batch_records: Records of a batch; None: about 1 MB.
        rounds: Turns that the seconds are cut into.
        preload_rows: Rows of the full partition, where its figure is wanted.
        partitions: Partitions to fill, where the sustained rate is wanted.
        partition_length: Their length, as the setting takes it.
        stalled_clients: How many, where memory is wanted.
        tails: How many at once, where what they cost is wanted.
    """

    kind: str = "events"
    seconds: float = 15.0
    streams: int = 1
    batch_records: int | None = None
    rounds: int = 5
    preload_rows: int = 50_000_000
    partitions: int = 10
    partition_length: str = "10 seconds"
    stalled_clients: int = 200
    tails: int = 100

    @property
    def slice_seconds(self) -> float:
        """Length of one turn."""
        return self.seconds / self.rounds


@dataclass(frozen=True, slots=True)
class Stand:
    """Server and session.

    Attributes:
        options: What is wanted.
        server: The process under test.
        connection: A session for the baseline and for looking.
        load_before: The machine's load average before anything began.
    """

    options: IngestOptions
    server: Server
    connection: Connection
    load_before: float

    @property
    def table(self) -> str:
        """Where the rows go."""
        return TABLES[self.options.kind]

    def plan(
        self, name: str, streams: int, batch_records: int | None, *, timed: bool = True
    ) -> LoadPlan:
        """Plan load on the server.

        Args:
            name: Begins its producers' names.
            streams: How many.
            batch_records: Records of a batch; None: about 1 MB.
            timed: The records carry times; else the server's receive time counts.
        """
        return LoadPlan(
            self.server.address,
            name,
            self.options.kind,
            streams,
            batch_records or default_batch_records(self.options.kind),
            base_micros(datetime.now(UTC)) if timed else None,
            min(POOL_BYTES, int(self.options.seconds * POOL_BYTES_A_SECOND)),
        )

    async def settle(self) -> None:
        """Let the next slice begin with the same distance to a checkpoint as all others."""
        await self.connection.execute(sql.checkpoint)

    async def require_rows(self, expected: int) -> int:
        """Compare what was acknowledged and copied with what is stored.

        Returns:
            The table's rows.

        Raises:
            BenchFailed: They differ: a figure of this server would be worth nothing.
        """
        stored = await count_rows(self.connection, self.table)
        if stored != expected:
            raise BenchFailed(
                f"{expected} rows were acknowledged or copied, but {stored} are stored."
            )
        return stored

    def surroundings(self) -> Figures:
        """Give what else a figure depends on."""
        return {
            "load_average_before": self.load_before,
            "load_average": load_average(),
            "settings": self.server.given_settings,
        }


@contextlib.asynccontextmanager
async def standing(
    options: IngestOptions, report: Report, **settings: object
) -> AsyncIterator[Stand]:
    """Run a server with settings and open a session on its database."""
    load_before = load_average()
    async with serving(**settings) as server:
        report(f"server {server.address}, data in {server.data_dir}")
        connection = await server.connect()
        try:
            yield Stand(options, server, connection, load_before)
        finally:
            await connection.close()
