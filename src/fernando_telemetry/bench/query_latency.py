"""How long queries take over gRPC, and beside each the same SQL by bare asyncpg."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from grpc import aio

from fernando_telemetry.bench.failure import BenchFailed
from fernando_telemetry.bench.figures import (
    Figures,
    Report,
    load_average,
    percentile,
    quotient,
)
from fernando_telemetry.bench.query_calls import work_out_calls
from fernando_telemetry.bench.query_data import filled_week
from fernando_telemetry.bench.query_export import KEY as EXPORT
from fernando_telemetry.bench.query_export import measure_export
from fernando_telemetry.bench.query_questions import (
    GRAPH,
    QUESTIONS,
    SUMMARY,
    TIMEOUT_SECONDS,
    Asking,
    Question,
)
from fernando_telemetry.bench.query_rows import Week
from fernando_telemetry.bench.query_targets import measure_beside_load
from fernando_telemetry.bench.server import Connection
from fernando_telemetry.bench.stand import IngestOptions
from fernando_telemetry.logs import configure_logs

# A question that has taken this long in all, in turns or of the service alone, is not asked again.
PATIENCE_SECONDS: Final = 20.0
# Of the calls of the service alone.
UNTIMED: Final = 3
# Of the summary, with ten times as many rows.
MOST_RATIO_TO_A_TENTH: Final = 1.3
# Of all figures.
KEYS: Final = (*(question.key for question in QUESTIONS), EXPORT)
_SEED: Final = 20_260_517


@dataclass(frozen=True, slots=True)
class QueryOptions:
    """What the flags of `bench query` say.

    Attributes:
        rows: Events, and as many spans.
        repeats: How often each question is asked.
        keep: Folder of the databases, to be asked again on the same day; None: they go.
        keys: The questions that are asked, by their keys; none: all.
        beside_load: What is measured beside a load, too; its sizes. None: not.
    """

    rows: int = 2_000_000
    repeats: int = 100
    keep: Path | None = None
    keys: tuple[str, ...] = ()
    beside_load: IngestOptions | None = None

    def asks(self, key: str) -> bool:
        """Tell whether a question is asked."""
        return not self.keys or key in self.keys

    def folder(self, name: str) -> Path | None:
        """Give where one of the databases is kept."""
        return None if self.keep is None else self.keep.absolute() / name


async def measure_query(options: QueryOptions, report: Report) -> Figures:
    """Measure the questions, and what is measured beside a load where that is wanted.

    Raises:
        BenchFailed: Service and SQL answer differently, the server does not seal, a kept
            database cannot be asked, or what was sent is not what is stored.
    """
    configure_logs("warning", "json")
    load_before = load_average()
    figures = await _measure_questions(options, report)
    if options.beside_load is not None:
        figures |= await measure_beside_load(options.beside_load, report)
    return figures | {"load_average_before": load_before, "load_average": load_average()}


async def _measure_questions(options: QueryOptions, report: Report) -> Figures:
    """Fill a server's database with a week, wait until it is sealed, and ask."""
    tenth = await _summary_of_a_tenth(options, report) if options.asks(SUMMARY.key) else {}
    async with filled_week(options.rows, report, options.folder("whole")) as filled:
        server, week, connection = filled.server, filled.week, filled.connection
        figures: Figures = {
            "figure": "query",
            "rows": options.rows,
            "hot_rows": week.hot.count,
            "sealed_day_rows": week.sealed.count,
            "fill_seconds": filled.fill_seconds,
            "seal_seconds": filled.seal_seconds,
            "roll_up_seconds": filled.roll_up_seconds,
        }
        report("asking")
        async with aio.insecure_channel(server.address) as channel:
            for question in QUESTIONS:
                if not options.asks(question.key):
                    continue
                worked_out: Figures = {}
                if question is GRAPH:
                    report("working out which service calls which")
                    worked_out = await work_out_calls(server, connection, week.sealed)
                found = await _measured(question, week, channel, connection, options.repeats)
                found |= worked_out
                if question is SUMMARY:
                    ratio = quotient(found["p50_ms"], tenth["p50_ms"])
                    found |= {
                        "p50_ms_of_a_tenth": tenth["p50_ms"],
                        "ratio_to_a_tenth": ratio,
                        "is_met": found["is_met"] and ratio <= MOST_RATIO_TO_A_TENTH,
                    }
                figures[question.key] = found
                report(_in_words(question, found))
        if options.asks(EXPORT):
            figures[EXPORT] = await measure_export(server, connection, week.sealed, report)
        return figures | {"settings": server.given_settings}


async def _summary_of_a_tenth(options: QueryOptions, report: Report) -> Figures:
    """Ask for the summary where there are a tenth of the rows."""
    folder, rows = options.folder("tenth"), options.rows // 10
    async with (
        filled_week(rows, report, folder, is_whole=False) as filled,
        aio.insecure_channel(filled.server.address) as channel,
    ):
        return await _measured(SUMMARY, filled.week, channel, filled.connection, options.repeats)


async def _measured(
    question: Question, week: Week, channel: aio.Channel, connection: Connection, repeats: int
) -> Figures:
    """Ask service and database in turns, then the service by itself; milliseconds.

    SQL that reads everything leaves a cache behind that has nothing of what the service reads:
    nobody who asks the service meets that, so what it takes then is a figure of its own.
    """
    behind_sql, by_sql, rows = await _in_turns(question, week, channel, connection, repeats)
    by_call = await _alone(question, week, channel, repeats)
    p95 = percentile(by_call, 95)
    return {
        "target_ms": question.target_ms,
        "is_met": p95 <= question.target_ms,
        "asked": len(by_call),
        "rows": percentile(rows, 50),
        "p50_ms": _rounded(by_call, 50),
        "p95_ms": _rounded(by_call, 95),
        "behind_sql_p50_ms": _rounded(behind_sql, 50),
        "behind_sql_p95_ms": _rounded(behind_sql, 95),
        "sql_p50_ms": _rounded(by_sql, 50),
        "sql_p95_ms": _rounded(by_sql, 95),
    }


async def _in_turns(
    question: Question, week: Week, channel: aio.Channel, connection: Connection, repeats: int
) -> tuple[list[float], list[float], list[float]]:
    """Give what each call took behind its SQL, what that took, and how many rows came.

    Raises:
        BenchFailed: They answer differently.
    """
    chance = random.Random(_SEED)  # noqa: S311 - which rows are asked for
    by_call: list[float] = []
    by_sql: list[float] = []
    rows: list[float] = []
    begun = time.monotonic()
    # The first turn warms caches; one that is timed comes, however long it takes.
    for turn in range(-1, repeats):
        if turn > 0 and time.monotonic() - begun > PATIENCE_SECONDS:
            break
        asking = question.draw(week, chance)
        sql_ms, found = await _timed(partial(_fetched, connection, asking))
        call_ms, given = await _timed(partial(asking.call, channel))
        if given != found:
            raise BenchFailed(
                f"{question.key}: the service gave {given} rows, the same SQL {found}."
            )
        if turn >= 0:
            by_sql.append(sql_ms)
            by_call.append(call_ms)
            rows.append(found)
    return by_call, by_sql, rows


async def _alone(question: Question, week: Week, channel: aio.Channel, repeats: int) -> list[float]:
    """Give what calls behind each other took."""
    # Other rows than those that were just read.
    chance = random.Random(_SEED + 1)  # noqa: S311
    by_call: list[float] = []
    for turn in range(-UNTIMED, repeats):
        if sum(by_call) > 1000 * PATIENCE_SECONDS:
            break
        call_ms, _ = await _timed(partial(question.draw(week, chance).call, channel))
        if turn >= 0:
            by_call.append(call_ms)
    return by_call


async def _fetched(connection: Connection, asking: Asking) -> int:
    found = await connection.fetch(asking.statement, *asking.arguments, timeout=TIMEOUT_SECONDS)
    return min(asking.most_rows, len(found))


async def _timed(ask: Callable[[], Awaitable[int]]) -> tuple[float, int]:
    begun = time.perf_counter()
    given = await ask()
    return 1000 * (time.perf_counter() - begun), given


def _in_words(question: Question, found: Figures) -> str:
    return (
        f"{question.key}: p95 {found['p95_ms']} ms, behind SQL {found['behind_sql_p95_ms']} ms, "
        f"by SQL {found['sql_p95_ms']} ms; target {question.target_ms:g} ms"
        f"{'' if found['is_met'] else ', not met'}"
    )


def _rounded(values: list[float], percent: float) -> float:
    return round(percentile(values, percent), 2)
