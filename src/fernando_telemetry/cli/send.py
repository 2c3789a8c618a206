"""send: comes in a moment."""

from __future__ import annotations

import typer

app = typer.Typer()
