"""Requests answered by an export, held to the native engine token by token."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llama4sdk import Client
from llama4sdk.errors import ContextLengthError, StreamClosedError, UnsupportedFeatureError
from llama4sdk.events import TextDelta
from llama4sdk.messages import ImagePart, Message, TextPart
from llama4sdk.requests import Tool

from .exported import assert_near, export, native, reference, save_seeing

PROMPTS = (
    "What is the capital of France?",
    "Write a short story about a llama.",
    "Explain how a rainbow forms.",
    "Give me a recipe for pancakes.",
    "What is 17 times 23?",
    "Who wrote Hamlet, and when?",
    "List five large rivers.",
    "Translate 'good morning' into French.",
    "Why is the sky blue?",
    "What does a compiler do?",
    "Describe the taste of a lemon.",
    "How do bees make honey?",
    "Name three uses of copper.",
    "Write a haiku about rain.",
    "What should I pack for a hike?",
    "How does a bicycle stay upright?",
    "Summarise the plot of Cinderella.",
    "What is photosynthesis?",
    "Give me a python function that reverses a list.",
    "Tell me a joke about cats.",
)
#: Set to run every prompt, to 64 tokens; two prompts and 16 tokens otherwise.
ALL = "LLAMA4SDK_TEST_ALL"

QUESTION = PROMPTS[0]

MEASURED = """
import sys
from llama4sdk import Client
with Client(sys.argv[1], backend="onnx", device="cpu", context_length=512) as client:
    client.generate(" x" * 496, temperature=0, max_tokens=8, logprobs=5)
    client.score(" x" * 496, top=1)
    print(client.memory().predicted["cpu"], client.memory().measured["cpu"])
"""


@pytest.fixture(scope="module", params=["scout", "maverick"])
def seeing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A random network that sees, of either kind, as a checkpoint, and as an export in fp32."""
    folder = tmp_path_factory.mktemp("seeing")
    ours = reference()
    like = ours.SCOUT_LIKE if request.param == "scout" else ours.MAVERICK_LIKE
    checkpoint = save_seeing(folder / "checkpoint", **like)
    return checkpoint, export(checkpoint, folder / "export")


@pytest.fixture(scope="module")
def busy(pair: tuple[Path, Path]) -> Iterator[Client]:
    """An export with memory for one context of 128 tokens."""
    with onnx(pair[1], context_length=128, batch=1) as client:
        yield client


def onnx(folder: Path, **options: object) -> Client:
    """A client of an export."""
    return Client(folder, backend="onnx", **options)


def test_greedy_answers_are_the_native_engines(demo_file: Path, demo_fp32: Path) -> None:
    """In fp32 the demo model draws the same tokens for every prompt."""
    count, length = (len(PROMPTS), 64) if os.environ.get(ALL) else (2, 16)
    with native(demo_file, context_length=512) as theirs, onnx(demo_fp32, context_length=512) as ours:
        for prompt in PROMPTS[:count]:
            expected = theirs.chat(prompt, temperature=0, max_tokens=length)
            assert ours.chat(prompt, temperature=0, max_tokens=length).text == expected.text
            assert expected.usage.output_tokens > 5


@pytest.mark.parametrize("quantization", ["fp32", "portable"])
def test_chunk_borders_are_crossed_as_the_native_engine_does(
    pair: tuple[Path, Path], tmp_path: Path, quantization: str
) -> None:
    """Random networks with chunks of 8 tokens draw the same 60 tokens, from prompts that end all around a border."""
    checkpoint, folder = pair
    if quantization == "portable":
        folder = export(checkpoint, tmp_path / "portable", portable=True)
    with native(checkpoint, context_length=128) as theirs, onnx(folder, context_length=128) as ours:
        for length in (1, 7, 8, 9, 16, 30):
            prompt = "The quick brown fox jumps over the lazy dog"[:length]
            options = {"temperature": 0, "max_tokens": 60, "logprobs": 0}
            expected, found = (client.generate(prompt, **options) for client in (theirs, ours))
            assert found.text == expected.text
            scores = [[entry.logprob for entry in answer.logprobs] for answer in (expected, found)]
            assert_near(scores[1], scores[0])


def test_requests_at_once_answer_as_alone(pair: tuple[Path, Path]) -> None:
    """Twelve prompts in four threads, whose steps go through the network together, draw what each alone does."""
    _, folder = pair
    prompts = [f"{'abcdefghij'[: 1 + number % 7]} {number}" for number in range(12)]
    with onnx(folder, context_length=128, batch=4) as client:

        def answer(prompt: str) -> str:
            return client.generate(prompt, temperature=0, max_tokens=40).text

        alone = [answer(prompt) for prompt in prompts]
        with ThreadPoolExecutor(4) as threads:
            assert list(threads.map(answer, prompts)) == alone
    assert len(set(alone)) > 6


def test_a_stream_that_nobody_reads_does_not_hold_others_up(pair: tuple[Path, Path]) -> None:
    """With memory for one context, an open stream gives way, and goes on when it is read."""
    _, folder = pair
    with onnx(folder, context_length=128, batch=1) as client:
        unread = client.generate("ab", stream=True, temperature=0, max_tokens=120)
        next(unread)
        second = client.generate("ab", temperature=0, max_tokens=120).text
        assert unread.completion().text == second


schedules = st.lists(
    st.tuples(
        st.integers(1, 20),  # characters of the prompt
        st.integers(1, 40),  # tokens of the answer
        st.integers(1, 50),  # tokens after which it is closed
        st.integers(1, 4),  # tokens that are read in each round
    ),
    min_size=1,
    max_size=5,
)


@given(schedule=schedules)
@settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_schedule_gives_what_each_request_gives_alone(
    busy: Client, schedule: list[tuple[int, int, int, int]]
) -> None:
    """Greedy answers of any length, read at any pace and closed at any moment."""
    options: list[dict[str, object]] = [
        {"temperature": 0, "max_tokens": count, "logprobs": 0, "stream": True} for _, count, _, _ in schedule
    ]
    prompts = ["The quick brown fox jumps over"[:length] for length, _, _, _ in schedule]
    expected = [_tokens(busy.generate(prompt, **more)) for prompt, more in zip(prompts, options, strict=True)]
    streams = {n: busy.generate(prompt, **options[n]) for n, prompt in enumerate(prompts)}
    answers: dict[int, list[str]] = {number: [] for number in streams}
    while streams:
        for number, stream in tuple(streams.items()):
            _, _, limit, pace = schedule[number]
            answers[number] += _tokens(itertools.islice(stream, pace))
            if len(answers[number]) >= min(limit, len(expected[number])):
                stream.close()
                del streams[number]
    for number, answer in answers.items():
        assert answer == expected[number][: len(answer)]


def _tokens(events: Iterable[object]) -> list[str]:
    return [entry.token for event in events for entry in getattr(event, "logprobs", ())]


@pytest.mark.parametrize("stop", ["France is", "e is Par", "ital"])
def test_stop_strings_end_it_wherever_tokens_are_cut(demo: Client, stop: str) -> None:
    """The answer ends before the stop string, inside a token or across several."""
    answer = demo.chat(QUESTION, temperature=0, stop=stop)
    assert answer.text == "The capital of France is Paris.".partition(stop)[0]
    assert answer.finish_reason == "stop"


def test_sampling_is_repeatable(demo: Client) -> None:
    """The same seed gives the same answer, another one another."""
    first, again, other = (
        demo.chat("Write a poem.", temperature=1.5, top_p=0.95, seed=seed, max_tokens=12).text for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_logprobs_describe_the_answer(demo: Client) -> None:
    """Every token has its log-probability; greedy tokens head their alternatives; the texts join to the answer."""
    answer = demo.chat(QUESTION, temperature=0, max_tokens=24, logprobs=3)
    assert "".join(entry.token for entry in answer.logprobs) == answer.text
    for entry in answer.logprobs:
        assert [entry.token, entry.logprob] == [entry.top[0].token, pytest.approx(entry.top[0].logprob)]
        assert len(entry.top) == 3
        assert entry.logprob <= 0


def test_answers_have_the_shape_that_was_asked_for(demo: Client) -> None:
    """A JSON schema and a regular expression are kept to the letter, whatever the model would rather say."""
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 12}, "people": {"type": "integer"}},
        "required": ["city", "people"],
        "additionalProperties": False,
    }
    answer = demo.chat("Tell me of Paris.", schema=schema, temperature=0, max_tokens=80)
    assert set(answer.parsed) == {"city", "people"}
    number = demo.chat("How many legs has a dog?", regex=r"[0-9]{1,3} legs", temperature=0)
    assert number.text.partition(" ")[0].isdigit()
    assert number.text.endswith(" legs")


def test_a_forced_call_of_a_tool_is_one(pair_with_tools: tuple[Path, Path]) -> None:
    """Llama 4's vocabulary and prompts: random weights call a tool when they must, as the native engine's do."""
    checkpoint, folder = pair_with_tools
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 9}}, "required": ["n"]}
    tool = Tool(name="count", description="Counts.", parameters=schema)
    options = {"tools": [tool], "tool_choice": "required", "temperature": 0, "max_tokens": 80}
    with native(checkpoint, context_length=2048) as theirs, onnx(folder, context_length=2048) as ours:
        expected, found = (client.chat("Count.", **options) for client in (theirs, ours))
        assert [call.parsed() for call in found.tool_calls] == [call.parsed() for call in expected.tool_calls]
        assert found.finish_reason == expected.finish_reason == "tool_calls"


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_embeddings_are_the_native_engines(pair: tuple[Path, Path], pooling: str) -> None:
    """Pooled states of texts of several lengths, across chunk borders."""
    checkpoint, folder = pair
    texts = ["a", "hello there", "The quick brown fox jumps over the lazy dog"]
    with native(checkpoint, context_length=128) as theirs, onnx(folder, context_length=128) as ours:
        for normalize in (True, False):
            expected, found = (
                client.embed(texts, pooling=pooling, normalize=normalize).vectors for client in (theirs, ours)
            )
            assert_near(found, expected)


def test_scores_are_the_native_engines(pair: tuple[Path, Path]) -> None:
    """Log-probabilities of a text in windows that overlap, with alternatives."""
    checkpoint, folder = pair
    text = "The quick brown fox jumps over the lazy dog " * 3
    with native(checkpoint, context_length=64) as theirs, onnx(folder, context_length=64) as ours:
        expected, found = (client.score(text, top=2, window=40, stride=11) for client in (theirs, ours))
    assert found.tokens == expected.tokens
    pairs = list(zip(found.logprobs, expected.logprobs, strict=True))
    assert pairs[0] == (None, None)
    for one, other in pairs[1:]:
        assert one is not None
        assert other is not None
        assert_near(one.logprob, other.logprob)
        assert [entry.token for entry in one.top] == [entry.token for entry in other.top]


def test_images_are_seen_as_the_native_engine_sees_them(seeing: tuple[Path, Path]) -> None:
    """Two images of several tiles in one conversation lead to the same tokens, which other images do not."""
    checkpoint, folder = seeing

    def ask(client: Client, seed: int) -> tuple[str, list[float]]:
        content = (TextPart(text="look "), _image(seed, 36, 24), TextPart(text=" and "), _image(seed + 1, 12, 12))
        answer = client.chat([Message(role="user", content=content)], temperature=0, max_tokens=24, logprobs=0)
        return answer.text, [entry.logprob for entry in answer.logprobs]

    with native(checkpoint, context_length=256) as theirs, onnx(folder, context_length=256) as ours:
        (text, scores), (expected, exact) = ask(ours, 1), ask(theirs, 1)
        assert text == expected
        assert_near(scores, exact)
        _, others = ask(ours, 5)
        assert not np.allclose(others, exact, atol=1e-2)


def _image(seed: int, width: int, height: int) -> ImagePart:
    return ImagePart.from_array(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_what_the_export_cannot_do_is_refused(pair: tuple[Path, Path]) -> None:
    """Without a chat template there is no chat, and too long a prompt is refused before any work."""
    _, folder = pair
    with onnx(folder, context_length=64) as client:
        with pytest.raises(UnsupportedFeatureError):
            client.chat("hello")
        with pytest.raises(ContextLengthError):
            client.generate("a" * 60, max_tokens=10)
        with pytest.raises(ContextLengthError):
            client.embed(["a" * 65])
        assert client.generate("a" * 60, max_tokens=4).usage.output_tokens == 4


def test_closing_ends_open_streams(pair: tuple[Path, Path]) -> None:
    """A stream in another thread ends with StreamClosedError when its client is closed."""
    _, folder = pair
    client = onnx(folder, context_length=256)
    begun, ended = threading.Event(), []

    def read() -> None:
        try:
            for _ in client.generate("ab", stream=True, temperature=1.0, max_tokens=250):
                begun.set()
        except StreamClosedError as error:
            ended.append(error)
        else:
            ended.append(None)

    reader = threading.Thread(target=read)
    reader.start()
    assert begun.wait(20)
    client.close()
    reader.join(20)
    assert len(ended) == 1  # the last token may have been drawn before


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what memory is a process's own")
def test_memory_is_what_was_planned(demo_int8: Path) -> None:
    """A process of its own loads, answers and scores a full context within a tenth of what its plan says."""
    command = [sys.executable, "-c", MEASURED, str(demo_int8)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    predicted, measured = map(int, done.stdout.split())
    assert measured == pytest.approx(predicted, rel=0.1)
    assert "were predicted" not in done.stderr


def test_answers_come_piece_by_piece(demo: Client) -> None:
    """Each token is shown when it is drawn."""
    pieces = [event.text for event in demo.chat(QUESTION, stream=True, temperature=0) if isinstance(event, TextDelta)]
    assert len(pieces) >= 6
    assert "".join(pieces) == "The capital of France is Paris."


def test_probabilities_are_a_distribution(pair: tuple[Path, Path]) -> None:
    """Those of all tokens add up to one."""
    _, folder = pair
    with onnx(folder, context_length=64) as client:
        answer = client.generate("ab", temperature=0, max_tokens=1, logprobs=20)
    assert sum(math.exp(entry.logprob) for entry in answer.logprobs[0].top) <= 1 + 1e-5
