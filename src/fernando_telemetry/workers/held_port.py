"""Reserves the port that the workers share, or proves that the only process can have it.

Workers listen with SO_REUSEPORT, and the kernel spreads connections over them. With that option
alone a forgotten old server would silently keep a share of the connections; so the parent first
listens without it, which fails where anybody else has the port, and from then on the port is
never free: it is held, bound but not listening, also while workers come and go.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from typing import Final

from fernando_telemetry.domain.errors import PortTaken, StartupError

_NO_SUCH_ADDRESS: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class HeldPort:
    """A port that belongs to this process and its workers, from `take` to `release`."""

    def __init__(self, holders: list[socket.socket], port: int) -> None:
        self._holders = holders
        self.port = port

    @classmethod
    def take(cls, host: str, port: int) -> HeldPort:
        """Take the port on all addresses of the host.

        Args:
            host: Name or address.
            port: 0: any free one.

        Raises:
            PortTaken: Somebody else has it.
            StartupError: The host has no address of this machine.
        """
        holders: list[socket.socket] = []
        try:
            found = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
            )
            for family, kind, protocol, _, address in found:
                place = (address[0], port, *address[2:])
                try:
                    holders.append(_hold(family, kind, protocol, place))
                except OSError as error:
                    # Names have addresses (::1) that some machines (without IPv6) have not.
                    if error.errno not in _NO_SUCH_ADDRESS:
                        raise
                    continue
                port = holders[-1].getsockname()[1]
        except OSError as error:
            for holder in holders:
                holder.close()
            if isinstance(error, socket.gaierror):
                raise StartupError(f"The host {host} has no address: {error.strerror}.") from None
            raise PortTaken(host, port) from None
        if not holders:
            raise StartupError(f"The host {host} has no address of this machine.")
        return cls(holders, port)

    def release(self) -> None:
        """Let the port go."""
        for holder in self._holders:
            holder.close()
        self._holders.clear()


def _hold(family: int, kind: int, protocol: int, place: tuple[str | int, ...]) -> socket.socket:
    """Prove that nobody has the address and port, and hold them."""
    with contextlib.ExitStack() as undo:
        probe = undo.enter_context(socket.socket(family, kind, protocol))
        # Connections of a former server that are not forgotten yet (TIME_WAIT) are no hindrance.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        probe.bind(place)
        probe.listen(1)
        # From here on others may join who know how; the probe itself stays until one has.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder = socket.socket(family, kind, protocol)
        failed = undo.enter_context(contextlib.ExitStack())
        failed.callback(holder.close)
        if family == socket.AF_INET6:
            holder.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind((place[0], probe.getsockname()[1], *place[2:]))
        # Else the probe of another server would pass while no worker listens.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        failed.pop_all()
    return holder
