"""Find tool calls in a model's output while it is streamed. Pure; nothing is executed.

Llama 4 writes calls in several forms, between ``<|python_start|>`` and ``<|python_end|>`` or without them, sometimes
after a few words:

    [get_weather(city="Lima"), get_time(city="Lima")]                    Python's syntax, literals only
    {"name": "get_weather", "parameters": {"city": "Lima"}}              JSON: one object, several, or a list
    {"type": "function", "function": {"name": …, "arguments": …}}        OpenAI's form
    <function=get_weather>{"city": "Lima"}</function>
    brave_search.call(query="rain in Lima")                              Llama's built-in tools

Results depend on the characters alone, not on how the text is divided into pieces.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from llama4sdk.events import TextDelta, ToolCallDelta
from llama4sdk.llama4.toolcall_syntax import PARSE_ERRORS, Call, built_in_call, json_calls, python_calls, tagged_call

START: Final = "<|python_start|>"
END: Final = "<|python_end|>"
CLOSING_TAG: Final = "</function>"
#: Control tokens that an engine must pass to the parser as text; the parser never returns them.
PARSER_TOKENS: Final = (START, END)

SEPARATORS: Final = " \t\r\n,;"
CALL_KEYS: Final = ("name", "type", "function", "parameters", "arguments")
BUILT_IN: Final = ".call("
MAX_DEPTH: Final = 100
#: As in the patterns below.
MAX_NAME_LENGTH: Final = 100

_OPENING: Final = re.compile(r"[\[{<]")
_LIST: Final = re.compile(r"\[\s*")
_NAME: Final = re.compile(r"([^\W\d][\w.]{0,99})\s*")
_WORD: Final = re.compile(r"[^\W\d]\w{0,99}")
_KEY: Final = re.compile(r'\{\s*("\w{0,12})?')
_TAG: Final = re.compile(r"<function=([\w.\-]{0,100})(>\s*)?")
_CLOSERS: Final = {"(": ")", "[": "]", "{": "}"}

Parsed: TypeAlias = TextDelta | ToolCallDelta


class ToolCallParser:
    """Parses an answer piece by piece. ``calls`` is the number of calls so far.

    A call of a tool that is not in ``names`` counts only at the beginning of an answer or after other calls, not within
    prose; in the form of built-in tools, only after ``<|python_start|>``. Text that resembles a call, but does not
    parse, is text. Ids are ``call_N``, counted from ``first``.
    """

    def __init__(self, names: Collection[str], *, first: int = 0) -> None:
        self.calls = 0
        self._names = frozenset(names)
        self._first = first
        self._buffer = ""
        self._pending_space = ""
        self._may_start_calls = True
        self._in_python_block = False
        self._candidate: _Candidate | None = None

    def push(self, text: str) -> list[Parsed]:
        """Add a piece; return the text that belongs to no call, and the calls that are complete."""
        self._buffer += text
        return list(self._advance(final=False))

    def end(self) -> list[Parsed]:
        """Finish the answer: an incomplete call is text."""
        events = list(self._advance(final=True))
        space, self._pending_space = self._pending_space, ""
        return [*events, TextDelta(text=space)] if space and not self.calls else events

    def _advance(self, *, final: bool) -> Iterator[Parsed]:
        while self._buffer:
            if self._candidate is None:
                yield from self._emit_text(self._take(self._plain_length()))
                self._candidate = self._find_candidate()
            candidate = self._candidate
            end = candidate.scan(self._buffer) if candidate else None
            if candidate is None or end is None:
                yield from self._emit_text(self._take(len(self._buffer) if final else 0))
                return
            self._candidate = None
            yield from self._decide(candidate, self._take(end))

    def _plain_length(self) -> int:
        opening = _OPENING.search(self._buffer)
        length = opening.start() if opening else len(self._buffer)
        space = length - len(self._buffer[:length].lstrip(self._separators))
        return space if self._may_start_calls and _WORD.match(self._buffer, space) else length

    @property
    def _separators(self) -> str | None:
        """Characters before a call that are not prose: white space, and separators between calls."""
        return SEPARATORS if self.calls else None

    def _find_candidate(self) -> _Candidate | None:
        """The candidate at the start of the buffer; ``None`` while more text is needed to decide."""
        if not self._buffer:
            return None
        if self._buffer[0] not in "[{<":
            return _built_in_candidate(self._buffer, None if self._in_python_block else self._names)
        return _candidate(self._buffer, lambda name: self._may_start_calls or name in self._names)

    def _decide(self, candidate: _Candidate, text: str) -> Iterator[Parsed]:
        if text in PARSER_TOKENS:
            self._in_python_block = text == START
            self._may_start_calls = self._may_start_calls or self._in_python_block
        elif text == CLOSING_TAG and self._may_start_calls and self.calls:
            return
        elif (calls := candidate.calls(text)) and (
            self._may_start_calls or self._names.issuperset(call.name for call in calls)
        ):
            yield from self._emit_calls(calls)
        else:
            yield from self._emit_text(text)

    def _emit_calls(self, calls: list[Call]) -> Iterator[Parsed]:
        self._pending_space, self._may_start_calls = "", True
        for call in calls:
            number = f"call_{self._first + self.calls}"
            yield ToolCallDelta(index=self.calls, id=number, name=call.name, arguments=call.arguments)
            self.calls += 1

    def _emit_text(self, text: str) -> Iterator[Parsed]:
        """Emit text; space before calls and separators between them wait until other text follows."""
        text = self._pending_space + text.replace(START, "").replace(END, "")
        if self._may_start_calls and not text.strip(self._separators):
            self._pending_space = text
        elif text:
            self._pending_space, self._may_start_calls = "", False
            yield TextDelta(text=text)

    def _take(self, length: int) -> str:
        text, self._buffer = self._buffer[:length], self._buffer[length:]
        return text


@dataclass(slots=True)
class _Candidate:
    """Text at the start of the buffer that may be a call; ``scan`` finds its end, resuming where it stopped."""

    #: The position of the scan, at first that of the opening bracket; without ``quotes``, the candidate's length.
    position: int
    quotes: str = ""
    tag: str | None = None
    stack: str = ""
    quote: str = ""
    escaped: bool = False
    complete: bool = False

    def scan(self, text: str) -> int | None:
        """The candidate's length once its last bracket is closed, or cannot be any more; ``None`` until then."""
        while self.quotes and self.position < len(text):
            char = text[self.position]
            self.position += 1
            if self.quote:
                self._inside_string(char)
            elif char in self.quotes:
                self.quote = char
            elif char in _CLOSERS:
                self.stack += _CLOSERS[char]
            elif char in ")]}":
                matches, self.stack = self.stack[-1] == char, self.stack[:-1]
                self.complete = matches and not self.stack
                if self.complete or not matches:
                    return self.position
            if len(self.stack) > MAX_DEPTH:
                return self.position
        return None if self.quotes else self.position

    def calls(self, text: str) -> list[Call]:
        """Parse the calls of the complete candidate; empty if it is none."""
        if not self.complete:
            return []
        try:
            if self.tag is not None:
                return [tagged_call(self.tag, text[text.index("{") :])]
            if text[0] not in "[{":
                return built_in_call(text)
            return json_calls(text) if self.quotes == '"' else python_calls(text)
        except PARSE_ERRORS:
            return []

    def _inside_string(self, char: str) -> None:
        if self.escaped:
            self.escaped = False
        elif char == "\\":
            self.escaped = True
        elif char == self.quote:
            self.quote = ""


#: Length of an opening character that begins no call and is text by itself.
_PLAIN_CHARACTER: Final = 1


def _candidate(text: str, may_call: Callable[[str], bool]) -> _Candidate | None:
    if text[0] == "<":
        return _tag_candidate(text, may_call)
    start = _LIST.match(text)
    inner = start.end() if start else 0
    if inner == len(text):
        return None
    if text[inner] == "{":
        return _object_candidate(text, inner)
    name = _NAME.match(text, inner)
    if name is None or (name.end() < len(text) and not may_call(name[1])):
        return _Candidate(_PLAIN_CHARACTER)
    if name.end() == len(text):
        return None
    return _Candidate(0, quotes="\"'") if text[name.end()] == "(" else _Candidate(_PLAIN_CHARACTER)


def _built_in_candidate(text: str, names: Collection[str] | None) -> _Candidate | None:
    """A candidate ``name.call(``; ``names`` are the possible names, ``None`` allows any."""
    word = _WORD.match(text)
    assert word is not None  # noqa: S101 - the caller has seen a letter
    name, suffix = word[0], text[word.end() :]
    is_complete = suffix or len(name) == MAX_NAME_LENGTH
    possible = names is None or (name in names if is_complete else any(tool.startswith(name) for tool in names))
    if not possible or not BUILT_IN.startswith(suffix[: len(BUILT_IN)]):
        return _Candidate(_PLAIN_CHARACTER)
    return _Candidate(word.end() + len(BUILT_IN) - 1, quotes="\"'") if suffix.startswith(BUILT_IN) else None


def _object_candidate(text: str, start: int) -> _Candidate | None:
    """A JSON object, which is a candidate only if its first key is one that calls have."""
    key = _KEY.match(text, start)
    assert key is not None  # noqa: S101 - the bracket itself matches
    first_key = key[1] or '"'
    if key.end() == len(text):
        return None if any(f'"{name}'.startswith(first_key) for name in CALL_KEYS) else _Candidate(_PLAIN_CHARACTER)
    is_key = text[key.end()] == '"' and first_key[1:] in CALL_KEYS
    return _Candidate(0, quotes='"') if is_key else _Candidate(_PLAIN_CHARACTER)


def _tag_candidate(text: str, may_call: Callable[[str], bool]) -> _Candidate | None:
    for mark in (START, END, CLOSING_TAG):
        if text.startswith(mark):
            return _Candidate(len(mark))
        if mark.startswith(text):
            return None
    if "<function=".startswith(text):
        return None
    tag = _TAG.match(text)
    if tag is None:
        return _Candidate(_PLAIN_CHARACTER)
    if tag.end() == len(text):
        return None
    is_call = tag[1] and tag[2] and text[tag.end()] == "{" and may_call(tag[1])
    return _Candidate(tag.end(), quotes='"', tag=tag[1]) if is_call else _Candidate(_PLAIN_CHARACTER)
