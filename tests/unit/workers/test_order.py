"""What a worker is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from fernando_telemetry.settings import MIB, Settings, load_settings
from fernando_telemetry.workers.order import WorkerAnswer, WorkerOrder, settings_of_worker


def test_a_worker_has_its_share_of_memory_and_the_rest_of_the_settings() -> None:
    settings = Settings(
        workers=4, admitted_bytes=64 * MIB, granted_bytes=2 * MIB, data_dir=Path("/nowhere")
    )
    order = WorkerOrder(2, 17, settings_of_worker(settings, dsn="postgresql:///x", port=99))
    told = WorkerOrder.of_line(order.line())
    assert told == order
    own = load_settings(**told.settings)
    assert (own.admitted_bytes, own.granted_bytes) == (16 * MIB, MIB)
    changed = {"dsn", "port", "admitted_bytes", "granted_bytes", "agent"}
    for name in set(Settings.model_fields) - changed:
        assert getattr(own, name) == getattr(settings, name), name
    assert (own.dsn, own.port, own.agent) == ("postgresql:///x", 99, False)


@pytest.mark.parametrize("line", [b"", b"\n", b"{}\n", b"[1]\n", b'{"trouble": 1, "x": 2}\n'])
def test_a_line_that_is_none_is_told_apart(line: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - json's own, or ours
        WorkerOrder.of_line(line)


def test_an_answer_travels() -> None:
    answer = WorkerAnswer("127.0.0.1:4317")
    assert WorkerAnswer.of_line(answer.line()) == answer
