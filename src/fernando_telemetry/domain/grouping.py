"""What a summary is grouped by: columns, and keys of the one map that records carry."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from fernando_telemetry.domain.errors import InvalidField
from fernando_telemetry.domain.limits import GROUP_BY_FIELDS, LABEL_KEY_BYTES


@dataclass(frozen=True, slots=True)
class GroupField:
    """One field that groups differ in.

    Args:
        path: As the caller wrote it, such as `license_id` or `dimensions.region`.
        column: The column, of the allow-list that was given, or the map.
        key: The map's key; None where the column is no map.
    """

    path: str
    column: str
    key: str | None = None


def group_column(place: int) -> str:
    """Name the result column of the field at a place of `group_by`."""
    return f"group_{place}"


def group_fields(
    paths: Sequence[str], columns: Collection[str], map_column: str | None = None
) -> tuple[GroupField, ...]:
    """Read a `group_by`.

    Args:
        paths: As the caller wrote them. All behind the first dot is the map's key.
        columns: The columns that may be named.
        map_column: The map whose keys may be; None: there is none.

    Raises:
        InvalidField: There are too many, one is unknown or one comes twice.
    """
    if len(paths) > GROUP_BY_FIELDS:
        raise InvalidField(
            "group_by", f"{len(paths)} fields are given, at most {GROUP_BY_FIELDS} are allowed."
        )
    return tuple(
        _field(path, paths[:place], columns, map_column) for place, path in enumerate(paths)
    )


def _field(
    path: str, before: Sequence[str], columns: Collection[str], map_column: str | None
) -> GroupField:
    place = f"group_by[{len(before)}]"
    if path in before:
        raise InvalidField(place, "it is there twice.")
    if path in columns:
        return GroupField(path, path)
    name, dot, key = path.partition(".")
    if name != map_column or not dot:
        allowed = ", ".join(sorted(columns))
        keys = "" if map_column is None else f" and {map_column}.<key>"
        raise InvalidField(place, f"allowed are {allowed}{keys}.")
    if not 1 <= len(key.encode()) <= LABEL_KEY_BYTES or "\0" in key:
        raise InvalidField(place, f"a key has 1 to {LABEL_KEY_BYTES} bytes, none of them NUL.")
    return GroupField(path, name, key)
