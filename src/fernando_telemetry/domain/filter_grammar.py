"""The grammar of filters: AIP-160 (https://google.aip.dev/160), read into a tree of terms.

Names and values are still tokens here; domain/filters.py gives them their types. Offered are
comparisons, `:`, paths, AND, OR, NOT, `-` and parentheses; a space for AND, texts alone and
functions are read, so that their refusal tells a typing mistake from a wish.

OR binds tighter than AND, as AIP-160 has it: `a AND b OR c` is `a AND (b OR c)`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal, NoReturn, cast

from lark import Lark, Token, Transformer
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from fernando_telemetry.domain.errors import InvalidFilter
from fernando_telemetry.domain.limits import FILTER_DEPTH, FILTER_TERMS

# A bare word ends at white space, a quote, a parenthesis, a comma or an operator: times,
# addresses and paths need no quotes. Calls are one token with their parenthesis, because
# `a (b)` are two terms; `NOT(` is none.
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
CALL.2: /(?!(?:AND|OR|NOT)\()[A-Za-z_][A-Za-z0-9_.]*\(/
BARE_CALL.2: /[^\s()"'=<>!,]+\(/
NAME: /[A-Za-z_][A-Za-z0-9_]*/
BARE: /[^\s()"'=<>!,]+/
STRING: /"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'/s
%ignore /\s+/
"""

# What a place in the text would take, in words; what is not offered yet is left out.
_EXPECTED: Final = {
    "NAME": "a column name",
    "COMPARATOR": "an operator (=, !=, <, <=, >, >=, :)",
    "BARE": "a value",
    "AND": "AND",
    "OR": "OR",
    "RPAR": ")",
    "$END": "the end",
}
_ESCAPES: Final = {"\\": "\\", '"': '"', "'": "'", "n": "\n", "t": "\t", "r": "\r"}
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
NOT_TEXT: Final = "the NUL character and lone surrogates are not allowed"
_KEYWORDS: Final = ("AND", "OR", "NOT")
# Operators of other languages, behind what they would compare.
_FOREIGN_OPERATOR: Final = re.compile(
    r"\s+((?:NOT\s+)?(?:I?LIKE|IN|IS|BETWEEN|SIMILAR|CONTAINS|MATCHES))\b", re.IGNORECASE
)
_ECHO_CHARACTERS: Final = 64

Joint = Literal["AND", "OR"]


@dataclass(frozen=True, slots=True)
class Term:
    """One comparison, as it was written.

    Args:
        path: The column's name, then names or quoted texts that lead into it.
        operator: `=`, `!=`, `<`, `<=`, `>`, `>=` or `:`.
        literal: A bare word or a quoted text.
    """

    path: tuple[Token, ...]
    operator: str
    literal: Token

    @property
    def position(self) -> int:
        """Where it starts in the text, in characters from 0."""
        return start_of(self.path[0])


@dataclass(frozen=True, slots=True)
class Joined:
    """Parts joined by AND or by OR; at least two."""

    joint: Joint
    parts: tuple[Node, ...]
    position: int


@dataclass(frozen=True, slots=True)
class Negated:
    """A part that must not hold."""

    part: Node
    position: int


Node = Term | Joined | Negated


def read_tree(text: str) -> Node | None:
    """Read a filter's shape; None where it is empty.

    Raises:
        InvalidFilter: With the position of the trouble and what would be right there.
    """
    try:
        # The embedded transformer makes the result of `start`.
        tree = cast("Node | None", _parser().parse(text))
    except UnexpectedInput as error:
        raise _syntax_error(error, text) from None
    except _LoneName as error:
        raise _without_operator(error, text) from None
    if tree is not None:
        _check_size(tree)
    return tree


def _check_size(tree: Node) -> None:
    """Walk through the tree, never deeper than the limit."""
    terms = 0
    pending: list[tuple[Node, int]] = [(tree, 1)]
    while pending:
        node, depth = pending.pop()
        if depth > FILTER_DEPTH:
            raise InvalidFilter(node.position, f"it is nested deeper than {FILTER_DEPTH} levels")
        if isinstance(node, Term):
            terms += 1
            if terms > FILTER_TERMS:
                raise InvalidFilter(
                    node.position, f"at most {FILTER_TERMS} comparisons are allowed"
                )
        elif isinstance(node, Negated):
            pending.append((node.part, depth + 1))
        else:
            # From left to right, so that the term over the limit is the one that is named.
            pending += [(part, depth + 1) for part in reversed(node.parts)]


class _LoneName(InvalidFilter):
    """A name without a comparison; `end` is where it ends in the text."""

    def __init__(self, position: int, message: str, end: int) -> None:
        self.end = end
        super().__init__(position, message)


class _Tree(Transformer[Token, "Node | None"]):
    """Makes the tree, bottom up while the parser reduces; no recursion."""

    def start(self, children: list[Node | None]) -> Node | None:
        return children[0]

    def conjunction(self, children: list[Node | Token]) -> Node:
        return _joined("AND", children)

    def sequence(self, children: list[Node]) -> Node:
        if len(children) > 1:
            _unavailable(children[1].position, "A space between comparisons", "; write AND")
        return children[0]

    def disjunction(self, children: list[Node | Token]) -> Node:
        return _joined("OR", children)

    def negation(self, children: list[Node | Token]) -> Node:
        return Negated(cast("Node", children[1]), start_of(cast("Token", children[0])))

    def composite(self, children: list[Node | Token]) -> Node:
        return cast("Node", children[1])

    def comparison(self, children: list[tuple[Token, ...] | Token]) -> Term:
        path, operator, literal = children
        assert isinstance(path, tuple)
        assert isinstance(operator, Token)
        assert isinstance(literal, Token)
        if literal.type == "BARE" and literal.value in _KEYWORDS:
            raise InvalidFilter(start_of(literal), f"expected a value, found {literal.value}")
        return Term(path, operator.value, literal)

    has = comparison

    def lone(self, children: list[tuple[Token, ...] | Token]) -> NoReturn:
        (found,) = children
        word = found[0] if isinstance(found, tuple) else found
        if word.type == "NAME" and word.value.upper() in set(_KEYWORDS) - {word.value}:
            raise InvalidFilter(
                start_of(word), f"{word.value.upper()} is written in upper-case letters"
            )
        message = f"expected a comparison such as user_id = 'u1', found {echo(word)}"
        if isinstance(found, tuple):
            raise _LoneName(start_of(word), message, found[-1].end_pos or 0)
        raise InvalidFilter(start_of(word), message)

    def call(self, children: list[Token]) -> NoReturn:
        _unavailable(start_of(children[0]), "Calling functions")

    def member(self, children: list[Token]) -> tuple[Token, ...]:
        return tuple(one for one in children if one.type != "DOT")

    def BARE_CALL(self, token: Token) -> NoReturn:  # noqa: N802  # a terminal's name
        _unavailable(start_of(token), "Calling functions")


def _joined(joint: Joint, children: list[Node | Token]) -> Node:
    parts = tuple(child for child in children if not isinstance(child, Token))
    return parts[0] if len(parts) == 1 else Joined(joint, parts, parts[0].position)


@cache
def _parser() -> Lark:
    return Lark(GRAMMAR, parser="lalr", transformer=_Tree())


def _unavailable(position: int, what: str, instead: str = "") -> NoReturn:
    raise InvalidFilter(position, f"{what} is not available{instead}")


def start_of(token: Token) -> int:
    """Give where a token starts in the text, in characters from 0."""
    return token.start_pos or 0


def echo(text: str) -> str:
    """Give what a caller wrote, short and printable, for a message."""
    cut = text if len(text) <= _ECHO_CHARACTERS else text[:_ECHO_CHARACTERS] + "…"
    return cut.encode("unicode_escape").decode("ascii") if not cut.isprintable() else cut


def _without_operator(error: _LoneName, text: str) -> InvalidFilter:
    """Point at an operator of another language, where the name is followed by one."""
    found = _FOREIGN_OPERATOR.match(text, error.end)
    if found is None:
        return error
    message = f"expected {_EXPECTED['COMPARATOR']}, found {echo(found[1])}"
    return InvalidFilter(found.start(1), message)


def _syntax_error(error: UnexpectedInput, text: str) -> InvalidFilter:
    if isinstance(error, UnexpectedToken):
        token = error.token
        ended = token.type == "$END"
        position = len(text) if ended else start_of(token)
        found = "the end" if ended else echo(token)
        return InvalidFilter(position, f"expected {_words(error.accepts)}, found {found}")
    if isinstance(error, UnexpectedCharacters):
        position = error.pos_in_stream or 0
        character = text[position]
        if character in "\"'":
            return InvalidFilter(position, "this quote is not closed")
        expected = _words(error.allowed or ())
        return InvalidFilter(position, f"expected {expected}, found {echo(character)}")
    return InvalidFilter(0, "it cannot be read")


def _words(terminals: Iterable[str]) -> str:
    accepted = set(terminals)
    words = [words for terminal, words in _EXPECTED.items() if terminal in accepted]
    return " or ".join(words) or "something else"


def literal_text(token: Token) -> str:
    """Give the text that a name, a bare word or a quoted text stands for.

    Raises:
        InvalidFilter: An escape that is none, or a character that no text holds.
    """
    if token.type != "STRING":
        return str(token)
    start = start_of(token) + 1

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
        raise InvalidFilter(start, NOT_TEXT) from None
    if "\0" in text:
        raise InvalidFilter(start, NOT_TEXT)
    return text
