"""Starts PostgreSQL so that it ends with the process that wanted it.

Run as a program of its own, `python -I -S launcher.py PARENT_PID TIE IDENTITY PROGRAM
ARGUMENT…`, and imports nothing of the package. IDENTITY is `uid:gid` to become (root only) or
`-`. With the TIE `kernel` it asks the kernel for SIGINT (PostgreSQL: fast shutdown) when its
parent ends; with `watchdog` another program sees to that. It checks that the parent has not
ended before that, and becomes PROGRAM.

A `preexec_fn` would do the same in the forked child, but that is not safe in a process with
threads, and gRPC has some. The order matters: the kernel forgets the parent-death signal when a
process changes its user or its user namespace, so `unshare` comes before this program and the
change of user happens in it. And the "parent" is the *thread* that made the child: only the main
thread, which lives as long as the process, may start this.
"""

from __future__ import annotations

import os
import signal
import sys

PR_SET_PDEATHSIG = 1
PARENT_IS_GONE = 75
CANNOT_LAUNCH = 71


def launch_command(tie: str, identity: str = "-") -> tuple[str, ...]:
    """Give the words that come before a command which is to end with this process.

    Args:
        tie: `kernel` or `watchdog`.
        identity: `uid:gid` to become, or `-`.
    """
    return (sys.executable, "-I", "-S", __file__, str(os.getpid()), tie, identity)


def main(arguments: list[str]) -> int:
    """Become the program, or give the exit code that says why not."""
    parent_pid, tie, identity, *command = arguments
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Before the change of user, who may not be able to read Python's own modules.
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if identity != "-":
        uid, gid = (int(part) for part in identity.split(":"))
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if tie == "kernel" and libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGINT), 0, 0, 0) != 0:
        print(f"prctl: {os.strerror(ctypes.get_errno())}", file=sys.stderr)
        return CANNOT_LAUNCH
    if os.getppid() != int(parent_pid):
        return PARENT_IS_GONE
    try:
        os.execv(command[0], command)  # noqa: S606
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
    return CANNOT_LAUNCH


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
