"""The embedded PostgreSQL: a real server as a child of this process, gone when it is gone.

    binaries        which postgres and initdb to run
    privileges      as whom (PostgreSQL refuses to run as root)
    data_directory  the folder: its layout, and what is wrong with it in one sentence
    owner_lock      one owner a folder; server.json tells other commands where it is
    run_directory   the short private folder of the unix socket
    initdb          makes a cluster, whole or not at all
    launcher        the program between us and postgres: it ties postgres's life to ours
    watchdog        does the same where the kernel has no parent-death signal
    postmaster      one run of postgres: command line, readiness, stop
    leftovers       what an earlier run left behind
    cluster         EmbeddedPostgres, which puts them together and restarts a postgres that died

Everything here raises `StartupError` with one sentence for the operator.
"""

from __future__ import annotations

from fernando_telemetry.embedded.cluster import EmbeddedPostgres
from fernando_telemetry.embedded.owner_lock import RunningServer, running_server
from fernando_telemetry.embedded.privileges import effective_data_dir

__all__ = ["EmbeddedPostgres", "RunningServer", "effective_data_dir", "running_server"]
