"""How long queries take over gRPC, and beside each the same SQL by bare asyncpg."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final

from grpc import aio

from fernando_telemetry.bench.failure import BenchFailed
from fernando_telemetry.bench.figures import Figures, Report, load_average, percentile
from fernando_telemetry.bench.query_questions import PAGE_ROWS, QUESTIONS, Asking, Question
from fernando_telemetry.bench.query_rows import ROWS, Week, fill, week_of
from fernando_telemetry.bench.sealed_partitions import wait_until_sealed
from fernando_telemetry.bench.server import Connection, serving
from fernando_telemetry.bench.tables import analyze
from fernando_telemetry.logs import configure_logs

GRACE_SECONDS: Final = 2
# A question that has taken this long in all is not asked again.
PATIENCE_SECONDS: Final = 20.0
UNTIMED: Final = 3
_SEED: Final = 20_260_517


@dataclass(frozen=True, slots=True)
class QueryOptions:
    """What the flags of `bench query` say.

    Attributes:
        rows: Events, and as many spans.
        repeats: How often each question is asked.
    """

    rows: int = 2_000_000
    repeats: int = 100


async def measure_query(options: QueryOptions, report: Report) -> Figures:
    """Fill a server's database with a week, wait until it is sealed, and ask.

    Raises:
        BenchFailed: Service and SQL answer differently, or the server does not seal.
    """
    configure_logs("warning", "json")
    load_before = load_average()
    async with serving(seal_grace_seconds=GRACE_SECONDS) as server:
        report(f"server {server.address}, data in {server.data_dir}")
        connection = await server.connect()
        try:
            begun = time.monotonic()
            week = week_of(options.rows, datetime.now(UTC))
            await fill(server, connection, week, report)
            filled = time.monotonic()
            for table in ROWS:
                await wait_until_sealed(server.address, connection, table, week.hot.day)
                # As autovacuum would within the minute.
                await analyze(connection, table)
            sealed = time.monotonic()
            figures: Figures = {
                "figure": "query",
                "rows": options.rows,
                "hot_rows": week.hot.count,
                "sealed_day_rows": week.sealed.count,
                "fill_seconds": round(filled - begun, 1),
                "seal_seconds": round(sealed - filled, 1),
            }
            async with aio.insecure_channel(server.address) as channel:
                for question in QUESTIONS:
                    found = await _measured(question, week, channel, connection, options.repeats)
                    figures[question.key] = found
                    report(_in_words(question, found))
        finally:
            await connection.close()
        return figures | {
            "load_average_before": load_before,
            "load_average": load_average(),
            "settings": server.given_settings,
        }


async def _measured(
    question: Question, week: Week, channel: aio.Channel, connection: Connection, repeats: int
) -> Figures:
    """Ask service and database in turns; milliseconds."""
    chance = random.Random(_SEED)  # noqa: S311 - which rows are asked for
    by_call: list[float] = []
    by_sql: list[float] = []
    rows: list[float] = []
    begun = time.monotonic()
    for turn in range(-UNTIMED, repeats):
        if turn > 0 and time.monotonic() - begun > PATIENCE_SECONDS:
            break
        asking = question.draw(week, chance)
        sql_ms, found = await _timed(partial(_fetched, connection, asking))
        if asking.call is not None:
            call_ms, given = await _timed(partial(asking.call, channel))
            if given != found:
                raise BenchFailed(
                    f"{question.key}: the service gave {given} rows, the same SQL {found}."
                )
            if turn >= 0:
                by_call.append(call_ms)
        if turn >= 0:
            by_sql.append(sql_ms)
            rows.append(found)
    p95 = percentile(by_call or by_sql, 95)
    result: Figures = {
        "target_ms": question.target_ms,
        "is_met": p95 <= question.target_ms,
        "asked": len(by_sql),
        "rows": percentile(rows, 50),
    }
    if by_call:
        result |= {"p50_ms": _rounded(by_call, 50), "p95_ms": _rounded(by_call, 95)}
    return result | {"sql_p50_ms": _rounded(by_sql, 50), "sql_p95_ms": _rounded(by_sql, 95)}


async def _fetched(connection: Connection, asking: Asking) -> int:
    return min(PAGE_ROWS, len(await connection.fetch(asking.statement, *asking.arguments)))


async def _timed(ask: Callable[[], Awaitable[int]]) -> tuple[float, int]:
    begun = time.perf_counter()
    given = await ask()
    return 1000 * (time.perf_counter() - begun), given


def _in_words(question: Question, found: Figures) -> str:
    service = f"{found['p95_ms']} ms, " if "p95_ms" in found else ""
    return (
        f"{question.key}: p95 {service}by SQL {found['sql_p95_ms']} ms; target "
        f"{question.target_ms:g} ms{'' if found['is_met'] else ', not met'}"
    )


def _rounded(values: list[float], percent: float) -> float:
    return round(percentile(values, percent), 2)
