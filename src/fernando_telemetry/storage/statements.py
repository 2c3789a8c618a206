"""Loads the named statements of `storage/sql/*.sql`.

A file holds blocks: a line `-- name: take_lane`, a purpose line, one line per parameter such as
`-- $1 lane int4`, then the statement. A test prepares every one of them against the migrated
schema, so a statement that does not fit the schema never ships.

A figure of the domain stands in a statement by its name in braces, such as `{chunk}`, and so do the
numbers of an advisory lock: `{sealing_lock}`.
"""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from importlib.resources import files
from types import SimpleNamespace
from typing import Any, Final

from fernando_telemetry.domain.edge_chunks import CALLERS_AFTER, CALLERS_BEFORE, CHUNK
from fernando_telemetry.domain.log_histogram import BASE, ZERO_BUCKET
from fernando_telemetry.storage.advisory_locks import Lock


def _minutes(length: timedelta) -> str:
    return f"interval '{length // timedelta(minutes=1)} minutes'"


# Written out before PostgreSQL sees the text, so that a plan knows them.
FIGURES: Final = {
    "bucket_base": f"{BASE}::float8",
    "zero_bucket": str(ZERO_BUCKET),
    "chunk": _minutes(CHUNK),
    "chunk_and_callers_after": _minutes(CHUNK + CALLERS_AFTER),
    "callers_before": _minutes(CALLERS_BEFORE),
} | {lock.figure: lock.arguments for lock in Lock}


def parse(text: str) -> dict[str, str]:
    """Split a file's text into its statements, by name.

    Raises:
        ValueError: Two blocks share a name, or text stands before the first block.
    """
    statements: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if line.startswith("-- name:"):
            name = line.removeprefix("-- name:").strip()
            if name in statements:
                raise ValueError(f"statement {name} is there twice")
            statements[name] = ""
        elif name:
            statements[name] += _with_figures(line) + "\n"
        elif line.strip() and not line.startswith("--"):
            raise ValueError(f"text before the first name: {line}")
    return statements


def _with_figures(line: str) -> str:
    for name, figure in FIGURES.items():
        line = line.replace(f"{{{name}}}", figure)
    return line


@cache
def load(stem: str) -> Any:
    """Give the statements of `sql/<stem>.sql` as attributes of one object."""
    text = (files(__package__) / "sql" / f"{stem}.sql").read_text(encoding="utf-8")
    return SimpleNamespace(**parse(text))


def every_statement() -> dict[str, str]:
    """Give all statements of all files, as `stem.name`, for the test that prepares them."""
    found: dict[str, str] = {}
    for path in sorted((files(__package__) / "sql").iterdir(), key=lambda entry: entry.name):
        if path.name.endswith(".sql"):
            stem = path.name.removesuffix(".sql")
            statements = parse(path.read_text(encoding="utf-8"))
            found |= {f"{stem}.{name}": text for name, text in statements.items()}
    return found
