"""Tool calls in what a model writes, found while it writes. Pure; nothing is ever executed.

Llama 4 writes calls in several forms, between ``<|python_start|>`` and ``<|python_end|>`` or without them, sometimes
after a few words:

    [get_weather(city="Lima"), get_time(city="Lima")]                    Python's syntax, literals only
    {"name": "get_weather", "parameters": {"city": "Lima"}}              JSON: one object, several, or a list
    {"type": "function", "function": {"name": …, "arguments": …}}        as other models write it
    <function=get_weather>{"city": "Lima"}</function>
    brave_search.call(query="rain in Lima")                              as Llama's built-in tools are called

Every decision depends on characters alone, never on how the text was cut into pieces.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from llama4sdk.events import TextDelta, ToolCallDelta
from llama4sdk.llama4.toolcall_syntax import Call, built_in_call, json_calls, python_calls, tagged_call

__all__ = ["MARKS", "ToolCallParser"]

START: Final = "<|python_start|>"
END: Final = "<|python_end|>"
CLOSING_TAG: Final = "</function>"
#: Control tokens that an engine must pass on as text, for the parser to see; they are never shown.
MARKS: Final = (START, END)

SEPARATORS: Final = " \t\r\n,;"
KEYS: Final = ("name", "type", "function", "parameters", "arguments")
BUILT_IN: Final = ".call("
DEEPEST: Final = 100

_OPENING: Final = re.compile(r"[\[{<]")
_LIST: Final = re.compile(r"\[\s*")
_NAME: Final = re.compile(r"([^\W\d][\w.]{0,99})\s*")
_WORD: Final = re.compile(r"[^\W\d]\w{0,99}")
_KEY: Final = re.compile(r'\{\s*("\w{0,12})?')
_TAG: Final = re.compile(r"<function=([\w.\-]{0,100})(>\s*)?")
_CLOSERS: Final = {"(": ")", "[": "]", "{": "}"}

Parsed: TypeAlias = TextDelta | ToolCallDelta


class ToolCallParser:
    """Reads an answer piece by piece. ``calls`` is the number of calls found so far.

    A call of a tool that is not among ``names`` counts only where an answer begins or goes on with calls, not within
    prose; in the form of built-in tools, only behind ``<|python_start|>``. What only looks like a call, or is none by
    its syntax, is text. Ids are ``call_N``, counted from ``first``.
    """

    def __init__(self, names: Collection[str], *, first: int = 0) -> None:
        self.calls = 0
        self._names = frozenset(names)
        self._first = first
        self._held = ""
        self._gap = ""
        self._fresh = True
        self._wrapped = False
        self._candidate: _Candidate | None = None

    def push(self, text: str) -> list[Parsed]:
        """What is certain after this piece: text that belongs to no call, and calls that are whole."""
        self._held += text
        return list(self._advance(final=False))

    def end(self) -> list[Parsed]:
        """Nothing follows: a call that was begun and not finished is text."""
        return [*self._advance(final=True), *self._rest()]

    def _advance(self, *, final: bool) -> Iterator[Parsed]:
        while self._held:
            if self._candidate is None:
                yield from self._say(self._take(self._plain_length()))
                self._candidate = self._look()
            candidate = self._candidate
            end = candidate.scan(self._held) if candidate else None
            if candidate is None or end is None:
                yield from self._say(self._take(len(self._held) if final else 0))
                return
            self._candidate = None
            yield from self._decide(candidate, self._take(end))

    def _plain_length(self) -> int:
        opening = _OPENING.search(self._held)
        length = opening.start() if opening else len(self._held)
        space = length - len(self._held[:length].lstrip(self._separators))
        return space if self._fresh and _WORD.match(self._held, space) else length

    @property
    def _separators(self) -> str | None:
        """What may stand before a call without being prose: space, and between calls a little more."""
        return SEPARATORS if self.calls else None

    def _look(self) -> _Candidate | None:
        """What begins at the first held character; ``None`` while that cannot be told."""
        if not self._held:
            return None
        if self._held[0] not in "[{<":
            return _built_in(self._held, None if self._wrapped else self._names)
        return _candidate(self._held, lambda name: self._fresh or name in self._names)

    def _decide(self, candidate: _Candidate, text: str) -> Iterator[Parsed]:
        if text in MARKS:
            self._wrapped = text == START
            self._fresh = self._fresh or self._wrapped
        elif text == CLOSING_TAG and self._fresh and self.calls:
            return
        elif (calls := candidate.calls(text)) and (self._fresh or self._names.issuperset(call.name for call in calls)):
            yield from self._emit(calls)
        else:
            yield from self._say(text)

    def _emit(self, calls: list[Call]) -> Iterator[Parsed]:
        self._gap, self._fresh = "", True
        for call in calls:
            number = f"call_{self._first + self.calls}"
            yield ToolCallDelta(index=self.calls, id=number, name=call.name, arguments=call.arguments)
            self.calls += 1

    def _say(self, text: str) -> Iterator[Parsed]:
        """Space before calls, and what separates them, waits until text follows it."""
        text = self._gap + text.replace(START, "").replace(END, "")
        if self._fresh and not text.strip(self._separators):
            self._gap = text
        elif text:
            self._gap, self._fresh = "", False
            yield TextDelta(text=text)

    def _rest(self) -> Iterator[Parsed]:
        if self._gap and not self.calls:
            yield TextDelta(text=self._gap)
        self._gap = ""

    def _take(self, length: int) -> str:
        taken, self._held = self._held[:length], self._held[length:]
        return taken


@dataclass(slots=True)
class _Candidate:
    """Something from the first held character on; ``scan`` finds its end, going on where it stopped before."""

    #: Where its brackets begin; nothing is in brackets when there are no ``quotes``.
    at: int
    quotes: str = ""
    tag: str | None = None
    stack: str = ""
    quote: str = ""
    escaped: bool = False
    whole: bool = False

    def scan(self, text: str) -> int | None:
        """The length of the candidate, once its last bracket is closed or can no longer be; ``None`` until then."""
        while self.quotes and self.at < len(text):
            char = text[self.at]
            self.at += 1
            if self.quote:
                self._inside_string(char)
            elif char in self.quotes:
                self.quote = char
            elif char in _CLOSERS:
                self.stack += _CLOSERS[char]
            elif char in ")]}":
                matches, self.stack = self.stack[-1] == char, self.stack[:-1]
                self.whole = matches and not self.stack
                if self.whole or not matches:
                    return self.at
            if len(self.stack) > DEEPEST:
                return self.at
        return None if self.quotes else self.at

    def calls(self, text: str) -> list[Call]:
        """The calls in it; empty when it is none after all."""
        if not self.whole:
            return []
        if self.tag is not None:
            return tagged_call(self.tag, text[text.index("{") :])
        if text[0] not in "[{":
            return built_in_call(text)
        return json_calls(text) if self.quotes == '"' else python_calls(text)

    def _inside_string(self, char: str) -> None:
        if self.escaped:
            self.escaped = False
        elif char == "\\":
            self.escaped = True
        elif char == self.quote:
            self.quote = ""


#: The opening character begins nothing: it is text by itself.
_NOTHING: Final = 1


def _candidate(text: str, may_call: Callable[[str], bool]) -> _Candidate | None:
    if text[0] == "<":
        return _marked(text, may_call)
    start = _LIST.match(text)
    inner = start.end() if start else 0
    if inner == len(text):
        return None
    if text[inner] == "{":
        return _object(text, inner)
    name = _NAME.match(text, inner)
    if name is None or (name.end() < len(text) and not may_call(name[1])):
        return _Candidate(_NOTHING)
    if name.end() == len(text):
        return None
    return _Candidate(0, quotes="\"'") if text[name.end()] == "(" else _Candidate(_NOTHING)


def _built_in(text: str, names: Collection[str] | None) -> _Candidate | None:
    """``name.call(``, where the name is one of ``names``, if they are given; one that is not is not waited for."""
    word = _WORD.match(text)
    assert word is not None  # noqa: S101 - a letter was found here
    name, rest = word[0], text[word.end() :]
    ends = rest or len(name) == 100
    known = names is None or (name in names if ends else any(known.startswith(name) for known in names))
    if not known or not BUILT_IN.startswith(rest[: len(BUILT_IN)]):
        return _Candidate(_NOTHING)
    return _Candidate(word.end() + len(BUILT_IN) - 1, quotes="\"'") if rest.startswith(BUILT_IN) else None


def _object(text: str, at: int) -> _Candidate | None:
    """A JSON object is held back only if its first key is one that calls have."""
    key = _KEY.match(text, at)
    assert key is not None  # noqa: S101 - the bracket itself matches
    written = key[1] or '"'
    if key.end() == len(text):
        return None if any(f'"{known}'.startswith(written) for known in KEYS) else _Candidate(_NOTHING)
    is_key = text[key.end()] == '"' and written[1:] in KEYS
    return _Candidate(0, quotes='"') if is_key else _Candidate(_NOTHING)


def _marked(text: str, may_call: Callable[[str], bool]) -> _Candidate | None:
    for mark in (START, END, CLOSING_TAG):
        if text.startswith(mark):
            return _Candidate(len(mark))
        if mark.startswith(text):
            return None
    if "<function=".startswith(text):
        return None
    tag = _TAG.match(text)
    if tag is None:
        return _Candidate(_NOTHING)
    if tag.end() == len(text):
        return None
    is_call = tag[1] and tag[2] and text[tag.end()] == "{" and may_call(tag[1])
    return _Candidate(tag.end(), quotes='"', tag=tag[1]) if is_call else _Candidate(_NOTHING)
