"""Counts the users of a summary's groups by sketches: kept ones of whole hours, else raw rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fernando_telemetry.domain.user_sketch import COMPONENTS, WORDS_PER_COMPONENT
from fernando_telemetry.storage.list_statement import filtered
from fernando_telemetry.storage.statements import load

sql = load("event_summary")


def user_counts(
    select: str,
    keys: str,
    conditions: Sequence[str],
    raw: Sequence[str],
    *,
    by_type: bool,
    has_hours: bool,
) -> str:
    """Give the common tables of which `user_counts` has each group's bits by component.

    Args:
        select: Expressions of the groups' keys, over columns of events.
        keys: Names of the keys, which are those of the table `page`.
        conditions: The request's filter.
        raw: The statements of users from raw rows, filtered.
        by_type: Nothing but the type is named.
        has_hours: Some hours are answered by the roll-up.
    """
    kept = [sql.users_by_type if by_type else sql.users] if has_hours else []
    parts = " UNION ALL ".join([*raw, *(filtered(one, conditions) for one in kept)])
    # Made of fixed expressions and parameters only.
    return f"""user_words AS (
    SELECT {keys}, word, bit_or(bits) AS bits
    FROM (SELECT {select}, word, bits FROM ({parts}) AS users) AS users JOIN page USING ({keys})
    GROUP BY {keys}, word
), user_components AS (
    SELECT {keys}, word / {WORDS_PER_COMPONENT} AS component,
        sum(bit_count(bits::bit(64)))::int4 AS amount
    FROM user_words GROUP BY {keys}, word / {WORDS_PER_COMPONENT}
), user_counts AS (
    SELECT {keys}, array_agg(component) AS components, array_agg(amount) AS set_bits
    FROM user_components GROUP BY {keys}
)"""  # noqa: S608


def bits_of(row: Any) -> list[int]:
    """Give how many bits are set, by component, of a row with `components` and `set_bits`."""
    bits = [0] * COMPONENTS
    for component, amount in zip(row["components"] or (), row["set_bits"] or (), strict=True):
        bits[component] = amount
    return bits
