"""The options for structured output on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., Any]

REPEATER = '''
"""A backend that writes down what its answer must look like."""

from llama4sdk.backend import Backend, BackendInfo, Capabilities, Engine, Offer
from llama4sdk.events import Finish, TextDelta
from llama4sdk.hookspecs import hookimpl
from llama4sdk.plan import Placement


@hookimpl
def llama4sdk_backends():
    abilities = Capabilities(features=frozenset({"chat", "generate", "json_schema", "regex", "grammar"}))
    cls = "repeater:Repeater"
    return [BackendInfo(name="repeater", summary="Repeats.", cls=cls, models=("repeater",), capabilities=abilities)]


class Repeater(Backend):
    name = "repeater"

    def offer(self, need, hardware):
        where = Placement(kind="local", devices=("cpu",))
        return Offer(model="repeater", placement=where, context_length=100, reason="it only repeats")

    def load(self, plan, *, progress=None):
        return RepeaterEngine()


class RepeaterEngine(Engine):
    model = "repeater"
    context_length = 100

    def stream(self, request):
        yield TextDelta(text=request.constraint.model_dump_json())
        yield Finish(reason="stop")
'''


@pytest.mark.parametrize("command", ["chat", "generate"])
def test_the_shape_reaches_the_backend(program: Any, install: Any, tmp_path: Path, command: str) -> None:
    """Schema and grammar are read from files, and a regular expression is passed on; the answer is plain text."""
    repeater = install("repeater", REPEATER)
    schema, grammar = tmp_path / "schema.json", tmp_path / "grammar.lark"
    schema.write_text('{"enum": ["é", 1]}', encoding="utf-8")
    grammar.write_text('start: "a"\n')
    for option, value, expected in (
        ("--schema", str(schema), {"kind": "json_schema", "definition": {"enum": ["é", 1]}}),
        ("--regex", "[a-z]+", {"kind": "regex", "pattern": "[a-z]+"}),
        ("--grammar", str(grammar), {"kind": "grammar", "lark": 'start: "a"\n'}),
    ):
        result = program(command, "-m", "repeater", option, value, "Hello", env=repeater)
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout) == expected


@pytest.mark.parametrize(
    ("option", "content", "message"),
    [
        ("--schema", None, "Cannot read the schema"),
        ("--schema", b"{", "is no JSON"),
        ("--schema", b"[]", "is no JSON object"),
        ("--schema", b'{"maximum": NaN}', "The schema is no JSON"),
        ("--schema", b"\xff", "is no UTF-8 text"),
        ("--grammar", None, "Cannot read the grammar"),
        ("--grammar", b"", "Invalid grammar"),
    ],
)
def test_a_bad_file_is_one_line(cli: Cli, tmp_path: Path, option: str, content: bytes | None, message: str) -> None:
    """A file that cannot be read, or holds something else, is refused in one line before any work."""
    file = tmp_path / "file"
    if content is not None:
        file.write_bytes(content)
    result = cli("chat", "-m", "echo", option, str(file), "Hello")
    error, *hints = result.stderr.splitlines()
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in error
    assert error.count(str(file)) <= 1
    assert all(line.startswith("Hint:") for line in hints)


def test_one_shape_at_a_time(cli: Cli, tmp_path: Path) -> None:
    """Two formats at once, and one that the backend does not support, are refused."""
    file = tmp_path / "grammar.lark"
    file.write_text('start: "a"\n')
    result = cli("generate", "-m", "echo", "--regex", "a", "--grammar", str(file), "Hello")
    assert (result.exit_code, "regex and grammar were given" in result.stderr) == (2, True)
    result = cli("generate", "-m", "echo", "--regex", "a", "Hello")
    assert (result.exit_code, "does not support answers that match" in result.stderr) == (2, True)
