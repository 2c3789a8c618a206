"""Settings: sources, errors, and the page that documents them."""

from __future__ import annotations

from pathlib import Path

import pytest

from fernando_telemetry.domain.errors import StartupError
from fernando_telemetry.settings import Settings, load_settings, render_markdown

ROOT = Path(__file__).resolve().parents[2]


def test_every_setting_is_documented() -> None:
    page = ROOT / "docs" / "reference" / "settings.md"
    assert page.read_text() == render_markdown()
    assert all(field.description for field in Settings.model_fields.values())


def test_argument_beats_environment_beats_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "fernando.toml"
    file.write_text('port = 1\nwriters = 3\nlog_level = "debug"\n')
    monkeypatch.setenv("FERNANDO_CONFIG", str(file))
    monkeypatch.setenv("FERNANDO_PORT", "2")
    monkeypatch.setenv("FERNANDO_WRITERS", "4")
    settings = load_settings(port=5)
    assert (settings.port, settings.writers, settings.log_level) == (5, 4, "debug")


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("FERNANDO_PORT", "70000", "Setting port"),
        ("FERNANDO_WRITERS", "many", "Setting writers"),
        ("FERNANDO_MIGRATE", "perhaps", "Setting migrate"),
        ("FERNANDO_PARTITION_LENGTH", "9 seconds", "Setting partition_length"),
        ("FERNANDO_CONFIG", "/nowhere.toml", "not a file"),
    ],
)
def test_bad_setting_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(StartupError, match=sentence) as caught:
        load_settings()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["port = [", 'port = "x"', 'no_such_setting = "x"'])
def test_bad_file_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str
) -> None:
    file = tmp_path / "fernando.toml"
    file.write_text(text)
    monkeypatch.setenv("FERNANDO_CONFIG", str(file))
    with pytest.raises(StartupError) as caught:
        load_settings()
    assert "\n" not in str(caught.value)


def test_data_dir_is_absolute_and_follows_xdg(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert load_settings().data_dir == tmp_path / "fernando-telemetry"
    assert load_settings(data_dir=Path("here")).data_dir == Path("here").absolute()
