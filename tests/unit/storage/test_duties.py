"""What befalls duties: pauses, counts, and parts that go on without each other."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from fernando_telemetry.domain.errors import DatabaseUnavailable
from fernando_telemetry.storage.duties import Apart, DutyFaults, fault_pause_seconds, keep_going


def test_pauses_double_up_to_the_longest() -> None:
    assert [fault_pause_seconds(count) for count in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert fault_pause_seconds(10**9) == 60
    assert [fault_pause_seconds(count, 5.0) for count in range(1, 5)] == [1, 2, 4, 5]


async def test_a_loop_that_ends_or_breaks_is_begun_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fernando_telemetry.storage.duties.FIRST_PAUSE_SECONDS", 0.0)
    told: list[str] = []
    faults = DutyFaults(told.append)
    broken = [ValueError("a value nobody may see"), None]
    goes_on = asyncio.Event()

    async def run() -> None:
        if not broken:
            goes_on.set()
            await asyncio.Event().wait()
        if (error := broken.pop(0)) is not None:
            raise error

    with capture_logs() as entries:
        task = asyncio.create_task(keep_going("sorting", run, faults))
        async with asyncio.timeout(20):
            await goes_on.wait()
        assert faults.counts == {"sorting": 2}
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    failed: list[Any] = [entry["exc_info"] for entry in entries]
    assert [type(error) for error in failed] == [ValueError, RuntimeError]
    assert [entry["count"] for entry in entries] == [1, 2]
    # What an error says may be a user's data: the log is for operators alone.
    assert not any("nobody may see" in sentence for sentence in told)
    assert all("the duty sorting failed" in sentence for sentence in told)


def test_a_duty_is_known_before_its_first_fault() -> None:
    faults = DutyFaults()
    faults.expect("sorting")
    assert faults.counts == {"sorting": 0}
    faults.note("sorting", ValueError())
    faults.expect("sorting")
    assert faults.counts == {"sorting": 1}


def test_parts_go_on_past_one_that_fails() -> None:
    apart, done = Apart(), []
    for number in range(4):
        with apart.part():
            if number % 2:
                raise asyncpg.UndefinedTableError(str(number))
            done.append(number)
    assert done == [0, 2]
    with pytest.raises(ExceptionGroup) as raised:
        apart.finish()
    assert [str(error) for error in raised.value.exceptions] == ["1", "3"]
    apart.finish()


@pytest.mark.parametrize(
    "error", [DatabaseUnavailable("away", 1.0), asyncpg.ConnectionDoesNotExistError("gone")]
)
def test_what_meets_all_parts_ends_them(error: Exception) -> None:
    apart = Apart()
    with pytest.raises(type(error)), apart.part():
        raise error
    apart.finish()
