"""Filter expressions: `price < 50 and brand = 'Apple'` -> the documents that satisfy them.

    expression   not, and, or (in that order of strength), parentheses
    comparison   NAME = != < <= > >= VALUE
    range        NAME between VALUE and VALUE  both ends included; also NAME not between
    membership   NAME in (VALUE, ...)          NAME not in (VALUE, ...)
    contains     NAME contains 'text'          a list has exactly that item, or a text has it anywhere inside
    existence    NAME exists                   exists(NAME) says the same
    NAME         an attribute, or id or title; in `backquotes` when it has spaces or is a word of the grammar
    VALUE        'text' or "text" (a quote inside is doubled or follows a backslash), a number, true, false,
                 a date 2026-01-31 or a time 2026-01-31T09:30 (also with seconds and Z or +02:00) without quotes

Every comparison with an attribute that the document does not have is false, `!=` and `not in` included; only `not (...)` turns it
round. Values of different kinds are never equal and never ordered: `size = 42` does not find the text '42', `on_sale = 1` does
not find true. 1 and 1.0 are the same number, compared exactly. Texts are ordered by code point. Dates are compared with texts that
are ISO dates or times, as instants: a date stands for its whole day, in UTC as every time without a zone; other texts are no dates,
and comparing them is false.
For a list, `=`, `in` and `contains` ask whether some item is equal, `!=` and `not in` whether none is.

A collection refuses a comparison with an attribute that none of its products has, as a slip of the pen; whoever means "if there is
such an attribute" says so: `on_sale exists and on_sale = true`.

Evaluation stands in `engine.conditions`.
"""

import functools
import re
from collections.abc import Collection, Iterator
from difflib import get_close_matches
from typing import cast

from lark import Lark, Token, Transformer
from lark.exceptions import UnexpectedCharacters, UnexpectedEOF, UnexpectedInput, UnexpectedToken, VisitError

from engine.conditions import All, Any, Compare, Contains, Dated, Exists, Filter, Member, Not
from engine.errors import InvalidFilter
from engine.index.attributes import Scalar
from engine.index.instants import span

MAX_LENGTH = 10_000
MAX_DEPTH = 100
NAMES_LISTED = 20

GRAMMAR = r"""
?start: disjunction
?disjunction: conjunction (_OR conjunction)*
?conjunction: negation (_AND negation)*
?negation: _NOT negation -> negate
    | primary
?primary: "(" disjunction ")"
    | _name OPERATOR value -> compare
    | _name _BETWEEN value _AND value -> between
    | _name _NOT _BETWEEN value _AND value -> not_between
    | _name _IN _values -> member
    | _name _NOT _IN _values -> not_member
    | _name _CONTAINS value -> contains
    | _name _NOT _CONTAINS value -> not_contains
    | _name _EXISTS -> exists
    | _EXISTS "(" _name ")" -> exists
_name: NAME | QUOTED_NAME
_values: "(" value ("," value)* ")"
?value: TEXT | NUMBER | DATE | TRUE | FALSE
OPERATOR: "<=" | ">=" | "!=" | "=" | "<" | ">"
_OR.2: /or\b/i
_AND.2: /and\b/i
_NOT.2: /not\b/i
_BETWEEN.2: /between\b/i
_IN.2: /in\b/i
_CONTAINS.2: /contains\b/i
_EXISTS.2: /exists\b/i
TRUE.2: /true\b/i
FALSE.2: /false\b/i
NAME: /[^\W\d][\w.\-]*/
QUOTED_NAME: /`(?:[^`]|``)+`/
TEXT: /'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*"/s
DATE.2: /\d{4}-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:\d\d)?)?(?![\w.:-])/
NUMBER: /[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![\w.])/
%ignore /\s+/
"""
_WORDS = {
    "NAME": "an attribute name",
    "QUOTED_NAME": "an attribute name",
    "TEXT": "a text in quotes",
    "NUMBER": "a number",
    "DATE": "a date",
    "TRUE": "true or false",
    "FALSE": "true or false",
    "OPERATOR": "one of = != < <= > >=",
    "_BETWEEN": "between",
    "_IN": "in",
    "_CONTAINS": "contains",
    "_EXISTS": "exists",
    "_AND": "and",
    "_OR": "or",
    "_NOT": "not",
    "LPAR": "(",
    "RPAR": ")",
    "COMMA": "a comma",
    "$END": "the end",
}


def parse(expression: str) -> Filter:
    """Read an expression; raises `InvalidFilter`, whose `column` (from 1) points at the first place that does not fit."""
    if len(expression) > MAX_LENGTH:
        raise InvalidFilter(f"the filter has {len(expression)} characters: at most {MAX_LENGTH} are read", column=MAX_LENGTH + 1)
    try:
        parsed = cast(Filter, _parser().parse(expression))  # the transformer leaves no tree
    except UnexpectedInput as error:
        raise _explained(expression, error) from None
    except VisitError as error:
        raise error.orig_exc from None
    return _depth_checked(parsed)


def conjuncts(expression: str) -> list[str]:
    """Cut an expression at its outermost `and`s; one part when there are none. Raises `InvalidFilter` as `parse` does."""
    if not isinstance(parse(expression), All):
        return [expression.strip()]
    depth, ranges, starts, ends = 0, 0, [0], []
    for token in _parser().parse_interactive(expression).iter_parse():
        depth += {"LPAR": 1, "RPAR": -1}.get(token.type, 0)
        ranges += token.type == "_BETWEEN"
        if token.type == "_AND" and ranges:  # the one inside of `between 1 and 5`
            ranges -= 1
        elif token.type == "_AND" and depth == 0:
            ends.append(int(token.start_pos or 0))
            starts.append(int(token.end_pos or 0))
    if len(starts) == 1:  # the whole conjunction stands in parentheses
        return [expression.strip()]
    return [expression[start:end].strip() for start, end in zip(starts, [*ends, len(expression)], strict=True)]


def check_names(parsed: Filter, known: Collection[str]) -> None:
    """Raise `InvalidFilter` for a comparison with an attribute that is not `known`, unless the filter asks whether it exists."""
    leaves = list(_leaves(parsed))
    asked_for = {leaf.name for leaf in leaves if isinstance(leaf, Exists)}
    for leaf in leaves:
        if leaf.name not in known and leaf.name not in asked_for:
            raise InvalidFilter(_unknown(leaf.name, sorted(known)))


def _leaves(node: Filter) -> Iterator[Compare | Dated | Member | Contains | Exists]:
    if isinstance(node, Not | All | Any):
        for child in _children(node):
            yield from _leaves(child)
    else:
        yield node


def _unknown(name: str, known: list[str]) -> str:
    folded = {other.casefold(): other for other in known}
    alike = get_close_matches(name.casefold(), folded, n=1, cutoff=0.7)
    meant = f": did you mean {_written(folded[alike[0]])}?" if alike else ":"
    more = ", ..." if len(known) > NAMES_LISTED else ""
    listed = ", ".join(map(_written, known[:NAMES_LISTED])) + more
    own = _written(name)
    fact = f"no product here has an attribute {own}{meant} the attributes are {listed}"
    return f"{fact} (where none may have it, write {own} exists and ...)"


def _written(name: str) -> str:
    bare = re.fullmatch(r"[^\W\d][\w.\-]*", name) and name.lower() not in {*_WORDS.values(), "true", "false"}
    return name if bare else f"`{name.replace('`', '``')}`"


@functools.cache
def _parser() -> Lark:
    # LALR with the transformer inside builds the result while it parses: no recursion, however deep the parentheses.
    return Lark(GRAMMAR, parser="lalr", transformer=_Builder())


class _Builder(Transformer[Token, Filter]):
    """Turns reductions of the grammar into filters."""

    def disjunction(self, children: list[Filter]) -> Filter:
        return Any(tuple(children))

    def conjunction(self, children: list[Filter]) -> Filter:
        return All(tuple(children))

    def negate(self, children: list[Filter]) -> Filter:
        return Not(children[0])

    def compare(self, children: list[Token]) -> Filter:
        name, operator, value = children
        if operator not in {"=", "!="} and value.type in {"TRUE", "FALSE"}:
            raise InvalidFilter(f"column {_column(value)}: {value} has no order, use = or !=", column=_column(value))
        return _compared(_name(name), str(operator), value)

    def between(self, children: list[Token]) -> Filter:
        name, low, high = children
        for value in (low, high):
            if value.type in {"TRUE", "FALSE"}:
                raise InvalidFilter(f"column {_column(value)}: {value} has no order, use = or !=", column=_column(value))
        return All((_compared(_name(name), ">=", low), _compared(_name(name), "<=", high)))

    def not_between(self, children: list[Token]) -> Filter:
        return All((Exists(_name(children[0])), Not(self.between(children))))

    def member(self, children: list[Token]) -> Filter:
        return _member(children, admitted=True)

    def not_member(self, children: list[Token]) -> Filter:
        return _member(children, admitted=False)

    def contains(self, children: list[Token]) -> Filter:
        return Contains(_name(children[0]), _text(children[1]), admitted=True)

    def not_contains(self, children: list[Token]) -> Filter:
        return Contains(_name(children[0]), _text(children[1]), admitted=False)

    def exists(self, children: list[Token]) -> Filter:
        return Exists(_name(children[0]))


def _compared(name: str, operator: str, value: Token) -> Filter:
    return Dated(name, operator, *_span(value)) if value.type == "DATE" else Compare(name, operator, _value(value))


def _member(children: list[Token], *, admitted: bool) -> Filter:
    name, dates = _name(children[0]), [token for token in children[1:] if token.type == "DATE"]
    plain = Member(name, tuple(_value(token) for token in children[1:] if token.type != "DATE"), admitted=admitted)
    if not dates:
        return plain
    dated = tuple(Dated(name, "=" if admitted else "!=", *_span(token)) for token in dates)
    return Any((plain, *dated)) if admitted else All((plain, *dated))


def _span(token: Token) -> tuple[float, float]:
    found = span(str(token))
    if found is None:
        raise InvalidFilter(f"column {_column(token)}: there is no {token} in the calendar", column=_column(token))
    return found


def _name(token: Token) -> str:
    return token[1:-1].replace("``", "`") if token.type == "QUOTED_NAME" else str(token)


def _text(token: Token) -> str:
    if token.type != "TEXT":
        raise InvalidFilter(f"column {_column(token)}: contains takes a text in quotes, not {token}", column=_column(token))
    return str(_value(token))


def _value(token: Token) -> Scalar:
    if token.type in {"TRUE", "FALSE"}:
        return bool(token.type == "TRUE")
    if token.type == "TEXT":
        return _unquoted(token)
    if any(character in ".eE" for character in token):
        return float(token)
    if len(token) > 100:
        raise InvalidFilter(f"column {_column(token)}: a number of {len(token)} digits is too long", column=_column(token))
    return int(token)


def _unquoted(token: str) -> str:
    quote = token[0]
    escapes = {"n": "\n", "t": "\t"}

    def character(match: re.Match[str]) -> str:
        return quote if match[0] == quote * 2 else escapes.get(match[0][1], match[0][1])

    return re.sub(rf"\\.|{quote}{quote}", character, token[1:-1], flags=re.DOTALL)


def _column(token: Token) -> int:
    return int(token.start_pos or 0) + 1


def _explained(expression: str, error: UnexpectedInput) -> InvalidFilter:
    at_end = isinstance(error, UnexpectedEOF) or (isinstance(error, UnexpectedToken) and error.token.type == "$END")
    column = len(expression) + 1 if at_end else int(error.pos_in_stream or 0) + 1
    wanted = error.allowed if isinstance(error, UnexpectedCharacters) else getattr(error, "accepts", None) or error.expected  # type: ignore[attr-defined]
    words = list(dict.fromkeys(_WORDS.get(name, name) for name in sorted(wanted or (), key=list(_WORDS).index)))
    expected = (
        f"expected {' or '.join([', '.join(words[:-1]), words[-1]] if len(words) > 1 else words)}" if words else "nothing fits"
    )
    seen = "the end" if at_end else repr(expression[column - 1 : column + 19])
    return InvalidFilter(f"column {column}: {expected}, found {seen}", column=column)


def _depth_checked(parsed: Filter) -> Filter:
    level: list[Filter] = [parsed]
    for _ in range(MAX_DEPTH):
        level = [child for node in level for child in _children(node)]
        if not level:
            return parsed
    raise InvalidFilter(f"the filter nests more than {MAX_DEPTH} levels: write it flatter", column=1)


def _children(node: Filter) -> tuple[Filter, ...]:
    if isinstance(node, Not):
        return (node.child,)
    return node.children if isinstance(node, All | Any) else ()
