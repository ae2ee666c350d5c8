"""Answers of a given shape: before each draw, llguidance computes the tokens that the shape allows next."""

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

#: llguidance's message when the grammar goes on, and no token of the vocabulary fits it.
DEAD_END_MESSAGE: Final = "NoExtensionBias"

#: Its message when a token was consumed that its mask did not allow.
NOT_ALLOWED_MESSAGE: Final = "doesn't satisfy the grammar"

#: By kind of constraint: its name in errors, and what to do when it cannot be enforced.
REFUSALS: Final = {
    "json_schema": ("The schema", "Leave that out of the schema, and check the answer for it."),
    "regex": ("The regular expression", "It cannot look around or refer back."),
    "grammar": ("The grammar", "Rules have small letters, terminals capital ones, and the first rule is 'start'."),
    "tool_choice": ("The call of a tool", "Leave that out of the tool's parameters, or let tool_choice be 'auto'."),
}

#: Whitespace between the parts of JSON: one space, or a line break and an indent. Without a limit a model may write
#: blanks for ever.
WHITESPACE_PATTERN: Final = r" |\n[ \t]{0,20}"


class Constraints:
    """Makes token masks for one vocabulary, which llguidance is given with the first of them."""

    def __init__(self, tokenizer: Tokenizer, stop_ids: Iterable[int], width: int) -> None:
        """``width`` is the size of the network's vocabulary, which may be larger than the tokenizer's."""
        self._tokenizer = tokenizer
        self._stop_ids = sorted(token for token in stop_ids if token < width)
        self._width = width
        self._lock = threading.Lock()
        self._vocabulary: LLTokenizer | None = None

    def token_mask(self, request: Request) -> TokenMask | None:
        """The token mask of one answer; ``None`` where the request leaves its shape free.

        Raises InvalidRequestError for constraints that llguidance cannot read, or not enforce in full.
        """
        if request.constraint is None and not request.forced_calls:
            return None
        from llguidance import LLMatcher

        matcher = LLMatcher(self._llguidance_vocabulary(), _grammar(request), log_level=0)
        if matcher.is_error():
            subject, hint = REFUSALS[request.constraint.kind if request.constraint else "tool_choice"]
            raise InvalidRequestError(f"{subject} cannot be enforced: {_reason(matcher.get_error())}.", hint=hint)
        return TokenMask(matcher, self._size, self._width)

    @property
    def _size(self) -> int:
        """The vocabulary with a stopping token: llguidance needs one, and a model without gets one it cannot draw."""
        return self._width if self._stop_ids else self._width + 1

    def _llguidance_vocabulary(self) -> LLTokenizer:
        with self._lock:
            if self._vocabulary is None:
                from llguidance import LLTokenizer, TokenizerWrapper

                words = TokenizerWrapper(_Vocabulary(self._tokenizer, self._stop_ids or [self._width], self._size))
                self._vocabulary = LLTokenizer(words, n_vocab=self._size, eos_token=self._stop_ids or [self._width])
        return self._vocabulary


class TokenMask:
    """The tokens that may come next in one answer. ``ended``: none may follow those taken."""

    def __init__(self, matcher: LLMatcher, size: int, width: int) -> None:
        """``size``: tokens in the matcher's vocabulary; ``width``: tokens that the network scores."""
        self.ended = False
        self.width = width
        self.words = -(-size // 32)  # of 32 bits, that ``fill`` writes
        self._matcher = matcher

    def fill(self, address: int) -> None:
        """Write a bit for each token that may come next to memory of ``words`` 32-bit words, lowest bits first.

        Stopping tokens may come only where the answer is whole. Raises InvalidRequestError when the grammar takes too
        much work, or no token of this vocabulary can go on.
        """
        self._matcher.unsafe_compute_mask_ptr(address, 4 * self.words)
        self._check()

    def allowed(self) -> npt.NDArray[np.bool_]:
        """The allowed tokens as a truth value for each that the network scores, [width]."""
        bits = np.zeros(self.words, dtype=np.uint32)
        self.fill(bits.ctypes.data)
        octets = bits.astype("<u4", copy=False).view(np.uint8)
        return np.unpackbits(octets, count=self.width, bitorder="little").view(np.bool_)

    def take(self, token: int) -> None:
        """Append this token to the answer. Raises BackendError for one that was not allowed."""
        if not self._matcher.consume_token(token):
            if not self._matcher.is_error() or NOT_ALLOWED_MESSAGE in self._matcher.get_error():
                raise BackendError(f"Token {token} was drawn and is not allowed here.")
            self._check()
        self.ended = self._matcher.is_stopped()

    def _check(self) -> None:
        if self._matcher.is_error():
            if self._matcher.get_error().startswith(DEAD_END_MESSAGE):
                raise InvalidRequestError(
                    "No token of this model can go on with what the answer must look like.",
                    hint="Keep to characters that the model's vocabulary has.",
                )
            raise InvalidRequestError(
                f"What the answer must look like cannot be followed: {_reason(self._matcher.get_error())}.",
                hint="Make the schema or grammar smaller.",
            )


class _Vocabulary:
    """A vocabulary in llguidance's interface. Control tokens are special: no text in a grammar matches one."""

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
        """The tokens of text that must come next, up to the first byte that the vocabulary lacks.

        Byte-pair encoding drops such bytes silently.
        """
        ids, rest = self._tokenizer.encode(text)[self._prefix :], text.encode()
        for index, token in enumerate(ids):
            if not rest.startswith(self.tokens[token]):
                return ids[:index]
            rest = rest[len(self.tokens[token]) :]
        return ids


def _grammar(request: Request) -> str:
    """The grammar of a request, for llguidance. Keywords of a schema that it does not know are errors."""
    from llguidance import LLMatcher

    constraint = request.constraint
    if constraint is None:
        return LLMatcher.grammar_from_lark(_call_grammar(request.forced_calls))
    if isinstance(constraint, JsonSchema):
        text = json.dumps(constraint.definition)
        return LLMatcher.grammar_from_json_schema(text, {"whitespace_pattern": WHITESPACE_PATTERN}, {"lenient": False})
    if isinstance(constraint, Regex):
        return LLMatcher.grammar_from_regex(constraint.pattern)
    return LLMatcher.grammar_from_lark(constraint.lark)


def _call_grammar(tools: Iterable[Tool]) -> str:
    """A grammar of one call of one of the tools, in the JSON form that Llama 4 and our parser use."""
    rules, calls = [], []
    for number, tool in enumerate(tools):
        opening = f'{{"name": {json.dumps(tool.name, ensure_ascii=False)}, "parameters": '
        schema = {"type": "object"} | tool.parameters
        schema["x-guidance"] = {"whitespace_pattern": WHITESPACE_PATTERN, "lenient": False}
        calls.append(f"call_{number}")
        rules.append(f'call_{number}: {json.dumps(opening, ensure_ascii=False)} arguments_{number} "}}"')
        rules.append(f"arguments_{number}: %json {json.dumps(schema)}")
    return "\n".join([f"start: {' | '.join(calls)}", *rules])


def _reason(message: str) -> str:
    """The line of an llguidance message that states the error."""
    lines = message.strip().splitlines() or ["it is not known why"]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (errors or lines)[0].rstrip(".")
