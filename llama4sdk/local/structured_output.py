"""Answers of a given shape: before each draw, llguidance says which tokens the shape allows next."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from llama4sdk.constraints import JsonSchema, Regex
from llama4sdk.errors import BackendError, InvalidRequestError
from llama4sdk.llama4.tokenizer import Tokenizer
from llama4sdk.requests import Request, Tool

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

__all__ = ["Constraints", "TokenMask"]

DEAD_END: Final = "NoExtensionBias"
"""How llguidance says that the grammar goes on, and no token does."""

NOT_ALLOWED: Final = "doesn't satisfy the grammar"
"""How it says that a token is none of those it would have named."""

REFUSALS: Final = {
    "json_schema": ("The schema", "Leave that out of the schema, and check the answer for it."),
    "regex": ("The regular expression", "It cannot look around or refer back."),
    "grammar": ("The grammar", "Rules have small letters, terminals capital ones, and the first rule is 'start'."),
    "tool_choice": ("The call of a tool", "Leave that out of the tool's parameters, or let tool_choice be 'auto'."),
}
"""What was asked for, and what to do when it cannot be had."""

BLANK: Final = r" |\n[ \t]{0,20}"
"""Between the parts of JSON: one space, or a line break and an indent. Free to, a lost model writes blanks for ever."""


class Constraints:
    """Makes token masks for one vocabulary. llguidance is imported, and the vocabulary handed to it, with the first."""

    def __init__(self, tokenizer: Tokenizer, stop_ids: Iterable[int], width: int) -> None:
        """``width`` is the network's vocabulary, which may be larger than the tokenizer's."""
        self._tokenizer = tokenizer
        self._stop_ids = sorted(token for token in stop_ids if token < width)
        self._width = width
        self._lock = threading.Lock()
        self._vocabulary: LLTokenizer | None = None

    def token_mask(self, request: Request) -> TokenMask | None:
        """The mask of one answer; ``None`` where the request leaves it free.

        Raises InvalidRequestError for what llguidance cannot read, or could not enforce to the letter.
        """
        if request.constraint is None and not request.forced_calls:
            return None
        from llguidance import LLMatcher

        matcher = LLMatcher(self._for_llguidance(), _grammar(request), log_level=0)
        if matcher.is_error():
            what, hint = REFUSALS[request.constraint.kind if request.constraint else "tool_choice"]
            raise InvalidRequestError(f"{what} cannot be enforced: {_reason(matcher.get_error())}.", hint=hint)
        return TokenMask(matcher, self._size, self._width)

    @property
    def _size(self) -> int:
        """A model without a stopping token gets one that it cannot draw: llguidance wants one."""
        return self._width if self._stop_ids else self._width + 1

    def _for_llguidance(self) -> LLTokenizer:
        with self._lock:
            if self._vocabulary is None:
                from llguidance import LLTokenizer, TokenizerWrapper

                words = TokenizerWrapper(_Words(self._tokenizer, self._stop_ids or [self._width], self._size))
                self._vocabulary = LLTokenizer(words, n_vocab=self._size, eos_token=self._stop_ids or [self._width])
        return self._vocabulary


class TokenMask:
    """Where one answer is in its grammar. ``ended``: nothing may follow what was taken."""

    def __init__(self, matcher: LLMatcher, size: int, width: int) -> None:
        """``size``: tokens that the matcher knows; ``width``: tokens that the network scores."""
        self.ended = False
        self.width = width
        self.words = -(-size // 32)
        """Of 32 bits, that ``fill`` writes."""
        self._matcher = matcher

    def fill(self, address: int) -> None:
        """Write a bit for each token that may come next to memory of ``words`` 32-bit words, lowest bits first.

        Stopping tokens may come only where the answer is whole. Raises InvalidRequestError when the grammar takes too
        much work, or no token of this vocabulary can go on.
        """
        self._matcher.unsafe_compute_mask_ptr(address, 4 * self.words)
        self._check()

    def allowed(self) -> npt.NDArray[np.bool_]:
        """The same as one truth value for each token that the network scores, [width]."""
        bits = np.zeros(self.words, dtype=np.uint32)
        self.fill(bits.ctypes.data)
        octets = bits.astype("<u4", copy=False).view(np.uint8)
        return np.unpackbits(octets, count=self.width, bitorder="little").view(np.bool_)

    def take(self, token: int) -> None:
        """Go on with this token. Raises BackendError for one that was not allowed."""
        if not self._matcher.consume_token(token):
            if not self._matcher.is_error() or NOT_ALLOWED in self._matcher.get_error():
                raise BackendError(f"Token {token} was drawn and is not allowed here.")
            self._check()
        self.ended = self._matcher.is_stopped()

    def _check(self) -> None:
        if self._matcher.is_error():
            if self._matcher.get_error().startswith(DEAD_END):
                raise InvalidRequestError(
                    "No token of this model can go on with what the answer must look like.",
                    hint="Keep to characters that the model's vocabulary has.",
                )
            raise InvalidRequestError(
                f"What the answer must look like cannot be followed: {_reason(self._matcher.get_error())}.",
                hint="Make the schema or grammar smaller.",
            )


class _Words:
    """A vocabulary as llguidance reads it. Control tokens are apart: no text in a grammar stands for one."""

    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer, stop_ids: list[int], size: int) -> None:
        names = {token: name.encode() for name, token in tokenizer.control.items() if token < size}
        names |= {token: b"<|end|>" for token in stop_ids if token not in names}
        self.eos_token_id = stop_ids[0]
        self.special_token_ids = sorted(names)
        self.tokens = [names.get(token) or tokenizer.token_bytes(token) for token in range(size)]
        self._tokenizer = tokenizer
        self._prefix = len(tokenizer.encode(""))

    def __call__(self, text: str) -> list[int]:
        """How the model itself would spell what is certain to come, up to the first byte that it cannot write.

        Vocabularies may lack bytes, and byte-pair encoding leaves those out without a word.
        """
        ids, rest = self._tokenizer.encode(text)[self._prefix :], text.encode()
        for place, token in enumerate(ids):
            if not rest.startswith(self.tokens[token]):
                return ids[:place]
            rest = rest[len(self.tokens[token]) :]
        return ids


def _grammar(request: Request) -> str:
    """What llguidance compiles. Keywords of a schema that it does not know are errors to it, never ignored."""
    from llguidance import LLMatcher

    asked = request.constraint
    if asked is None:
        return LLMatcher.grammar_from_lark(_call_grammar(request.forced_calls))
    if isinstance(asked, JsonSchema):
        text = json.dumps(asked.definition)
        return LLMatcher.grammar_from_json_schema(text, {"whitespace_pattern": BLANK}, {"lenient": False})
    if isinstance(asked, Regex):
        return LLMatcher.grammar_from_regex(asked.pattern)
    return LLMatcher.grammar_from_lark(asked.lark)


def _call_grammar(tools: Iterable[Tool]) -> str:
    """One call of one of the tools, in the JSON form that Llama 4 knows and our parser reads."""
    rules, calls = [], []
    for number, tool in enumerate(tools):
        opening = f'{{"name": {json.dumps(tool.name, ensure_ascii=False)}, "parameters": '
        schema = {"type": "object"} | tool.parameters
        schema["x-guidance"] = {"whitespace_pattern": BLANK, "lenient": False}
        calls.append(f"call_{number}")
        rules.append(f'call_{number}: {json.dumps(opening, ensure_ascii=False)} arguments_{number} "}}"')
        rules.append(f"arguments_{number}: %json {json.dumps(schema)}")
    return "\n".join([f"start: {' | '.join(calls)}", *rules])


def _reason(message: str) -> str:
    """The one line of a message that says what is wrong."""
    lines = message.strip().splitlines() or ["it is not known why"]
    found = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (found or lines)[0].rstrip(".")
