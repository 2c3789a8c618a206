"""Page sizes, orders and tokens."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fernando_telemetry.domain.errors import InvalidField, InvalidPageToken, InvalidTimeRange
from fernando_telemetry.domain.paging import KeyType, PageTokens, is_descending, page_size
from fernando_telemetry.domain.time_range import TimeRange

KEYS: tuple[KeyType, ...] = ("time", "uuid", "int4", "int8", "float8", "text")
TOKENS = PageTokens(KEYS, "ListThings", ("user_id = a", True))

_positions = st.tuples(
    st.datetimes(timezones=st.just(UTC)),
    st.uuids(),
    st.integers(-(2**31), 2**31 - 1),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=100),
)


@pytest.mark.parametrize(
    ("requested", "given_size"), [(0, 100), (1, 1), (1000, 1000), (1001, 1000), (2**31 - 1, 1000)]
)
def test_page_size(requested: int, given_size: int) -> None:
    assert page_size(requested) == given_size


def test_negative_page_size() -> None:
    with pytest.raises(InvalidField) as caught:
        page_size(-1)
    assert caught.value.field == "page_size"


@pytest.mark.parametrize(
    ("order_by", "descending"),
    [("", True), ("  ", True), ("time desc", True), (" time  desc ", True), ("time", False)],
)
def test_order_by(order_by: str, descending: bool) -> None:
    assert is_descending(order_by, "time") is descending


@pytest.mark.parametrize(
    "order_by", ["desc", "other", "time DESC", "time asc", "time, id", "time desc id", "time;"]
)
def test_other_orders_are_refused(order_by: str) -> None:
    with pytest.raises(InvalidField) as caught:
        is_descending(order_by, "time")
    assert caught.value.field == "order_by"


@given(_positions)
def test_tokens_give_back_the_position(position: tuple[Any, ...]) -> None:
    assert TOKENS.read(TOKENS.write(position)) == position


def test_no_token_is_no_position() -> None:
    assert TOKENS.write(None) == ""
    assert TOKENS.read("") is None


@given(_positions, st.data())
def test_a_damaged_token_is_refused(position: tuple[Any, ...], data: st.DataObject) -> None:
    token = TOKENS.write(position)
    raw = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(InvalidPageToken):
        TOKENS.read(base64.urlsafe_b64encode(raw).decode())
    with pytest.raises(InvalidPageToken):
        TOKENS.read(token[: data.draw(st.integers(1, len(token) - 2))])


@given(st.text(min_size=1))
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidPageToken):
        TOKENS.read(text)


@pytest.mark.parametrize(
    "other",
    [
        PageTokens(KEYS, "ListOthers", ("user_id = a", True)),
        PageTokens(KEYS, "ListThings", ("user_id = b", True)),
        PageTokens(KEYS, "ListThings", ("user_id = a", False)),
        PageTokens(KEYS, "ListThings", ("user_id = a", True, "more")),
    ],
)
@given(position=_positions)
def test_a_token_of_another_request_is_refused(
    other: PageTokens, position: tuple[Any, ...]
) -> None:
    with pytest.raises(InvalidPageToken):
        other.read(TOKENS.write(position))


@given(st.sampled_from(KEYS), st.binary(max_size=40))
def test_forged_keys_are_values_or_refused(kind: KeyType, packed: bytes) -> None:
    """Even with a digest that fits, what comes out can be bound as a parameter."""
    tokens = PageTokens((kind,), "ListThings", ())
    digest = tokens._digest(packed)
    token = base64.urlsafe_b64encode(b"\x01" + digest + packed).decode()
    try:
        position = tokens.read(token)
    except InvalidPageToken:
        return
    assert position is not None
    assert len(position) == 1
    if isinstance(position[0], str):
        assert "\0" not in position[0]


@pytest.mark.parametrize("seconds", [0, -1])
def test_a_time_range_needs_an_extent(seconds: int) -> None:
    start = datetime(2026, 5, 17, tzinfo=UTC)
    with pytest.raises(InvalidTimeRange):
        TimeRange(start, start + timedelta(seconds=seconds))
