"""check_object against jsonb itself: what one takes the other takes, for objects."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fernando_telemetry.domain.json_text import InvalidJson, TooDeep, check_object
from tests.conftest import share


def mostly(good: st.SearchStrategy[str], odd: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Give something odd now and then: a text of oddities alone is refused for the first."""
    return st.integers(0, 11).flatmap(lambda chance: odd if chance == 11 else good)


def one_of(*texts: str) -> st.SearchStrategy[str]:
    return st.sampled_from(texts)


SPACES = mostly(one_of("", "", " ", "\t", "\n", "\r"), one_of("\x0c", "\u00a0", "\ufeff", "//"))
PIECES = mostly(
    one_of(
        *("a", "é", "😀", "\x7f", "\u2028", "/", "'", "{[", r"\/", r"\\", r"\"", r"\b\f\n\r\t"),
        *(r"\u0041", r"\u00e9", r"\uD83D\uDE00", r"\uffff", r"\\u0000"),
    ),
    one_of(
        *("\x1f", "\t", r"\u0000", r"\ud83d", r"\ude00", r"\ud83d\ud83d\ude00", r"\u12", r"\u12g4"),
        *(r"\x41", r"\U00000041", r"\'", '"', "\\"),
    ),
)
STRINGS = st.lists(PIECES, max_size=4).map(lambda pieces: '"' + "".join(pieces) + '"')
EXPONENTS = mostly(
    st.integers(-16_300, 131_000).map(str),
    st.one_of(
        st.integers(-17_000, -16_000).map(str),
        st.integers(130_000, 132_000).map(str),
        one_of("+1", "-1", "0000000001", "-00000000001", "999999999", "9" * 20, "", "+", "1.5"),
    ),
)
NUMBERS = st.builds(
    lambda sign, whole, fraction, exponent: sign + whole + fraction + exponent,
    mostly(one_of("", "-"), one_of("+", "--")),
    mostly(one_of("0", "1", "10", "123456789", "9" * 400), one_of("00", "01", "٣", "")),
    mostly(one_of("", ".0", ".5", ".000", "." + "9" * 80), one_of(".", ".٣")),
    st.one_of(st.just(""), st.builds(str.__add__, one_of("e", "E"), EXPONENTS)),
)
WORDS = mostly(
    one_of("true", "false", "null"),
    one_of("True", "NaN", "Infinity", "-Infinity", "nul", "undefined", ""),
)


def arrays(items: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(
        lambda parts, space, end: "[" + (space + ",").join(parts) + end,
        st.lists(items, max_size=3),
        SPACES,
        mostly(one_of("]"), one_of(",]", "}", "")),
    )


def objects(items: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    members = st.builds(
        lambda key, before, after, value: key + before + ":" + after + value,
        st.one_of(st.just('"k"'), STRINGS, mostly(one_of('""'), one_of("k", "1"))),
        SPACES,
        SPACES,
        items,
    )
    return st.builds(
        lambda parts, space, end: "{" + space + ("," + space).join(parts) + end,
        st.lists(members, max_size=3),
        SPACES,
        mostly(one_of("}"), one_of(",}", "}}", "]", "")),
    )


VALUES = st.recursive(
    st.one_of(STRINGS, NUMBERS, WORDS),
    lambda inner: st.one_of(arrays(inner), objects(inner)),
    max_leaves=8,
)
TEXTS = st.builds(
    lambda before, value, after: before + value + after,
    SPACES,
    mostly(objects(VALUES), VALUES),
    mostly(SPACES, one_of("{}", ",", "x")),
)


async def taken_by_jsonb(connection: Any, text: str) -> bool:
    try:
        kind = await connection.fetchval("SELECT jsonb_typeof($1::text::jsonb)", text)
    except asyncpg.PostgresError:
        return False
    return bool(kind == "object")


def taken_here(text: str) -> bool | None:
    """None where it is too deep, which is our limit and not jsonb's."""
    try:
        check_object(text)
    except TooDeep:
        return None
    except InvalidJson:
        return False
    return True


@pytest.mark.fuzz
@pytest.mark.timeout(900)
async def test_the_check_and_jsonb_agree(connection: Any, request: pytest.FixtureRequest) -> None:
    @settings(
        max_examples=share(request, "fuzz", 400, 30_000),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(text=TEXTS)
    def generate(text: str) -> None:
        texts.append(text)

    texts: list[str] = []
    generate()
    assert len(set(texts)) > 100
    judged = {text: taken_here(text) for text in texts}
    disagreed = {
        text: mine
        for text, mine in judged.items()
        if mine is not None and mine != await taken_by_jsonb(connection, text)
    }
    assert disagreed == {}
    # A generator of nothing but rubbish, or of nothing but sense, would prove little.
    assert 0.1 < sum(map(bool, judged.values())) / len(judged) < 0.9


EDGES = [
    "",
    "{}",
    " \t\r\n{} \t\r\n",
    '{"":{"":""}}',
    '{"a": -0}',
    '{"a": 1e131071}',
    '{"a": 1e131072}',
    '{"a": 0e999999}',
    '{"a": 0e-16383}',
    '{"a": 0e-16384}',
    '{"a": 0.0e-16383}',
    '{"a": 1e-16383}',
    '{"a": 1e-16384}',
    '{"a": 1.5e-16383}',
    '{"a": 0.00001e131076}',
    '{"a": 10e131071}',
    '{"a": 1e00000000000000000001}',
    '{"a": 1e-00000000000000000001}',
    '{"a": 1e+0}',
    '{"a": 1e400000}',
    '{"a": 1e-400000}',
    '{"a": ' + "9" * 131_072 + "}",
    '{"a": ' + "9" * 131_073 + "}",
    '{"a": 0.' + "9" * 16_383 + "}",
    '{"a": 0.' + "9" * 16_384 + "}",
    '{"a": ' + "9" * 16_384 + "." + "9" * 16_383 + "}",
    '{"a": ' + "9" * 5_000 + "}",
    '{"a": "' + "x" * 200_000 + '"}',
    r'{"a": "\u0000", "a": 1}',
    r'{"a": {"b": "\udead"}, "a": 1}',
    r'{"\u0000": 1}',
    r'{"a": "\\u0000"}',
    r'{"a": "\\\u0000"}',
    r'{"a": "\ud83d\\ude00"}',
    '\ufeff{"a": 1}',
    '{"a": NaN}',
    '{"a": "\x7f"}',
    '{"a": "\x1f"}',
]


@pytest.mark.parametrize("text", EDGES, ids=lambda text: text[:24] or "empty")
async def test_the_check_and_jsonb_agree_at_the_edges(connection: Any, text: str) -> None:
    assert taken_here(text) == await taken_by_jsonb(connection, text)


@pytest.mark.parametrize("levels", [2, 63, 64])
def test_sixty_four_levels_are_taken(levels: int) -> None:
    check_object('{"a":' * levels + "1" + "}" * levels)
    check_object('{"a":' + "[" * (levels - 1) + "]" * (levels - 1) + "}")


@pytest.mark.parametrize("levels", [65, 66, 10_000, 40_000])
def test_more_levels_are_too_deep(levels: int) -> None:
    with pytest.raises(TooDeep, match="64"):
        check_object('{"a":' * levels + "1" + "}" * levels)
    with pytest.raises(TooDeep, match="64"):
        check_object('{"a":' + "[" * levels)


def test_brackets_in_strings_are_no_levels() -> None:
    check_object('{"a": "' + "[{" * 100 + r"\"[[" + '", "[[": "]]"}')
    check_object('{"a": [' + "[]," * 100 + "[]]}")


@pytest.mark.parametrize("text", ["[]", "1", '"a"', "null", "true", "[{}]"])
def test_only_an_object_is_taken(text: str) -> None:
    with pytest.raises(InvalidJson, match="top level"):
        check_object(text)
