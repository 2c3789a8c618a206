"""Makes a cluster: in a folder beside, renamed when it is whole, so that no half one is left."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from pathlib import Path

from fernando_telemetry.domain.errors import StartupError
from fernando_telemetry.embedded.binaries import Binaries
from fernando_telemetry.embedded.data_directory import HALF_MADE_PREFIX, DataDirectory
from fernando_telemetry.embedded.last_words import tail_lines, tells_of_full_disk, worst_line
from fernando_telemetry.embedded.postmaster import capture_file, launch
from fernando_telemetry.embedded.privileges import Identity

# From here on PostgreSQL sorts alike on every machine without the C library's or ICU's help.
_BUILTIN_LOCALES_SINCE = 17


async def make_cluster(
    directory: DataDirectory, binaries: Binaries, identity: Identity, *, durable: bool
) -> None:
    """Run initdb; takes about a second.

    Args:
        directory: Where it comes to lie, as `pgdata`.
        binaries: Whose initdb.
        identity: Who will own it.
        durable: False leaves the files to the operating system's cache (tests).

    Raises:
        StartupError: It failed; a full disk is named as such.
    """
    directory.remove_half_made()
    half = directory.root / f"{HALF_MADE_PREFIX}{secrets.token_hex(4)}"
    try:
        half.mkdir(mode=0o700)
        if half.stat().st_uid != identity.uid:
            os.chown(half, identity.uid, identity.gid)
    except OSError as error:
        raise directory.explain(error) from None
    try:
        await _run(directory, half, binaries, identity, durable=durable)
        half.rename(directory.pgdata)
        if durable:
            _flush(directory.root)
    except OSError as error:
        raise directory.explain(error) from None
    finally:
        shutil.rmtree(half, ignore_errors=True)


async def _run(
    directory: DataDirectory, half: Path, binaries: Binaries, identity: Identity, *, durable: bool
) -> None:
    locale = ["--locale=C.UTF-8"]
    if binaries.major >= _BUILTIN_LOCALES_SINCE:
        locale.append("--locale-provider=builtin")
    command = [
        *(binaries.program("initdb"), "-D", str(half), "-U", "postgres", "-A", "trust"),
        *("-E", "UTF8", *locale, "--no-instructions"),
        *([] if durable else ["--no-sync"]),
    ]
    with capture_file() as output:
        process = await launch(identity, command, output)
        try:
            code = await process.wait()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if code != 0:
            lines = tail_lines(output)
            if tells_of_full_disk(lines):
                raise directory.full()
            raise StartupError(
                f"PostgreSQL could not make its data directory {directory.pgdata}: "
                f"{worst_line(lines)}"
            )


def _flush(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
