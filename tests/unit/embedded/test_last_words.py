"""The line of a log that says why PostgreSQL failed."""

from __future__ import annotations

from io import BytesIO

import pytest

from fernando_telemetry.embedded.last_words import tail_lines, worst_line

PREFIX = "2026-11-27 10:00:00.000 UTC [7] "
PANIC = f'{PREFIX}PANIC:  could not write to file "pg_wal/xlogtemp.7": No space left on device'
FATAL = f'{PREFIX}FATAL:  could not write to file "pg_wal/xlogtemp.7": No space left on device'
ERROR = f'{PREFIX}ERROR:  relation "none" does not exist'
LOG = f"{PREFIX}LOG:  database system is shut down"
REFUSALS = [
    f"{PREFIX}[unknown] FATAL:  the database system is {state}"
    for state in (
        "in recovery mode",
        "starting up",
        "shutting down",
        "not yet accepting connections",
    )
]


@pytest.mark.parametrize(
    ("lines", "worst"),
    [
        ([PANIC, LOG, *REFUSALS], PANIC),
        ([PANIC, FATAL, *REFUSALS, LOG], PANIC),
        ([ERROR, FATAL, *REFUSALS, ERROR], FATAL),
        ([ERROR, *REFUSALS], ERROR),
        ([LOG, *REFUSALS], LOG),
        (REFUSALS, REFUSALS[-1]),
        ([], "(it said nothing)"),
    ],
)
def test_the_worst_line_is_not_about_refused_clients(lines: list[str], worst: str) -> None:
    assert worst_line(lines) == worst


def test_thousands_of_refused_clients_do_not_hide_the_cause() -> None:
    log = BytesIO("\n".join([PANIC, *REFUSALS * 2_000]).encode())
    assert worst_line(tail_lines(log)) == PANIC


def test_a_tail_is_bounded_and_begins_where_the_run_did() -> None:
    log = BytesIO(f"{ERROR}\n{LOG}\n".encode())
    assert tail_lines(log, since=len(ERROR)) == [LOG]
    assert tail_lines(log, since=10_000) == [ERROR, LOG]
    log = BytesIO(b"x" * 4 * 1024**2)
    assert [len(line) for line in tail_lines(log)] == [1024**2]
