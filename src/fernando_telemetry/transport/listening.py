"""Where a server may listen; without gRPC, so that the parent of workers need not load it."""

from __future__ import annotations

import ipaddress

from fernando_telemetry.domain.errors import StartupError


def require_safe_host(host: str, *, insecure_bind: bool) -> None:
    """Refuse an address beyond loopback, as there is neither TLS nor a key yet.

    Raises:
        StartupError: It is one, and `insecure_bind` does not say that this is wanted.
    """
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback and not insecure_bind:
        raise StartupError(
            f"Listening on {host} would let everybody who reaches it read and write without TLS "
            "or keys; if that is wanted, say --insecure-bind."
        )
