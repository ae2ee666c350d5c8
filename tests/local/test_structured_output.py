"""Which tokens an answer of a given shape allows, token by token, over a vocabulary of bytes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from llama4sdk.constraints import Constraint, Grammar, JsonSchema, Regex
from llama4sdk.errors import BackendError, InvalidRequestError
from llama4sdk.local.structured_output import Constraints, TokenMask
from llama4sdk.messages import Message
from llama4sdk.requests import Request, Tool

from .bigrams import CONTROL, PADDING, byte_tokenizer

TOKENIZER = byte_tokenizer()
WIDTH = 256 + len(CONTROL) + PADDING
STOP = CONTROL["<|eot|>"]
CONSTRAINTS = Constraints(TOKENIZER, TOKENIZER.turn_ends, WIDTH)


def guide(constraint: Constraint, constraints: Constraints = CONSTRAINTS) -> TokenMask:
    """The token mask of an answer with this constraint."""
    found = constraints.token_mask(Request(prompt="x", constraint=constraint))
    assert found is not None
    return found


def texts(allowed: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> set[str]:
    """The text of the allowed tokens."""
    return {TOKENIZER.decode([int(token)]) for token in allowed.nonzero()[0] if token < 256}


def test_exactly_the_tokens_that_go_on_are_allowed() -> None:
    """Those of the pattern and no other; stopping tokens once the answer is whole; no padding and no other control."""
    led = guide(Regex(pattern="ab|a[0-9]{2,3}"))
    for taken, expected, stops in (("", "a", False), ("a", "b0123456789", False), ("0", "0123456789", False)):
        for token in TOKENIZER.encode(taken):
            led.take(token)
        allowed = led.allowed()
        assert allowed.shape == (WIDTH,)
        assert allowed.dtype == np.bool_
        assert texts(allowed) == set(expected)
        assert allowed[STOP] == stops
    led.take(TOKENIZER.encode("1")[0])
    allowed = led.allowed()
    assert texts(allowed) == set("0123456789")
    assert set(allowed.nonzero()[0]) - set(range(256)) == set(TOKENIZER.turn_ends)
    led.take(STOP)
    assert led.ended


@pytest.mark.parametrize("width", [256 + len(CONTROL), WIDTH, 300, 2048])
def test_the_mask_is_as_wide_as_the_network(width: int) -> None:
    """Whatever its vocabulary is padded to; what is padding is never allowed, whatever else is."""
    allowed = guide(Regex(pattern="(?s).*"), Constraints(TOKENIZER, TOKENIZER.turn_ends, width)).allowed()
    assert allowed.shape == (width,)
    assert allowed[:128].any()
    assert not allowed[256 + len(CONTROL) :].any()


def test_words_are_what_the_mask_is_made_of() -> None:
    """``fill`` writes to memory of the caller's, lowest bits first, and no more than ``words``."""
    led = guide(Regex(pattern="[a-m]"))
    words = np.full(led.words + 1, 0xDEADBEEF, np.uint32)
    led.fill(words.ctypes.data)
    bits = [bool(words[token // 32] >> np.uint32(token % 32) & 1) for token in range(WIDTH)]
    assert bits == led.allowed().tolist()
    assert words[-1] == 0xDEADBEEF
    assert len(words) - 1 == -(-WIDTH // 32)


def test_masks_are_the_callers_own() -> None:
    """A mask stays what it was when the next is made."""
    led = guide(Regex(pattern="xy"))
    first = led.allowed()
    kept = first.copy()
    led.take(TOKENIZER.encode("x")[0])
    assert texts(led.allowed()) == {"y"}
    assert (first == kept).all()


def test_what_can_only_end_has_ended() -> None:
    """Once nothing may follow, without a stopping token; and for a model that has none."""
    for constraints in (CONSTRAINTS, Constraints(TOKENIZER, (), WIDTH)):
        led = guide(Regex(pattern="7"), constraints)
        assert not led.ended
        led.take(TOKENIZER.encode("7")[0])
        assert led.ended


def test_a_token_that_was_not_allowed_is_a_fault_of_the_engine() -> None:
    """Rather than an answer out of shape."""
    with pytest.raises(BackendError, match="is not allowed here"):
        guide(Regex(pattern="a")).take(TOKENIZER.encode("b")[0])


def test_a_free_answer_has_no_guide() -> None:
    """Without a shape, and with tools that need not be called; a call that must be made is led to its end."""
    messages, tool = (Message(role="user", content="Hi"),), Tool(name="now")
    assert CONSTRAINTS.token_mask(Request(prompt="x")) is None
    assert CONSTRAINTS.token_mask(Request(messages=messages, tools=(tool,))) is None
    forced = CONSTRAINTS.token_mask(Request(messages=messages, tools=(tool,), tool_choice="required"))
    assert forced is not None
    for token in TOKENIZER.encode('{"name": "now", "parameters": {}}'):
        assert forced.allowed()[token]
        forced.take(token)
    assert forced.ended


def test_a_schema_leads_to_what_fits_it() -> None:
    """Always taking the first or the last token that is allowed ends in JSON of the schema."""
    schema = JsonSchema(definition={"type": "object", "properties": {"n": {"enum": [1, "two"]}}, "required": ["n"],
                                    "additionalProperties": False})  # fmt: skip
    for place in (0, -1):
        led, taken = guide(schema), list[int]()
        while not led.ended and len(taken) < 200:
            taken.append(int(led.allowed().nonzero()[0][place]))
            led.take(taken[-1])
        assert json.loads(TOKENIZER.decode(taken))["n"] in (1, "two")


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        (JsonSchema(definition={"not": {"type": "string"}}), r'The schema cannot be enforced: .*"not"'),
        (JsonSchema(definition={"not": {}, "x-guidance": {"lenient": True}}), '"not"'),
        (JsonSchema(definition={"type": "array", "uniqueItems": True}), '"uniqueItems"'),
        (JsonSchema(definition={"type": "text"}), "Invalid type: text"),
        (JsonSchema(definition={"type": "integer", "minimum": 5, "maximum": 3}), "Unsatisfiable"),
        (JsonSchema(definition={"$ref": "https://example.com/schema"}), "not present in a registry"),
        (Regex(pattern="("), "The regular expression cannot be enforced: unclosed group"),
        (Regex(pattern="(?=a)b"), "look-around"),
        (Grammar(lark="start: other"), "The grammar cannot be enforced: .*unknown name"),
        (Grammar(lark="{}"), "The grammar cannot be enforced"),
    ],
)
def test_what_cannot_be_enforced_is_refused(constraint: Constraint, message: str) -> None:
    """With the keyword or the place; nothing is ignored because it is not known."""
    with pytest.raises(InvalidRequestError, match=message) as caught:
        CONSTRAINTS.token_mask(Request(prompt="Hi", constraint=constraint))
    assert caught.value.hint
    assert "\n" not in caught.value.message


def test_a_byte_the_vocabulary_lacks_is_an_error() -> None:
    """Where nothing of the vocabulary can go on, that is said, rather than something else be written."""
    spelled = {char: n for n, char in enumerate("abc")}
    small = type(TOKENIZER).from_vocabulary(spelled, [], {"<|eot|>": 3}, splitter="gpt2")
    led = guide(Regex(pattern="aé"), Constraints(small, {3}, 8))
    led.take(0)
    with pytest.raises(InvalidRequestError, match="No token of this model can go on") as caught:
        led.allowed()
    assert caught.value.hint
