"""Regular expressions and Lark grammars as GBNF, the notation of llama.cpp that SGLang reads, too. Pure.

What GBNF has no words for is refused: an answer must never be of another shape than was asked for. Where a character
class of Unicode would be long, a part of it is allowed, so that every answer still matches.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, Final, NamedTuple, NoReturn

from llama4sdk.errors import InvalidRequestError, UnsupportedFeatureError

__all__ = ["from_lark", "from_regex"]

ENDLESS: Final = 2**16
"""Repetitions from which on a bound counts as none."""

SPACES: Final = (
    r"\x09-\x0D\x1C-\x20\x85\xA0\u1680\u2000-\u200A\u2028\u2029\u202F\u205F\u3000"  # all that \s is of Unicode
)
CLASSES: Final = {
    "CATEGORY_DIGIT": "0-9",
    "CATEGORY_SPACE": r" \x09\x0A\x0D",
    "CATEGORY_WORD": r"0-9A-Za-z_\xC0-\xD6\xD8-\xF6\xF8-\xFF",
    "CATEGORY_NOT_DIGIT": r"\x09\x0A\x20-\x2F\x3A-\x7E",
    "CATEGORY_NOT_WORD": r"\x09\x0A\x20-\x2F\x3A-\x40\x5B-\x5E\x60\x7B-\x7E",
}

COMMON: Final = {
    "DIGIT": "[0-9]",
    "INT": "[0-9]+",
    "SIGNED_INT": r"[+-]?[0-9]+",
    "FLOAT": r"[0-9]+\.[0-9]*|\.[0-9]+",
    "NUMBER": r"[0-9]+(\.[0-9]+)?",
    "SIGNED_NUMBER": r"[+-]?[0-9]+(\.[0-9]+)?",
    "LETTER": "[A-Za-z]",
    "LCASE_LETTER": "[a-z]",
    "UCASE_LETTER": "[A-Z]",
    "WORD": "[A-Za-z]+",
    "CNAME": "[A-Za-z_][A-Za-z0-9_]*",
    "WS": r"[ \t\n\r]+",
    "WS_INLINE": r"[ \t]+",
    "NEWLINE": r"(\r?\n)+",
    "ESCAPED_STRING": r'"([^"\\\n]|\\.)*"',
}
"""What grammars import from Lark's ``common``."""


class Token(NamedTuple):
    """A piece of a grammar's text."""

    kind: str
    text: str


TOKENS: Final = re.compile(
    r"""(?P<space>[ \t\r]+|//[^\n]*)|(?P<line>\n\s*)|(?P<directive>%\w+[^\n]*)
    |(?P<name>[!?]*[A-Za-z_]\w*(?:\.-?\d+(?=\s*:))?)
    |(?P<string>"(?:\\.|[^"\\\n])*"i?)|(?P<regex>/(?:\\.|[^/\\\n])+/[a-z]*)|(?P<alias>->\s*\w+)|(?P<range>\.\.)
    |(?P<times>~\s*\d+(?:\s*\.\.\s*\d+)?)|(?P<sign>[:|()\[\]*+?])""",
    re.VERBOSE,
)


def from_regex(pattern: str, backend: str) -> str:
    """A grammar of the texts that match the whole pattern."""
    return f"root ::= {_pattern(pattern, backend)}\n"


def from_lark(lark: str, backend: str) -> str:
    """The same language in GBNF. Raises InvalidRequestError for what is no grammar."""
    return _Lark(lark, backend).translated()


def _pattern(pattern: str, backend: str) -> str:
    try:
        parsed = parser.parse(pattern)
    except re.error as error:
        raise InvalidRequestError(
            f"The regular expression is none: {error}.", hint="Try it with re.compile."
        ) from error
    if parsed.state.flags & ~re.UNICODE:
        _refuse(backend, "flags in a regular expression")
    return _sequence(parsed, backend)


def _sequence(parsed: Iterable[tuple[Any, Any]], backend: str) -> str:
    pieces = [_piece(code, value, backend) for code, value in parsed]
    return " ".join(filter(None, pieces)) or '""'


def _piece(code: Any, value: Any, backend: str) -> str:
    if code is codes.LITERAL:
        return f'"{_char(value)}"'
    if code is codes.NOT_LITERAL:
        return f"[^{_char(value)}]"
    if code is codes.ANY:
        return r"[^\n]"
    if code is codes.IN:
        return _class(value, backend)
    if code is codes.BRANCH:
        return f"({' | '.join(_sequence(one, backend) for one in value[1])})"
    if code is codes.SUBPATTERN and not value[1] and not value[2]:
        return f"({_sequence(value[3], backend)})"
    if code in (codes.MAX_REPEAT, codes.MIN_REPEAT):
        return _repeated(f"({_sequence(value[2], backend)})", int(value[0]), int(value[1]))
    if code is codes.AT and value in (codes.AT_BEGINNING, codes.AT_BEGINNING_STRING, codes.AT_END, codes.AT_END_STRING):
        return ""
    return _refuse(backend, f"{str(code).lower()} in a regular expression")


def _class(members: list[tuple[Any, Any]], backend: str) -> str:
    negated = members[0][0] is codes.NEGATE
    written = "".join(_member(code, value, negated, backend) for code, value in members[negated:])
    if written == "^":
        return f"[^{SPACES}]"
    return f"[{'^' if negated else ''}{written}]"


def _member(code: Any, value: Any, negated: bool, backend: str) -> str:  # noqa: FBT001
    if code is codes.LITERAL:
        return _char(value)
    if code is codes.RANGE:
        return f"{_char(value[0])}-{_char(value[1])}"
    category = str(value)
    if category == "CATEGORY_SPACE" and negated:
        return SPACES
    if category == "CATEGORY_NOT_SPACE" and not negated:
        return "^"
    if negated or category not in CLASSES:
        _refuse(backend, "such a class of characters in a regular expression")
    return CLASSES[category]


def _repeated(what: str, least: int, most: int) -> str:
    if most >= ENDLESS:
        return what + {0: "*", 1: "+"}.get(least, f"{{{least},}}")
    if (least, most) == (0, 1):
        return f"{what}?"
    return what + (f"{{{least}}}" if least == most else f"{{{least},{most}}}")


def _char(code: int) -> str:
    """One character, escaped unless it can mean nothing else."""
    char = chr(code)
    if char.isascii() and (char.isalnum() or char == " "):
        return char
    if code < 0x100:
        return f"\\x{code:02X}"
    return f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"


def _text(text: str) -> str:
    return '"' + "".join(_char(ord(char)) for char in text) + '"'


def _refuse(backend: str, what: str) -> NoReturn:
    raise UnsupportedFeatureError(backend, what, hint="Write it another way, or use schema=.")


class _Lark:
    """One grammar, read once from front to back."""

    def __init__(self, text: str, backend: str) -> None:
        self._backend = backend
        self._tokens = list(_tokens(text))
        self._place = 0
        self._used: set[str] = set()

    def translated(self) -> str:
        rules: dict[str, str] = {}
        while self._place < len(self._tokens):
            token = self._next()
            if token.kind == "line":
                continue
            if token.kind == "directive":
                rules |= self._directive(token.text)
                continue
            if token.kind != "name" or self._next().text != ":":
                _wrong(f"a rule was expected at {token.text!r}")
            rules[token.text.lstrip("!?").partition(".")[0]] = self._choices()
        if "start" not in rules:
            _wrong("it has no rule 'start'")
        if missing := self._used - rules.keys():
            _wrong(f"it has no rule '{min(missing)}'")
        lines = [f"{_rule(name)} ::= {body}" for name, body in rules.items()]
        return "\n".join([f"root ::= {_rule('start')}", *lines]) + "\n"

    def _directive(self, text: str) -> dict[str, str]:
        found = re.fullmatch(r"%import\s+common\s*(?:\.\s*(\w+)|\(([\w\s,]+)\))\s*(?:->\s*(\w+))?\s*", text)
        if found is None:
            _refuse(self._backend, f"'{text.strip()}' in a grammar")
        names = [found[1]] if found[1] else [name.strip() for name in found[2].split(",")]
        if unknown := [name for name in names if name not in COMMON]:
            _refuse(self._backend, f"'{unknown[0]}' in a grammar")
        return {(found[3] or name): _pattern(COMMON[name], self._backend) for name in names}

    def _choices(self) -> str:
        choices = [self._items()]
        while self._peek().text == "|" or (self._peek().kind == "line" and self._peek(1).text == "|"):
            self._place += 1 if self._peek().text == "|" else 2
            choices.append(self._items())
        return " | ".join(choices)

    def _items(self) -> str:
        items: list[str] = []
        while (token := self._peek()).kind in ("name", "string", "regex") or token.text in ("(", "["):
            items.append(self._times(self._item()))
        if self._peek().kind == "alias":
            self._next()
        return " ".join(items) or '""'

    def _item(self) -> str:
        token = self._next()
        if token.text in ("(", "["):
            inner = self._grouped("]" if token.text == "[" else ")")
            return f"({inner})?" if token.text == "[" else f"({inner})"
        if token.kind == "regex":
            body, _, flags = token.text[1:].rpartition("/")
            if flags:
                _refuse(self._backend, f"the flags '{flags}' in a grammar")
            return f"({_pattern(body, self._backend)})"
        if token.kind == "name":
            self._used.add(token.text)
            return _rule(token.text)
        return self._string(token.text)

    def _grouped(self, end: str) -> str:
        self._skip_lines()
        inner = self._choices()
        self._skip_lines()
        if self._next().text != end:
            _wrong(f"a {end!r} is missing")
        return inner

    def _string(self, text: str) -> str:
        value = _unquoted(text)
        if self._peek().kind == "range":
            self._next()
            end = _unquoted(self._next().text)
            if len(value) != 1 or len(end) != 1:
                _wrong("a range is between two single characters")
            return f"[{_char(ord(value))}-{_char(ord(end))}]"
        if text.endswith("i") and value.lower() != value.upper():
            both = [
                f"[{_char(ord(char.lower()))}{_char(ord(char.upper()))}]" if char.isalpha() else _text(char)
                for char in value
            ]
            return f"({' '.join(both)})"
        return _text(value)

    def _times(self, item: str) -> str:
        token = self._peek()
        if token.text in ("*", "+", "?") and token.kind == "sign":
            self._next()
            return f"({item}){token.text}"
        if token.kind == "times":
            self._next()
            numbers = [int(number) for number in re.findall(r"\d+", token.text)]
            return _repeated(f"({item})", numbers[0], numbers[-1])
        return item

    def _skip_lines(self) -> None:
        while self._peek().kind == "line":
            self._next()

    def _peek(self, ahead: int = 0) -> Token:
        place = self._place + ahead
        return self._tokens[place] if place < len(self._tokens) else Token("end", "")

    def _next(self) -> Token:
        token = self._peek()
        self._place += 1
        return token


def _tokens(text: str) -> Iterator[Token]:
    place = 0
    while place < len(text):
        found = TOKENS.match(text, place)
        if found is None or found.lastgroup is None:
            _wrong(f"{text[place : place + 20]!r} cannot be read")
        place = found.end()
        if found.lastgroup != "space":
            yield Token(found.lastgroup, found[0])


def _unquoted(text: str) -> str:
    body = text.removesuffix("i")[1:-1]
    if not text.startswith('"'):
        _wrong(f"a string was expected at {text!r}")
    known = {"n": "\n", "t": "\t", "r": "\r"}
    return re.sub(
        r"\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|.)",
        lambda found: chr(int(found[1][1:], 16)) if len(found[1]) > 1 else known.get(found[1], found[1]),
        body,
    )


def _rule(name: str) -> str:
    """Names of GBNF have no underscores; those of its own are kept apart."""
    return f"r-{name.replace('_', '-')}"


def _wrong(what: str) -> NoReturn:
    raise InvalidRequestError(f"The grammar is none in Lark's notation: {what}.", hint="Its first rule is 'start: …'.")
