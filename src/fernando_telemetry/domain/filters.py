"""The filter language: a subset of AIP-160 (https://google.aip.dev/160).

The grammar reads all of AIP-160's shapes. What is offered now are comparisons of a column with a
literal, joined by AND; for the rest the answer is that it is not available yet, which tells a
typing mistake from a wish. Values come out typed, so that storage only has to bind them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Final, NoReturn, cast

from lark import Lark, Token, Transformer
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from fernando_telemetry.domain.errors import InvalidFilter
from fernando_telemetry.domain.filter_columns import LATER_COLUMNS, Column, Columns, Operator
from fernando_telemetry.domain.filter_values import Value, read_value
from fernando_telemetry.domain.limits import FILTER_BYTES, FILTER_TERMS

# A bare word ends at white space, a quote, a parenthesis, a comma or an operator: times,
# addresses and paths need no quotes. Calls are one token with their parenthesis, because
# `a (b)` are two terms.
GRAMMAR: Final = r"""
start: [conjunction]
conjunction: sequence (AND sequence)*
sequence: disjunction+
disjunction: _term (OR _term)*
_term: negation | _simple
negation: (NOT | MINUS) _simple
_simple: comparison | has | lone | call | composite
composite: LPAR conjunction RPAR
comparison: member COMPARATOR _argument
has: member COLON _argument
_argument: BARE | STRING | BARE_CALL
lone: member | STRING
call: CALL
member: NAME (DOT (NAME | STRING))*

AND: "AND"
OR: "OR"
NOT: "NOT"
MINUS: "-"
LPAR: "("
RPAR: ")"
COLON: ":"
DOT: "."
COMPARATOR: /<=|>=|!=|=|<|>/
CALL.2: /[A-Za-z_][A-Za-z0-9_.]*\(/
BARE_CALL.2: /[^\s()"'=<>!,]+\(/
NAME: /[A-Za-z_][A-Za-z0-9_]*/
BARE: /[^\s()"'=<>!,]+/
STRING: /"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'/s
%ignore /\s+/
"""

# What a place in the text would take, in words; what is not offered yet is left out.
_EXPECTED: Final = {
    "NAME": "a column name",
    "COMPARATOR": "an operator (=, !=, <, <=, >, >=)",
    "BARE": "a value",
    "AND": "AND",
    "RPAR": ")",
    "$END": "the end",
}
_ESCAPES: Final = {"\\": "\\", '"': '"', "'": "'", "n": "\n", "t": "\t", "r": "\r"}
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_NO_TEXT_OF_POSTGRESQL = re.compile("[\0\ud800-\udfff]")
_NOT_TEXT: Final = "the NUL character and lone surrogates are not allowed"
_KEYWORDS: Final = ("AND", "OR", "NOT")
_ECHO_CHARACTERS: Final = 64


@dataclass(frozen=True, slots=True)
class Comparison:
    """One comparison, typed and checked.

    Args:
        column: The column, of the allow-list that was given.
        operator: One of the column's operators.
        value: Of the column's type; None means NULL, with = and != only.
        position: Where it starts in the text, in characters from 0.
    """

    column: Column
    operator: Operator
    value: Value | None
    position: int


@dataclass(frozen=True, slots=True)
class _Term:
    name: Token
    operator: Operator
    literal: Token

    @property
    def position(self) -> int:
        return _start(self.name)


def parse(text: str, columns: Columns) -> tuple[Comparison, ...]:
    """Read a filter; "" and white space are no comparisons.

    Args:
        text: The filter as the caller wrote it.
        columns: The columns it may name, by name.

    Raises:
        InvalidFilter: With the position of the trouble and what would be right there.
    """
    _check_text(text)
    try:
        # The embedded transformer makes the result of `start`.
        terms = cast("list[_Term]", _parser().parse(text))
    except UnexpectedInput as error:
        raise _syntax_error(error, text) from None
    if len(terms) > FILTER_TERMS:
        raise InvalidFilter(
            terms[FILTER_TERMS].position, f"at most {FILTER_TERMS} comparisons are allowed"
        )
    return tuple(_comparison(term, columns) for term in terms)


def _check_text(text: str) -> None:
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > FILTER_BYTES:
        raise InvalidFilter(0, f"it has {size} bytes, at most {FILTER_BYTES} are allowed")
    if found := _NO_TEXT_OF_POSTGRESQL.search(text):
        raise InvalidFilter(found.start(), _NOT_TEXT)


class _Terms(Transformer[Token, list[_Term]]):
    """Makes the list of comparisons, bottom up while the parser reduces; no recursion."""

    def start(self, children: list[list[_Term] | None]) -> list[_Term]:
        return children[0] or []

    def conjunction(self, children: list[_Term | Token]) -> list[_Term]:
        return [child for child in children if isinstance(child, _Term)]

    def sequence(self, children: list[_Term]) -> _Term:
        if len(children) > 1:
            _unavailable(children[1].position, "A space between comparisons", "; write AND")
        return children[0]

    def disjunction(self, children: list[_Term | Token]) -> _Term:
        if len(children) > 1:
            _unavailable(_start(cast("Token", children[1])), "OR")
        return cast("_Term", children[0])

    def negation(self, children: list[Token]) -> NoReturn:
        _unavailable(_start(children[0]), "NOT (and - before a term)")

    def composite(self, children: list[Token]) -> NoReturn:
        _unavailable(_start(children[0]), "Grouping with parentheses")

    def comparison(self, children: list[Token]) -> _Term:
        name, operator, literal = children
        if literal.type == "BARE" and literal.value in _KEYWORDS:
            raise InvalidFilter(_start(literal), f"expected a value, found {literal.value}")
        return _Term(name, cast("Operator", operator.value), literal)

    def has(self, children: list[Token]) -> NoReturn:
        _unavailable(_start(children[1]), "The operator :")

    def lone(self, children: list[Token]) -> NoReturn:
        word = children[0]
        if word.type == "NAME" and word.value.upper() in _KEYWORDS:
            raise InvalidFilter(
                _start(word), f"{word.value.upper()} is written in upper-case letters"
            )
        raise InvalidFilter(
            _start(word), f"expected a comparison such as user_id = 'u1', found {_echo(word)}"
        )

    def call(self, children: list[Token]) -> NoReturn:
        _unavailable(_start(children[0]), "Calling functions")

    def member(self, children: list[Token]) -> Token:
        if len(children) > 1:
            _unavailable(_start(children[0]), "A path into a column")
        return children[0]

    def BARE_CALL(self, token: Token) -> NoReturn:  # noqa: N802  # a terminal's name
        _unavailable(_start(token), "Calling functions")


@cache
def _parser() -> Lark:
    return Lark(GRAMMAR, parser="lalr", transformer=_Terms())


def _unavailable(position: int, what: str, instead: str = "") -> NoReturn:
    raise InvalidFilter(position, f"{what} is not available yet{instead}")


def _start(token: Token) -> int:
    return token.start_pos or 0


def _echo(text: str) -> str:
    cut = text if len(text) <= _ECHO_CHARACTERS else text[:_ECHO_CHARACTERS] + "…"
    return cut.encode("unicode_escape").decode("ascii") if not cut.isprintable() else cut


def _syntax_error(error: UnexpectedInput, text: str) -> InvalidFilter:
    if isinstance(error, UnexpectedToken):
        token = error.token
        ended = token.type == "$END"
        position = len(text) if ended else _start(token)
        found = "the end" if ended else _echo(token)
        return InvalidFilter(position, f"expected {_words(error.accepts)}, found {found}")
    if isinstance(error, UnexpectedCharacters):
        position = error.pos_in_stream or 0
        character = text[position]
        if character in "\"'":
            return InvalidFilter(position, "this quote is not closed")
        expected = _words(error.allowed or ())
        return InvalidFilter(position, f"expected {expected}, found {_echo(character)}")
    return InvalidFilter(0, "it cannot be read")


def _words(terminals: Iterable[str]) -> str:
    accepted = set(terminals)
    words = [words for terminal, words in _EXPECTED.items() if terminal in accepted]
    return " or ".join(words) or "something else"


def _comparison(term: _Term, columns: Columns) -> Comparison:
    column = columns.get(term.name.value)
    if column is None:
        raise _unknown_column(term.name, columns)
    if term.operator not in column.operators:
        raise InvalidFilter(
            term.position,
            f"{column.name} takes the operators {', '.join(column.operators)} only",
        )
    position = _start(term.literal)
    text = _literal_text(term.literal)
    try:
        value = read_value(column, text)
    except ValueError as error:
        raise InvalidFilter(position, f"{error}, not {_echo(term.literal)}") from None
    if value is None and term.operator not in ("=", "!="):
        raise InvalidFilter(position, "an empty text, which means not set, takes = and != only")
    return Comparison(column, term.operator, value, term.position)


def _unknown_column(name: Token, columns: Columns) -> InvalidFilter:
    if name.value in LATER_COLUMNS:
        return InvalidFilter(_start(name), f"Filtering on {name.value} is not available yet")
    return InvalidFilter(
        _start(name), f"there is no column {_echo(name)}; there are {', '.join(sorted(columns))}"
    )


def _literal_text(token: Token) -> str:
    if token.type == "BARE":
        return str(token)
    start = _start(token) + 1

    def unescape(found: re.Match[str]) -> str:
        code, character = found.groups()
        if code is not None:
            return chr(int(code, 16))
        if character not in _ESCAPES:
            raise InvalidFilter(
                start + found.start(),
                r"""after a backslash comes one of \ " ' n t r or u with four digits""",
            )
        return _ESCAPES[character]

    text = _ESCAPE.sub(unescape, token.value[1:-1])
    try:
        # Two escapes may make one character outside the first plane, as in JSON.
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError:
        raise InvalidFilter(start, _NOT_TEXT) from None
    if "\0" in text:
        raise InvalidFilter(start, _NOT_TEXT)
    return text
