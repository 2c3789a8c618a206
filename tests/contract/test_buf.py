"""buf's judgement: lint, format, and no break against the last release."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.contract.repository import PACKAGE, PROTOS, ROOT, buf, copy_contract

RELEASED = PROTOS / "released.binpb"


def replace_once(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, f"{old!r} must occur once in {path.name}"
    path.write_text(text.replace(old, new))


def test_the_contract_lints() -> None:
    result = buf("lint")
    assert (result.returncode, result.stdout) == (0, "")


def test_lint_wants_a_leading_comment_on_every_element(tmp_path: Path) -> None:
    copy = copy_contract(tmp_path / "copy")
    event = copy / "protos" / PACKAGE / "event.proto"
    replace_once(event, "  // Something failed.\n", "")
    result = buf("lint", cwd=copy)
    assert result.returncode != 0
    assert "EVENT_TYPE_ERROR_EVENT" in result.stdout


def test_the_contract_is_formatted() -> None:
    result = buf("format", "--diff", "--exit-code")
    assert (result.returncode, result.stdout) == (0, "")


def test_the_contract_does_not_break_the_last_release() -> None:
    if not RELEASED.exists():
        # Nothing to break before the first release; a release without its image is a fault.
        changelog = (ROOT / "CHANGELOG.md").read_text()
        assert re.findall(r"^## \[(.+)\]", changelog, re.MULTILINE) == ["Unreleased"]
        return
    result = buf("breaking", "--against", RELEASED)
    assert (result.returncode, result.stdout) == (0, "")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("  string user_id = 5;\n", "", '"user_id"'),
        ("  string user_id = 5;\n", "  bytes user_id = 5;\n", '"user_id"'),
        ("  EVENT_TYPE_ERROR_EVENT = 3;\n", "  EVENT_TYPE_ERROR_EVENT = 9;\n", '"3"'),
    ],
    ids=["field_removed", "type_changed", "enum_value_renumbered"],
)
def test_a_break_against_an_image_is_caught(tmp_path: Path, old: str, new: str, told: str) -> None:
    image = tmp_path / "released.binpb"
    built = buf("build", "--output", image)
    assert built.returncode == 0, built.stderr
    copy = copy_contract(tmp_path / "copy")
    untouched = buf("breaking", "--against", image, cwd=copy)
    assert (untouched.returncode, untouched.stdout) == (0, "")
    replace_once(copy / "protos" / PACKAGE / "event.proto", old, new)
    result = buf("breaking", "--against", image, cwd=copy)
    assert result.returncode != 0
    assert told in result.stdout
