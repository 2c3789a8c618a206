"""Ports that stay free: the kernel gives them to nobody who asks for any."""

from __future__ import annotations

import itertools
import os
import socket

# Below what the kernel chooses from (32,768 on Linux), and each process of a run its own.
FIRST = 12_000
PORTS = 20_000
OF_A_PROCESS = 50

_tried = itertools.count(os.getpid() * OF_A_PROCESS)


def free_port() -> int:
    """Give a port of loopback that nobody listens on, and that is there to be taken again."""
    while True:
        port = FIRST + next(_tried) % PORTS
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
