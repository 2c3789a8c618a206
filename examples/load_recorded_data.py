"""Loads recorded data of real systems into a running server.

    .venv/bin/python examples/load_recorded_data.py --target 127.0.0.1:4317 --data ../shared/data

Each file goes through one stream of its own. The files are years old: each is moved by whole days
so that its newest row is of yesterday, unless --as-recorded is given.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import ad_exchange
import apache_error
import cloudwatch
import grpc
import nova_api
import openssh
import zipkin

from fernando.telemetry.client import (
    CHANNEL_OPTIONS,
    Acknowledgement,
    TelemetryError,
    TelemetryProducer,
)
from fernando.telemetry.v1 import (
    BatchRefusalReason,
    RecordVerdict,
    TelemetryRecords,
    VerdictReason,
)

_WELCOME_TIMEOUT_SECONDS: Final = 30.0

Batches = Callable[[Path, date | None], Iterator[TelemetryRecords]]


@dataclass(frozen=True)
class Loaded:
    """What became of one file, in records; `earlier_count` were stored by an earlier run."""

    sent_count: int
    earlier_count: int
    accepted_count: int
    rejected_count: int
    first_verdict: str


async def load_file(
    channel: grpc.aio.Channel, producer_id: str, batches: list[TelemetryRecords]
) -> Loaded:
    """Send a file's batches that this producer has not sent before, and wait for their acks.

    A file always gives the same batches, so batch n has number n at every run, and the welcome
    says how many are done: a run that was cut short goes on where it stopped.

    Raises:
        TelemetryError: The server will not have this producer.
        TimeoutError: No server answered.
    """
    async with TelemetryProducer(channel, producer_id, fresh=False) as producer:
        done = await _last_sequence(producer)
        receipts = [await producer.send(batch) for batch in batches[done:]]
        acknowledgements = [await receipt for receipt in receipts]
    sent = sum(map(_count, batches[done:]))
    return Loaded(
        sent_count=sent,
        earlier_count=sum(map(_count, batches[:done])),
        accepted_count=sum(ack.accepted_count for ack in acknowledgements),
        # A batch refused as a whole counts with all its records.
        rejected_count=sent - sum(ack.accepted_count for ack in acknowledgements),
        first_verdict=next(filter(None, map(_verdict, acknowledgements)), ""),
    )


async def _last_sequence(producer: TelemetryProducer) -> int:
    try:
        async with asyncio.timeout(_WELCOME_TIMEOUT_SECONDS):
            while (welcome := producer.welcome) is None:
                # Nothing is sent yet, so this only raises what ended the producer.
                await producer.flush()
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise TimeoutError(f"no server answered: {producer.last_error}") from None
    return welcome.last_sequence


def _count(batch: TelemetryRecords) -> int:
    return (
        len(batch.events)
        + len(batch.system_metrics)
        + len(batch.business_metrics)
        + len(batch.spans)
        + len(batch.metric_columns.value)
    )


def _verdict(ack: Acknowledgement) -> str:
    """Give the first thing said against a record or a batch, as one line; "" if there is none."""
    for refused in ack.refusals:
        return f"{_word(BatchRefusalReason.Name(refused.reason), 3)}: {refused.detail}"
    rejected: Iterator[RecordVerdict] = (verdict for verdict in ack.verdicts if not verdict.kept)
    for verdict in rejected:
        reason = _word(VerdictReason.Name(verdict.reason), 2)
        return f"record {verdict.index}: {reason}, {verdict.field_path}: {verdict.detail}"
    return ""


def _word(name: str, prefix_words: int) -> str:
    """Give `time_too_old` of `VERDICT_REASON_TIME_TOO_OLD`."""
    return name.split("_", prefix_words)[-1].lower()


def sources(data: Path, year: int | None) -> Iterator[tuple[Path, Batches]]:
    """Give each file with its reader.

    Raises:
        ValueError: The folder has none of the files.
    """
    logs = data / "logs"
    readers: tuple[tuple[Path, str, Batches], ...] = (
        (data / "metrics", "*.csv", cloudwatch.batches),
        (data / "business", "*.csv", ad_exchange.batches),
        (logs, "openstack_nova.log", nova_api.batches),
        (logs, "apache_error.log", apache_error.batches),
        (logs, "openssh.log", partial(_openssh, year=year)),
        (data / "traces", "*.json", zipkin.batches),
    )
    found = False
    for folder, pattern, batches in readers:
        for path in sorted(folder.glob(pattern)):
            found = True
            yield path, batches
    if not found:
        raise ValueError(f"{data} holds no recorded data")


def _openssh(path: Path, last_day: date | None, year: int | None) -> Iterator[TelemetryRecords]:
    today = datetime.now(UTC).date()
    return openssh.batches(path, last_day, year or openssh.assumed_year(path, today))


async def load(options: argparse.Namespace) -> bool:
    """Load all files and print a line for each; True: nothing was rejected."""
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    last_day = None if options.as_recorded else yesterday
    # Numbers belong to a producer, and the two ways of loading are different data.
    prefix = f"{options.producer_prefix}/{'recorded' if options.as_recorded else 'shifted'}"
    complete = True
    print(f"{'file':<40} {'sent':>7} {'accepted':>8} {'rejected':>8}")
    async with grpc.aio.insecure_channel(options.target, options=CHANNEL_OPTIONS) as channel:
        for path, batches in sources(options.data, options.assume_year):
            name = path.relative_to(options.data).as_posix()
            loaded = await load_file(channel, f"{prefix}/{name}", list(batches(path, last_day)))
            print(
                f"{name:<40} {loaded.sent_count:>7} {loaded.accepted_count:>8} "
                f"{loaded.rejected_count:>8}",
                flush=True,
            )
            if loaded.earlier_count:
                print(f"  {loaded.earlier_count} records were sent by an earlier run")
            if loaded.rejected_count:
                print(f"  first: {loaded.first_verdict}")
                complete = False
    return complete


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Load recorded data of real systems into a running server."
    )
    parser.add_argument("--target", default="127.0.0.1:4317", help="server, host:port")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder")
    parser.add_argument(
        "--as-recorded",
        action="store_true",
        help="keep the times; the server must run with FERNANDO_RETENTION_*_DAYS=0",
    )
    parser.add_argument(
        "--assume-year",
        type=int,
        help="year of openssh.log, which has none; default: the newest that is not in the future",
    )
    parser.add_argument(
        "--producer-prefix",
        default="examples",
        help="begin of the producers' names; another one loads the files once more",
    )
    return parser.parse_args()


def main() -> int:
    """Run; 1 where anything was rejected, or could not be read or sent."""
    try:
        return 0 if asyncio.run(load(options())) else 1
    except (OSError, ValueError, TelemetryError) as error:
        print(f"load_recorded_data: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
