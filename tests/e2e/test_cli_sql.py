"""`sql` as a person runs it on a terminal."""

from __future__ import annotations

from rich.cells import cell_len

from fernando_telemetry.app import Application
from tests.e2e.test_cli_send_query import on_terminal

QUERY = (
    "SELECT n AS number, repeat('x', n) AS text, ARRAY['a'] AS list FROM (VALUES (5), (40)) v (n)"
)


async def test_a_table_where_there_is_room(server: Application) -> None:
    lines = await on_terminal(80, "sql", QUERY, "--dsn", server.dsn)
    assert max(map(cell_len, lines)) <= 80
    assert lines[0].split() == ["number", "text", "list"]
    assert lines[2].startswith("     5  xxxxx  ")
    assert lines[3].rstrip().endswith(f'{"x" * 40}  ["a"]')


async def test_else_a_line_a_column(server: Application) -> None:
    lines = await on_terminal(40, "sql", QUERY, "--dsn", server.dsn)
    assert [line.rstrip() for line in lines[:4]] == [
        "number: 5",
        "text:   xxxxx",
        'list:   ["a"]',
        "",
    ]


async def test_control_characters_do_not_reach_the_terminal(server: Application) -> None:
    lines = await on_terminal(80, "sql", "SELECT E'\\x1b[2J' AS text", "--dsn", server.dsn)
    assert r"\x1b[2J" in lines[2]
