"""When the database has too little room on its disk, and when it has enough again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# Refused at the limit, taken again this far from it: at one single line ingest would flap.
RESUME_FREE_RATIO: Final = 1.2
RESUME_BUDGET_RATIO: Final = 0.95
MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class RoomLimits:
    """What is wanted.

    Attributes:
        free_stop_percent: Least free part of the file system; 0: it is not looked at.
        budget_bytes: Greatest size of the database; 0: any.
    """

    free_stop_percent: float
    budget_bytes: int


@dataclass(frozen=True, slots=True)
class Room:
    """What was measured; None where it could not be.

    Attributes:
        folder: Where the least room is left.
        free_bytes: What the database may still take there.
        total_bytes: Size of that file system.
        database_bytes: Size of the database.
    """

    folder: str = ""
    free_bytes: int | None = None
    total_bytes: int | None = None
    database_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Shortage:
    """Too little room.

    Attributes:
        sentence: Of what, and how much there is, for people.
        missing_bytes: What has to become free before ingest is taken again.
    """

    sentence: str
    missing_bytes: int


def shortage(room: Room, limits: RoomLimits, *, refusing: bool) -> Shortage | None:
    """Tell whether there is too little room.

    Args:
        room: The latest measurement.
        limits: What is wanted.
        refusing: Ingest is refused now, so that there has to be clearly more than the limit.
    """
    found = [_free(room, limits, refusing=refusing), _budget(room, limits, refusing=refusing)]
    short = [one for one in found if one is not None]
    return max(short, key=lambda one: one.missing_bytes, default=None)


def _free(room: Room, limits: RoomLimits, *, refusing: bool) -> Shortage | None:
    if not limits.free_stop_percent or room.free_bytes is None or not room.total_bytes:
        return None
    stop = room.total_bytes * limits.free_stop_percent / 100
    enough = stop * RESUME_FREE_RATIO
    if room.free_bytes >= (enough if refusing else stop):
        return None
    percent = 100 * room.free_bytes / room.total_bytes
    sentence = (
        f"{percent:.1f} % ({room.free_bytes // MIB} MiB) of the disk of {room.folder} is free, "
        f"less than {limits.free_stop_percent:g} %"
    )
    return Shortage(sentence, int(enough) + 1 - room.free_bytes)


def _budget(room: Room, limits: RoomLimits, *, refusing: bool) -> Shortage | None:
    if not limits.budget_bytes or room.database_bytes is None:
        return None
    enough = limits.budget_bytes * RESUME_BUDGET_RATIO
    if room.database_bytes <= (enough if refusing else limits.budget_bytes):
        return None
    sentence = (
        f"the database has {room.database_bytes // MIB} MiB, its budget is "
        f"{limits.budget_bytes // MIB} MiB"
    )
    return Shortage(sentence, room.database_bytes - int(enough))
