"""Flush ids and the tokens that name them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fernando_telemetry.domain.errors import InvalidField
from fernando_telemetry.domain.flush_ids import (
    LAST_LANE,
    NUMBER_MASK,
    commit_token,
    flush_id_of,
    lane_of,
    number_of,
    parse_commit_token,
)


@given(st.integers(1, LAST_LANE), st.integers(1, NUMBER_MASK))
def test_there_and_back(lane: int, number: int) -> None:
    flush_id = flush_id_of(lane, number)
    assert (lane_of(flush_id), number_of(flush_id)) == (lane, number)
    assert flush_id + (1 << 40) < 2**63
    assert parse_commit_token(commit_token(flush_id), "field") == flush_id


def test_no_token() -> None:
    assert parse_commit_token("", "field") is None


@given(st.text(max_size=20))
def test_any_text_is_a_token_or_refused(text: str) -> None:
    try:
        flush_id = parse_commit_token(text, "field")
    except InvalidField:
        return
    assert flush_id is None or commit_token(flush_id) == text


@pytest.mark.parametrize(
    "text",
    [
        *("t", " ", "0x00010000000001", "\uff10" * 16, "0000010000000001\n", "000001000000000A"),
        *("0" * 16, commit_token(flush_id_of(1, 0)), commit_token(5), "f" * 16),
        commit_token(flush_id_of(LAST_LANE + 1, 1)),
    ],
)
def test_what_no_server_gave_is_refused(text: str) -> None:
    with pytest.raises(InvalidField):
        parse_commit_token(text, "min_commit_token")
