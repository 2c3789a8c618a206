"""Several hosts in one DSN: a primary and those that may become it.

The driver would try them one behind the other within one time-out, so a first host that is gone
without a word (a dead machine) keeps it from the second for ever. Here each has its own.
"""

from __future__ import annotations

from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit


def single_hosts(dsn: str) -> list[str]:
    """Give a DSN for each host of a DSN, in its order; the DSN itself where it names one or none.

    Hosts stand in the address (`h1:5432,h2`) or in `?host=h1,h2&port=5432,5433`; one port goes
    for all.
    """
    parts = urlsplit(dsn)
    user, at, address = parts.netloc.rpartition("@")
    if "," in address:
        return [
            urlunsplit(parts._replace(netloc=f"{user}{at}{host}")) for host in address.split(",")
        ]
    options = parse_qsl(parts.query, keep_blank_values=True)
    named = dict(options)
    hosts = named.get("host", "").split(",")
    if address or len(hosts) < 2:
        return [dsn]
    ports = named.get("port", "").split(",")
    rest = [(name, value) for name, value in options if name not in {"host", "port"}]
    found = []
    for place, host in enumerate(hosts):
        port = ports[place] if len(ports) == len(hosts) else ports[0]
        own = [("host", host), *([("port", port)] if port else []), *rest]
        found.append(urlunsplit(parts._replace(query=urlencode(own, quote_via=quote, safe="/"))))
    return found
