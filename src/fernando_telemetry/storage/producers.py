"""Producers: hello, resume, and the trimming of their marks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from fernando_telemetry.domain.identifiers import shard_of
from fernando_telemetry.storage.sessions import ControlPool
from fernando_telemetry.storage.statements import load

sql = load("producers")


@dataclass(frozen=True, slots=True)
class ProducerKey:
    """A producer: two licences may use one name."""

    license_id: str
    producer_id: str

    @property
    def shard(self) -> int:
        """The shard of all its rows and marks."""
        return shard_of(self.license_id, self.producer_id)


@dataclass(frozen=True, slots=True)
class ProducerState:
    """What a hello is answered with.

    Attributes:
        epoch: Count of hellos so far.
        last_sequence: End of the contiguous run of numbers; 0: none.
        known: False where the server knows no number, so that any may be the first.
    """

    epoch: int
    last_sequence: int
    known: bool


class Producers:
    """The producers' table, on the control database."""

    def __init__(self, control: ControlPool) -> None:
        self._control = control

    async def hello(self, key: ProducerKey, *, fresh: bool, now: datetime) -> ProducerState:
        """Register a hello and tell where to resume.

        Args:
            key: The producer.
            fresh: It kept no unacknowledged batch: numbers go on behind the highest known one.
            now: Time of the hello.

        Raises:
            DatabaseUnavailable: The control database does not answer.
        """
        where = (key.shard, key.license_id, key.producer_id)
        async with self._control.transaction() as connection:
            # The producer's row stays locked to the end: hellos come one after the other.
            epoch: int = await connection.fetchval(sql.raise_epoch, *where, now)
            row = await connection.fetchrow(sql.known_numbers, *where)
            assert row is not None
            last: int = row["last_sequence"]
            highest: int | None = row["highest_mark"]
            if fresh and highest is not None and highest > last:
                await connection.execute(sql.raise_progress, *where, highest, now)
                last = highest
        return ProducerState(epoch, last, known=row["known"] or highest is not None)

    async def start_at(self, key: ProducerKey, first: int, now: datetime) -> None:
        """Note that a producer nothing was known of counts from `first`.

        Without it a crash that keeps batch 503 and loses 500 to 502 would make the run end at 0.

        Raises:
            DatabaseUnavailable: The control database does not answer.
        """
        async with self._control.transaction() as connection:
            await connection.execute(
                sql.raise_progress, key.shard, key.license_id, key.producer_id, first - 1, now
            )

    async def trim(self, key: ProducerKey, through: int, now: datetime) -> None:
        """Replace the marks at or below `through`, all of the contiguous run, by one number.

        Raises:
            DatabaseUnavailable: The control database does not answer.
        """
        where = (key.shard, key.license_id, key.producer_id, through)
        async with self._control.transaction() as connection:
            await connection.execute(sql.raise_progress, *where, now)
            await connection.execute(sql.trim_marks, *where)
