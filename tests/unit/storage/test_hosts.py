"""A DSN that names several hosts becomes one DSN for each."""

from __future__ import annotations

import pytest

from fernando_telemetry.storage.hosts import single_hosts


@pytest.mark.parametrize(
    ("dsn", "hosts"),
    [
        ("postgresql://u:p@db/f", ["postgresql://u:p@db/f"]),
        ("postgresql:///f", ["postgresql:///f"]),
        (
            "postgresql://u:p@a:5432,b:5433/f?sslmode=disable",
            [
                "postgresql://u:p@a:5432/f?sslmode=disable",
                "postgresql://u:p@b:5433/f?sslmode=disable",
            ],
        ),
        ("postgresql://[::1]:1,h/f", ["postgresql://[::1]:1/f", "postgresql://h/f"]),
        (
            "postgresql://u@/f?host=/run/a,/run/b&port=5432",
            [
                "postgresql://u@/f?host=/run/a&port=5432",
                "postgresql://u@/f?host=/run/b&port=5432",
            ],
        ),
        (
            "postgresql://u@/f?host=a,b&port=1,2&sslmode=disable",
            [
                "postgresql://u@/f?host=a&port=1&sslmode=disable",
                "postgresql://u@/f?host=b&port=2&sslmode=disable",
            ],
        ),
        ("postgresql://u:a,b@db/f", ["postgresql://u:a,b@db/f"]),
    ],
)
def test_each_host_gets_a_dsn(dsn: str, hosts: list[str]) -> None:
    assert single_hosts(dsn) == hosts
