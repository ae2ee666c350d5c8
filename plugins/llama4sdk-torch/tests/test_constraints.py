"""Answers of a given shape, from networks that know nothing: random weights behind the real vocabularies.

The suite tries 20 schemas; ``STRUCTURED_EXAMPLES=500 pytest -k test_constraints`` tries more.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Annotated, Any, Literal

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from llama4sdk_torch.backend import TorchBackend
from llama4sdk_torch.engine import TorchEngine
from llama4sdk_torch.loading import load_model
from llama4sdk_torch.runner import Networks, TorchRunner, TorchSequence
from llama4sdk_torch.sampling import DeviceMask, Sampler
from pydantic import BaseModel, Field, JsonValue, TypeAdapter, create_model

from llama4sdk.backend import Need, Offer
from llama4sdk.constraints import Constraint, Grammar, JsonSchema, Regex, as_constraint
from llama4sdk.errors import InvalidRequestError, StructuredOutputError
from llama4sdk.local.scheduler import Scheduler
from llama4sdk.local.sequence import Sequence
from llama4sdk.local.structured_output import Constraints
from llama4sdk.messages import Message
from llama4sdk.requests import Request, SamplingParams
from llama4sdk.results import Completion, fold
from llama4sdk.testing.machines import LAPTOP
from llama4sdk.weights.checkpoint import Checkpoint
from llama4sdk.weights.opening import open_checkpoint

from .reference import MAVERICK_LIKE, SCOUT_LIKE, characters_tokenizer

EXAMPLES = int(os.environ.get("STRUCTURED_EXAMPLES", "20"))
GREEDY = {"temperature": 0}
SEEDED = {"temperature": 1.5, "top_p": 1.0, "seed": 3}

Saver = Callable[..., tuple[Path, torch.nn.Module]]


@pytest.fixture(scope="session", params=["llama4", "smollm"])
def engine(request: pytest.FixtureRequest) -> TorchEngine:
    """Each of the two."""
    found: TorchEngine = request.getfixturevalue(request.param)
    return found


def ask(engine: TorchEngine, constraint: Constraint | None, **sampling: object) -> Completion:
    """The answer to a prompt that asks for nothing of the kind."""
    params = SamplingParams.model_validate({"max_tokens": 600} | SEEDED | sampling)
    request = Request(prompt="Once upon a time", constraint=constraint, sampling=params)
    return fold(engine.stream(request), model=engine.model, backend="torch", constraint=constraint)


#: The demo model's vocabulary lacks some bytes, with which rarer characters begin.
TEXT = st.text(st.characters(max_codepoint=0x1FFFF, exclude_categories=["Cs"]), max_size=8)


def bounded(low: int, size: int) -> object:
    return Annotated[int, Field(ge=low, le=low + size)]


def sized(low: int, size: int) -> object:
    return Annotated[str, Field(min_length=low, max_length=low + size)]


LEAVES = st.one_of(
    st.just(bool),
    st.just(type(None)),
    st.builds(bounded, st.integers(-2000, 2000), st.integers(0, 3000)),
    st.builds(sized, st.integers(0, 3), st.integers(0, 6)),
    st.lists(st.one_of(TEXT, st.integers(-9, 9), st.booleans()), min_size=1, max_size=4).map(
        lambda values: Literal[tuple(values)]  # type: ignore[valid-type]  # made while it runs
    ),
    st.integers(0, 50).map(lambda n: Annotated[float, Field(ge=-n, lt=n + 1, multiple_of=0.5)]),
)


def model_of(fields: dict[str, tuple[Any, bool]]) -> type[BaseModel]:
    """A pydantic model; fields are named by their aliases, and each is required or not."""
    made: dict[str, Any] = {
        f"field_{place}": (kind, Field(alias=name)) if needed else (kind | None, Field(alias=name, default=None))
        for place, (name, (kind, needed)) in enumerate(fields.items())
    }
    return create_model("Made", **made)


def deeper(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.builds(lambda kind, most: Annotated[list[kind], Field(max_length=most)], inner, st.integers(0, 3))  # type: ignore[valid-type]
    return lists | st.dictionaries(TEXT, st.tuples(inner, st.booleans()), min_size=1, max_size=4).map(model_of)


TYPES = st.recursive(LEAVES, deeper, max_leaves=6)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=TYPES, greedy=st.booleans())
def test_any_schema_is_kept(engine: TorchEngine, kind: Any, greedy: bool) -> None:
    """Nested objects, lists, enumerations, bounds and any characters: pydantic, too, finds the answer valid."""
    answer = ask(engine, JsonSchema.of(TypeAdapter(kind)), **(GREEDY if greedy else SEEDED))
    assert answer.finish_reason == "stop"
    TypeAdapter(kind).validate_json(answer.text)
    _ = answer.parsed


@pytest.mark.parametrize("sampling", [GREEDY, SEEDED], ids=["greedy", "seeded"])
@pytest.mark.parametrize(
    "pattern",
    [
        r"\d{4}-\d{2}-\d{2}",
        r"(yes|no|maybe)",
        r"[A-Z][a-z]{2,8}( [A-Z][a-z]{2,8}){0,2}\.",
        r"[é🦙日]{3,5}",
        r"<\|eot\|>|<\|header_start\|>",
        r"a{1,5}b?",
        r"(?s).{1,20}",
    ],
)
def test_a_pattern_is_matched_whole(engine: TorchEngine, pattern: str, sampling: dict[str, object]) -> None:
    """Python's own ``re`` agrees; what is spelled like a control token is text, and ends nothing."""
    answer = ask(engine, Regex(pattern=pattern), **sampling)
    assert answer.finish_reason == "stop"
    assert re.fullmatch(pattern, answer.text)


ARITHMETIC = """
start: sum
sum: product (("+" | "-") product){0,3}
product: atom (("*" | "/") atom){0,2}
atom: NUMBER | "(" NUMBER "-" NUMBER ")"
NUMBER: /[1-9][0-9]{0,2}/
"""


@pytest.mark.parametrize("sampling", [GREEDY, SEEDED], ids=["greedy", "seeded"])
def test_a_grammar_is_spoken(engine: TorchEngine, sampling: dict[str, object]) -> None:
    """Every answer of a grammar for arithmetic is an expression that Python can compile."""
    answer = ask(engine, Grammar(lark=ARITHMETIC), **sampling)
    assert answer.finish_reason == "stop"
    assert re.fullmatch(r"[0-9+\-*/()]+", answer.text)
    compile(answer.text, "answer", "eval")


@pytest.mark.parametrize(
    "options",
    [
        {"top_k": 3},
        {"top_p": 0.5},
        {"min_p": 0.3},
        {"repetition_penalty": 1.8},
        {"top_k": 1},
        {"temperature": 0.01},
        {"logprobs": 3},
    ],
    ids=str,
)
def test_every_way_to_draw_keeps_the_shape(smollm: TorchEngine, options: dict[str, object]) -> None:
    """Truncation and penalties apply to the allowed tokens."""
    answer = ask(smollm, Regex(pattern="[a-z]{5} [0-9]{5}"), **options)
    assert re.fullmatch("[a-z]{5} [0-9]{5}", answer.text)


def test_log_probabilities_stay_the_models_own(smollm: TorchEngine) -> None:
    """They are those of the tokens without the constraint, so that one can see how much it was against the grain."""
    free = ask(smollm, None, max_tokens=1, temperature=0, logprobs=2)
    led = ask(smollm, Regex(pattern="[0-9]{1,5}"), temperature=0, logprobs=2)
    assert led.logprobs[0].top == free.logprobs[0].top
    assert led.logprobs[0].logprob < free.logprobs[0].logprob


def test_what_allows_everything_changes_nothing(demo_engine: TorchEngine) -> None:
    """An answer that a constraint allows anyway is the same, token for token, and the same with a seed."""
    messages = (Message(role="user", content="What is the capital of France?"),)
    for sampling in (
        SamplingParams(temperature=0, max_tokens=12),
        SamplingParams(temperature=1.2, seed=5, max_tokens=12),
    ):
        free, led = (
            fold(
                demo_engine.stream(Request(messages=messages, constraint=constraint, sampling=sampling)),
                model="demo",
                backend="torch",
            )
            for constraint in (None, Regex(pattern="(?s).*"))
        )
        assert led == free


def test_the_demo_model_fills_a_schema(demo_engine: TorchEngine) -> None:
    """A real model puts real answers into the shape."""

    class City(BaseModel):
        name: Annotated[str, Field(max_length=20)]
        country: Literal["France", "Peru", "Japan"]

    constraint = JsonSchema.of(City)
    text = 'The capital of France as JSON, with "name" and "country":'
    sampling = SamplingParams(temperature=0, max_tokens=40)
    request = Request(messages=(Message(role="user", content=text),), constraint=constraint, sampling=sampling)
    answer = fold(demo_engine.stream(request), model="demo", backend="torch", constraint=constraint)
    assert answer.parsed == City(name="Paris", country="France")


@pytest.mark.parametrize("pattern", [None, "[a-z]{3,9}( [0-9]{1,4})?"])
def test_looking_ahead_changes_nothing(demo: Checkpoint, save_tiny: Saver, pattern: str | None) -> None:
    """With the next step launched before the last token is read, as on an accelerator, the tokens are the same."""
    tokenizer, cpu = demo.tokenizer(), torch.device("cpu")
    folder, _ = save_tiny(**SCOUT_LIKE, vocab_size=tokenizer.size, eos_token_id=None)
    network = load_model(open_checkpoint(folder), device=cpu, dtype=torch.float32)
    constraints = Constraints(tokenizer, demo.stop_ids, tokenizer.size)
    prompt = tokenizer.encode("Once upon a time")

    def tokens(ahead: bool) -> list[int]:
        constraint = None if pattern is None else Regex(pattern=pattern)
        mask = constraints.token_mask(Request(prompt="x", constraint=constraint))
        options = SamplingParams(temperature=1.0, repetition_penalty=1.2, seed=1)
        defaults, size = demo.generation_defaults, tokenizer.size
        sampler = Sampler(options, defaults, prompt, vocab_size=size, device=cpu, mask=mask)
        runner = TorchRunner(lambda: Networks(network), ahead=ahead)
        scheduler = Scheduler(runner, memory_bytes=2**30)
        sequence: TorchSequence = Sequence(token_ids=list(prompt), max_tokens=12, sampler=sampler, mask=mask)
        return [token.id for token in scheduler.tokens(sequence)]

    assert tokens(True) == tokens(False) != []


def test_the_mask_on_the_device_is_the_guides(demo: Checkpoint) -> None:
    """Bit for bit, before every token of an answer, with more tokens scored than the tokenizer has."""
    tokenizer = demo.tokenizer()
    constraints = Constraints(tokenizer, demo.stop_ids, tokenizer.size + 5)
    request = Request(prompt="x", constraint=as_constraint({"enum": ["a llama", "an alpaca"]}))
    one, other = constraints.token_mask(request), constraints.token_mask(request)
    assert one is not None
    assert other is not None
    mask = DeviceMask(other, torch.device("cpu"))
    while not one.ended:
        allowed = one.allowed()
        assert mask.allowed().tolist() == allowed.tolist()
        token = int(allowed.nonzero()[0][-1])
        one.take(token)
        other.take(token)


def test_an_answer_may_be_cut(smollm: TorchEngine) -> None:
    """``max_tokens`` and stop strings come before the shape; what was cut is no value."""
    schema = as_constraint({"type": "array", "items": {"const": "again"}, "minItems": 50})
    cut = ask(smollm, schema, max_tokens=12)
    assert (cut.finish_reason, cut.usage.output_tokens) == ("length", 12)
    with pytest.raises(StructuredOutputError, match="cut at its limit"):
        _ = cut.parsed
    stopped = ask(smollm, schema, stop="again", temperature=0)
    assert stopped.finish_reason == "stop"
    assert "again" not in stopped.text
    with pytest.raises(StructuredOutputError, match="does not fit"):
        _ = stopped.parsed


def test_nothing_is_read_or_written_past_the_end(smollm: TorchEngine) -> None:
    """Where nothing can follow, no token is spent on saying so, and a limit that was just enough is no cut."""
    answer = ask(smollm, Regex(pattern="7"), max_tokens=1)
    assert (answer.text, answer.finish_reason, answer.usage.output_tokens) == ("7", "stop", 1)


def test_characters_the_vocabulary_lacks_are_an_error(save_tiny: Saver) -> None:
    """A model of 95 characters cannot write an é, and says so rather than something else."""
    folder, _ = save_tiny(**MAVERICK_LIKE)
    (folder / "tokenizer.json").write_text(characters_tokenizer(), encoding="utf-8")
    checkpoint = open_checkpoint(folder)
    network = load_model(checkpoint, device=torch.device("cpu"), dtype=torch.float32)
    tiny = TorchEngine(checkpoint, network, model="tiny", context_length=64)
    assert ask(tiny, Regex(pattern="[ab]{3}"), max_tokens=20).finish_reason == "stop"
    with pytest.raises(InvalidRequestError, match="No token of this model can go on"):
        ask(tiny, Regex(pattern="aé"), max_tokens=20)


def test_a_byte_the_vocabulary_lacks_is_an_error(smollm: TorchEngine) -> None:
    """The demo model's vocabulary has no byte 0xF1; what is spelled with it is not written without it."""
    with pytest.raises(InvalidRequestError, match="No token of this model can go on"):
        ask(smollm, Regex(pattern="a\U00040000"))


def test_two_streams_keep_their_own_shapes(smollm: TorchEngine) -> None:
    """Streams at the same time, each with a constraint of its own, do not disturb each other."""
    patterns = ["[a-c]{40}", "[0-9]{40}", "(xy|z){20}", r"\{[A-F]{30}\}"]
    alone = [ask(smollm, Regex(pattern=pattern)).text for pattern in patterns]
    together: dict[int, str] = {}

    def run(place: int) -> None:
        together[place] = ask(smollm, Regex(pattern=patterns[place])).text

    threads = [Thread(target=run, args=(place,)) for place in range(len(patterns))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[place] for place in range(len(patterns))] == alone


def test_what_the_model_can_do_is_declared(demo: Checkpoint) -> None:
    """The demo model keeps to shapes; it cannot call tools, so it takes no choice of them."""
    offer = TorchBackend().offer(Need(model=str(demo.path)), LAPTOP)
    assert isinstance(offer, Offer)
    assert offer.capabilities is not None
    assert {"json_schema", "regex", "grammar"} <= offer.capabilities.features
    assert not {"tools", "tool_choice"} & offer.capabilities.features


def test_plain_json_is_read_as_plain_json(smollm: TorchEngine) -> None:
    """A JSON schema that is a dict gives what ``json`` reads."""
    schema: dict[str, JsonValue] = {"enum": [{"a": [1, None]}, "é"]}
    answer = ask(smollm, JsonSchema(definition=schema))
    assert answer.parsed == json.loads(answer.text)
    assert answer.parsed in ({"a": [1, None]}, "é")
