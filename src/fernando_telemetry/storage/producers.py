"""Producers: hello, fencing, resume, and the trimming of their marks.

A hello takes the producer over in two transactions. The first commits a *claim* of the next
epoch; from then on no flush takes batches of older epochs. The second makes the epoch the
producer's, which waits for the flushes that still hold its row, and reads where to resume. A
claim of a hello that came to nothing goes with the next one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from fernando_telemetry.domain.errors import ProducerFenced
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
        epoch: Rises with every hello; a flush takes only batches of the latest.
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
        """Take a producer over and tell where to resume.

        Older streams of it are fenced: what they have not committed when this returns is never
        stored by them.

        Args:
            key: The producer.
            fresh: It kept no unacknowledged batch: numbers go on behind the highest known one.
            now: Time of the hello.

        Raises:
            ProducerFenced: A newer hello overtook this one.
            DatabaseUnavailable: The control database does not answer, or a flush holds the
                producer for too long.
        """
        where = (key.shard, key.license_id, key.producer_id)
        epoch = await self._claim(key, now)
        async with self._control.transaction() as connection:
            if await connection.fetchval(sql.raise_epoch, *where, epoch, now) is None:
                raise ProducerFenced(key.producer_id, epoch)
            await connection.execute(sql.drop_claims, *where, epoch)
            # A later statement than the one that waited: it sees what the flushes committed.
            row = await connection.fetchrow(sql.known_numbers, *where)
            assert row is not None
            last: int = row["last_sequence"]
            highest: int | None = row["highest_mark"]
            if fresh and highest is not None and highest > last:
                await connection.execute(sql.raise_progress, *where, highest, now)
                last = highest
        return ProducerState(epoch, last, known=last > 0 or highest is not None)

    async def _claim(self, key: ProducerKey, now: datetime) -> int:
        where = (key.shard, key.license_id, key.producer_id)
        async with self._control.transaction() as connection:
            epoch: int | None = None
            while epoch is None:
                # No row where another hello took the number: it has committed, so this ends.
                epoch = await connection.fetchval(sql.claim, *where, now)
        return epoch

    async def keep(self, key: ProducerKey, now: datetime) -> None:
        """Note that a producer is in use, or it would expire while its stream is open.

        Raises:
            DatabaseUnavailable: The control database does not answer.
        """
        where = (key.shard, key.license_id, key.producer_id)
        async with self._control.transaction() as connection:
            await connection.execute(sql.raise_progress, *where, 0, now)

    async def start_at(self, key: ProducerKey, epoch: int, first: int, now: datetime) -> None:
        """Note that a producer nothing was known of counts from `first`.

        Without it a crash that keeps batch 503 and loses 500 to 502 would make the run end at 0.

        Raises:
            ProducerFenced: The epoch is no longer the producer's; its newer stream may count from
                elsewhere, and what it sends below `first` must not become a repeat.
            DatabaseUnavailable: The control database does not answer.
        """
        where = (key.shard, key.license_id, key.producer_id)
        async with self._control.transaction() as connection:
            if await connection.fetchval(sql.hold_epoch, *where, epoch) is None:
                raise ProducerFenced(key.producer_id, epoch)
            await connection.execute(sql.raise_progress, *where, first - 1, now)

    async def trim(self, key: ProducerKey, through: int, now: datetime) -> None:
        """Replace the marks at or below `through`, all of the contiguous run, by one number.

        Raises:
            DatabaseUnavailable: The control database does not answer.
        """
        where = (key.shard, key.license_id, key.producer_id, through)
        async with self._control.transaction() as connection:
            await connection.execute(sql.raise_progress, *where, now)
            await connection.execute(sql.trim_marks, *where)
