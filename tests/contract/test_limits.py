"""docs/limits.md is the table in the code."""

from __future__ import annotations

from fernando_telemetry.domain.limits import LIMITS, render_markdown
from tests.contract.repository import ROOT


def test_the_published_limits_are_those_of_the_code() -> None:
    published = ROOT.joinpath("docs", "limits.md").read_text()
    assert published == render_markdown(), "write render_markdown() to docs/limits.md"
    assert sum(line.startswith("| ") for line in published.splitlines()) == len(LIMITS) + 1
