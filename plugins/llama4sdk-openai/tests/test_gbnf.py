"""Regular expressions and Lark grammars in llama.cpp's notation mean what they meant."""

from __future__ import annotations

import re

import pytest
from llama4sdk_openai.gbnf import from_lark, from_regex

from llama4sdk.errors import InvalidRequestError, UnsupportedFeatureError

GBNF = re.compile(r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|[a-zA-Z][\w-]*|\{[\d,]+\}|[()|*+?]|\s+')


def readable(gbnf: str) -> re.Pattern[str]:
    """The grammar, which must not call itself, as a regular expression: an independent reading of the notation."""
    rules = dict(line.split(" ::= ", 1) for line in gbnf.strip().splitlines())

    def of(body: str) -> str:
        written = []
        for token in GBNF.findall(body):
            if token.startswith('"'):
                written.append("(?:" + "".join(re.escape(char) for char in _plain(token[1:-1])) + ")")
            elif token in rules:
                written.append(f"(?:{of(rules[token])})")
            else:
                written.append(token.strip())
        return "".join(written)

    return re.compile(of(rules["root"]))


def _plain(text: str) -> str:
    return re.sub(r"\\(?:x(..)|u(....)|U(.{8}))", lambda found: chr(int(found[1] or found[2] or found[3], 16)), text)


PATTERNS = {
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}": ["2026-11-21", "226-11-21", "2026-11-211"],
    r"(19|20)\d\d": ["1999", "2100", "2000"],
    r"a?b*c+": ["c", "abbcc", "ab", ""],
    r"[^a-c\]]+": ["xyz]", "xyz", "a"],
    r"\w+@\w+\.(com|org)": ["a_1@b.com", "a@b_com", "@b.org"],
    r"(?:x{2,3}?|y{2,})z": ["xxz", "xxxxz", "yyyyz", "yz"],
    r"^.+$": ["one line", "two\nlines", ""],
    r"\S+ \S+": ["two words", "one", "a\u00a0b c"],
    r"🦙[é-ü]": ["🦙ö", "🦙z"],
    r"[-+.*\\\"]{2}": ['-"', "\\+", "--", "a-"],
    "": ["", "a"],
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_means_the_same(pattern: str) -> None:
    """Texts match the grammar just as they match the pattern."""
    grammar = readable(from_regex(pattern, "b"))
    for text in PATTERNS[pattern]:
        assert bool(grammar.fullmatch(text)) == bool(re.fullmatch(pattern, text)), text


@pytest.mark.parametrize("pattern", [r"(a)\1", r"(?=a)b", r"(?i)a", r"\bword\b", r"[^\w]"])
def test_what_has_no_words_in_gbnf_is_refused(pattern: str) -> None:
    """References, looks around and flags are refused, and never dropped."""
    with pytest.raises(UnsupportedFeatureError):
        from_regex(pattern, "b")


LARKS: list[tuple[str, list[str], list[str]]] = [
    ('start: "(" inner ")"\ninner: "yes" | "no"', ["(yes)", "(no)"], ["yes", "()"]),
    ('start: a ("," a)*\n?a: "x" -> ex\n  | "y"', ["x", "x,y,x"], ["x,", ""]),
    ('start: WORD [" " NUMBER]\n%import common.WORD\n%import common.NUMBER', ["abc", "abc 1.5"], ["abc ", "1"]),
    ('start: digit~2..3 "k"i?\ndigit: "0".."9"  // one', ["12", "123K", "12k"], ["1", "1234"]),
    ("start: TIME+\nTIME.2: /\\d\\d:\\d\\d;/", ["12:30;", "12:30;13:00;"], ["12:30"]),
    ('start: "\\"" (\n  "a"\n  | "b\\n"\n) "\\""', ['"a"', '"b\n"'], ['"b"']),
    ("%import common (INT, WS)\nstart: INT WS INT", ["1 2", "10\n\n3"], ["12"]),
]


@pytest.mark.parametrize(("lark", "inside", "outside"), LARKS)
def test_a_grammar_means_the_same(lark: str, inside: list[str], outside: list[str]) -> None:
    """Sentences of the language, and texts that are none."""
    grammar = readable(from_lark(lark, "b"))
    assert all(grammar.fullmatch(text) for text in inside)
    assert not any(grammar.fullmatch(text) for text in outside)


def test_a_grammar_may_call_itself() -> None:
    """Rules that lead back to themselves stay rules; names get letters that GBNF knows."""
    assert from_lark('start: list_of\nlist_of: "[" (list_of)? "]"', "b") == (
        'root ::= r-start\nr-start ::= r-list-of\nr-list-of ::= "\\x5B" ((r-list-of))? "\\x5D"\n'
    )


@pytest.mark.parametrize("lark", ["start: a", 'a: "b"', 'start: "a', "start: ( a", "start = a", ""])
def test_what_is_no_grammar_is_said_to_be_none(lark: str) -> None:
    """Missing rules and broken lines are named."""
    with pytest.raises(InvalidRequestError, match="Lark"):
        from_lark(lark, "b")


@pytest.mark.parametrize("lark", ['start: "a"\n%ignore " "', "start: /a/i", "%import python.NAME\nstart: NAME"])
def test_what_gbnf_cannot_say_is_refused(lark: str) -> None:
    """Ignored text and flags have no words there."""
    with pytest.raises(UnsupportedFeatureError):
        from_lark(lark, "b")
