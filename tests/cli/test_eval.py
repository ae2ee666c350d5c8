"""``llama4sdk eval``: its output, what it refuses, and how it stops."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., Any]

GUESSING_BACKEND = '''
"""A backend to which every word but the first is likely: a half in bf16, a quarter in int8. It never ends in int4."""

import time

from llama4sdk.backend import Backend, BackendInfo, Capabilities, Engine, Offer, Unavailable
from llama4sdk.events import TokenLogprob
from llama4sdk.hookspecs import hookimpl
from llama4sdk.plan import Placement
from llama4sdk.results import Scores

LOG2 = 0.6931471805599453


@hookimpl
def llama4sdk_backends():
    abilities = Capabilities(features=frozenset({"score"}))
    cls = "guessing_backend:Guess"
    return [BackendInfo(name="guess", summary="Guesses.", cls=cls, models=("guess",), capabilities=abilities)]


class Guess(Backend):
    name = "guess"

    def offer(self, need, hardware):
        if need.quantization == "fp8":
            return Unavailable(reason="it has no fp8.")
        where = Placement(kind="local", devices=("cpu",))
        chosen = need.quantization or "bf16"
        size = {"bf16": 16_000_000, "int8": 8_000_000, "int4": 4_000_000}[chosen]
        return Offer(model="guess", placement=where, context_length=need.context_length or 100, quantization=chosen,
                     weight_bytes=size, reason="it only counts")

    def load(self, plan, *, progress=None):
        return GuessEngine(plan)


class GuessEngine(Engine):
    model = "guess"

    def __init__(self, plan):
        self.context_length = plan.context_length
        self.scheme = plan.quantization

    def stream(self, request):
        raise NotImplementedError

    def score(self, request, *, progress=None):
        words = tuple(request.prompt.split())
        for done in range(len(words)):
            if progress is not None:
                progress(done, len(words))
            while self.scheme == "int4":
                time.sleep(0.02)
        entries = [TokenLogprob(token=word, logprob=-LOG2 * (1 if self.scheme == "bf16" else 2)) for word in words[1:]]
        return Scores(tokens=words, logprobs=(None, *entries), model="guess", backend="guess")
'''


@pytest.fixture
def guessing(install: Callable[[str, str], dict[str, str]]) -> dict[str, str]:
    """The environment in which the backend 'guess' is installed."""
    return install("guessing_backend", GUESSING_BACKEND)


@pytest.fixture
def text(tmp_path: Path) -> str:
    """The path of a text of nine words and 44 bytes."""
    file = tmp_path / "text.txt"
    file.write_text("the quick brown fox jumps over the lazy dog\n", encoding="utf-8")
    return str(file)


def test_it_shows_perplexity_and_bits(program: Any, guessing: Any, text: str) -> None:
    """People see perplexity with its standard error, bits per byte, tokens, speed and the model."""
    output = program("eval", "perplexity", text, "-m", "guess", env=guessing).stdout
    lines = {line[:14].strip(): line[14:].strip() for line in output.splitlines() if line.strip()}
    assert lines["perplexity"] == "2.000 ± 0.000"
    assert lines["bits per byte"] == f"{8 / 44:.4f}"
    assert lines["tokens scored"] == "8"
    assert "tokens/s" in lines["speed"]
    assert lines["model"] == "guess on guess, bf16, 16 MB"


def test_json_has_every_number(program: Any, guessing: Any, text: str) -> None:
    """The JSON has the file, the windows, and one measurement for each quantization."""
    arguments = (
        "eval",
        "perplexity",
        text,
        "-m",
        "guess",
        "--compare",
        "bf16, int8",
        "--window",
        "16",
        "--stride",
        "4",
    )
    answer = json.loads(program(*arguments, "--json", env=guessing).stdout)
    first, second = answer["measurements"]
    assert (answer["bytes"], answer["window"], answer["stride"]) == (44, 16, 4)
    assert math.isclose(first["perplexity"], 2)
    assert math.isclose(second["perplexity"], 4)
    assert (second["quantization"], second["weight_bytes"], second["tokens"]) == ("int8", 8_000_000, 8)
    assert second["seconds"] > 0


def test_a_comparison_is_a_table(program: Any, guessing: Any, text: str) -> None:
    """A comparison has one row for each quantization, with the ratio to the first and the bytes of the weights."""
    output = program("eval", "perplexity", text, "-m", "guess", "--compare", "bf16,int8", env=guessing).stdout
    rows = [line.split() for line in output.splitlines() if line.strip().startswith(("bf16", "int8"))]
    assert [row[:6] for row in rows] == [
        ["bf16", "2.000", "±", "0.000", "1.0000", f"{8 / 44:.4f}"],
        ["int8", "4.000", "±", "0.000", "2.0000", f"{16 / 44:.4f}"],
    ]


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (None, (), "No such file"),
        (b"", (), "There is no text in"),
        (b" \n ", (), "There is no text in"),
        (b"\xff\xfe\x00", (), "it is no UTF-8 text"),
        (b"ELF\x00\x01", (), "it is no text"),
        (b"some words", ("--window", "1"), "window is 1"),
        (b"some words", ("--window", "8", "--stride", "8"), "stride of 8"),
        (b"some words", ("--compare", "bf16,int3"), "There is no quantization 'int3'"),
        (b"some words", ("--compare", "bf16", "-q", "int8"), "do not go together"),
    ],
)
def test_bad_input_is_one_line(
    cli: Cli, tmp_path: Path, content: bytes | None, options: tuple[str, ...], message: str
) -> None:
    """A file that is missing, empty or no text, and impossible options, are refused before anything is loaded."""
    file = tmp_path / "text.txt"
    if content is not None:
        file.write_bytes(content)
    result = cli("eval", "perplexity", str(file), "-m", "echo", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    error, *hints = result.stderr.splitlines()
    assert error.startswith("Error: ")
    assert message in result.stderr.replace("\n", " ")
    assert all(line.startswith("Hint: ") for line in hints)


def test_what_cannot_score_says_so(cli: Cli, program: Any, guessing: Any, tmp_path: Path, text: str) -> None:
    """A backend that cannot score, a text of one token, and a scheme that nobody offers are refused."""
    result = cli("eval", "perplexity", text, "-m", "echo")
    assert result.exit_code == 2
    assert "does not support scoring texts" in result.stderr
    single = tmp_path / "single.txt"
    single.write_text("word")
    assert "single token" in program("eval", "perplexity", str(single), "-m", "guess", env=guessing).stderr
    refused = program("eval", "perplexity", text, "-m", "guess", "--compare", "int4,fp8", env=guessing)
    assert refused.returncode == 3
    assert "it has no fp8" in refused.stderr


def test_ctrl_c_ends_it_cleanly(terminal: Any, guessing: Any, text: str) -> None:
    """On a terminal there is a bar, and Ctrl-C ends the measurement with 130 and no traceback."""
    with terminal("eval", "perplexity", text, "-m", "guess", "-q", "int4", env=guessing) as session:
        session.expect("Scoring with int4")
        session.interrupt("Interrupted.")
        assert session.finish() == 130
        assert "Traceback" not in session.seen


def test_help_lists_the_measurements(cli: Cli) -> None:
    """``eval`` alone, and its help, name the measurements."""
    assert "perplexity" in cli("eval", "--help").stdout
    assert "perplexity" in cli("eval").output
    assert "Usage: llama4sdk eval perplexity" in cli("eval", "perplexity", "--help").stdout
