"""The program with twenty remote backends installed: one screen, clear errors, and no key on the command line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from llama4sdk.cli.errors import exit_code
from llama4sdk.errors import APIConnectionError, AuthenticationError, BatchFileError, BudgetExceededError

REMOTE_BACKENDS = '''
"""Twenty endpoints: 'echoing' answers with what it was told of the endpoint, the others need keys."""

import os
import time

from llama4sdk.backend import Backend, BackendInfo, Capabilities, Engine, Offer, Unavailable
from llama4sdk.errors import OverloadedError
from llama4sdk.events import Attempt, Finish, TextDelta, Usage
from llama4sdk.hookspecs import hookimpl
from llama4sdk.plan import Placement

NAMES = ["echoing", *(f"cloud{n}" for n in range(19))]


@hookimpl
def llama4sdk_backends():
    card = Capabilities(features=frozenset({"chat", "generate", "embed"}), remote=True)
    home = "remote_backends:"
    return [BackendInfo(name=n, summary="Answers.", cls=home + n.title(), capabilities=card) for n in NAMES]


class Cloud(Backend):
    def offer(self, need, hardware):
        if self.name != "echoing" or "ECHOING_KEY" not in os.environ and need.endpoint is None:
            variable = self.name.upper() + "_KEY"
            return Unavailable(reason=f"it needs an API key, and {variable} is not set.", fix=f"Set {variable}.")
        where = Placement(kind="remote", devices=(self.name,))
        return Offer(model=need.model or "scout", placement=where, context_length=1000, reason="it serves it")

    def load(self, plan, *, progress=None):
        raise NotImplementedError

    def connect(self, plan, need, *, progress=None):
        return CloudEngine(need.endpoint)


for name in NAMES:
    globals()[name.title()] = type(name.title(), (Cloud,), {"name": name})


class CloudEngine(Engine):
    model = "scout"
    context_length = 1000

    def __init__(self, endpoint):
        self.endpoint = endpoint

    def stream(self, request):
        said = request.messages[-1].text
        if said == "fail":
            error = OverloadedError("It is full.", backend="echoing", hint="Wait a minute.")
            told = "OverloadedError: It is full."
            error.attempts = tuple(Attempt(backend="echoing", model="scout", error=told, seconds=n) for n in (1, 2))
            raise error
        while said == "wait":
            time.sleep(0.05)
        key = self.endpoint and self.endpoint.api_key
        yield TextDelta(text=f"{self.endpoint and self.endpoint.url} {len(key.get_secret_value()) if key else 0}")
        yield Finish(reason="stop", usage=Usage(input_tokens=2, output_tokens=3, cost=0.25))
'''


@pytest.fixture
def remote(install: Any) -> dict[str, str]:
    """The environment in which twenty remote backends are installed, and one has its key."""
    environment: dict[str, str] = install("remote_backends", REMOTE_BACKENDS)
    return environment | {"ECHOING_KEY": "x"}


def test_the_doctor_stays_on_one_screen(program: Any, remote: dict[str, str]) -> None:
    """Any number of remote backends takes one line, and missing keys are no problem."""
    few = program("doctor", env=remote | {"LLAMA4SDK_PLUGINS": "echo"}).stdout.splitlines()
    result = program("doctor", env=remote)
    assert len(result.stdout.splitlines()) <= len(few) + 8
    text = " ".join(result.stdout.split())
    assert "remote echoing ready; 19 others need a key or an address" in text
    assert "llama4sdk backends" in text
    assert "cloud7" not in text
    bare = program("doctor", env={name: value for name, value in remote.items() if name != "ECHOING_KEY"})
    assert "remote 20 need a key or an address" in " ".join(bare.stdout.split())
    assert bare.returncode == result.returncode == 1  # nothing local runs Llama 4 here


def test_each_remote_backend_is_listed_on_request(program: Any, remote: dict[str, str]) -> None:
    """``backends``, ``doctor --verbose`` and JSON name the variable of each remote backend."""
    for command in (["backends"], ["doctor", "--verbose"]):
        text = " ".join(program(*command, env=remote | {"COLUMNS": "300"}).stdout.split())
        assert "not ready: it needs an API key, and CLOUD7_KEY is not set" in text
        assert "Set CLOUD7_KEY." in text
        assert "ready. Answers.; sends prompts elsewhere" in text
    found = json.loads(program("backends", "--json", env=remote).stdout)["backends"]
    states = {entry["info"]["name"]: (entry["status"], entry["fix"]) for entry in found}
    assert states["echoing"] == ("ok", None)
    assert states["cloud18"] == ("info", "Set CLOUD18_KEY.")


def test_a_plan_sums_them_up(program: Any, remote: dict[str, str]) -> None:
    """A plan and a refusal sum remote backends up; ``--json`` has them all."""
    for arguments in (["-m", "scout"], ["-m", "scout", "--remote"]):
        text = " ".join(program("plan", *arguments, env=remote).stdout.split())
        assert "remote ones" in text
        assert "cloud7" not in text
    whole = json.loads(program("plan", "-m", "scout", "--remote", "--json", env=remote).stdout)
    assert whole["backend"] == "echoing"
    assert len(whole["rejections"]) == 19


def test_a_fallback_answers_where_a_backend_fails(program: Any, remote: dict[str, str]) -> None:
    """A fallback answers, with a note, where a backend fails or has no plan; plan and eval refuse the option."""
    result = program("chat", "-b", "echoing", "--fallback", "cloud7", "--fallback", "echo=echo", "fail", env=remote)
    assert (result.returncode, result.stdout) == (0, "fail\n")
    assert "'echoing' failed (It is full.) Asking 'cloud7' instead." in result.stderr
    assert "Asking 'echo' instead." in result.stderr
    result = program("generate", "-b", "cloud7", "--fallback", "echo=echo", "--json", "hello", env=remote)
    answer = json.loads(result.stdout)
    assert (answer["text"], answer["backend"], len(answer["attempts"])) == ("hello", "echo", 2)
    for command in (["plan"], ["eval", "perplexity", str(Path(__file__))]):
        assert program(*command, "--fallback", "echo", env=remote).returncode == 2


def test_an_error_says_what_was_tried(program: Any, remote: dict[str, str]) -> None:
    """An error lists each attempt on a line, then the hint, with the exit status of endpoints."""
    result = program("chat", "-b", "echoing", "fail", env=remote)
    assert result.returncode == 5
    assert result.stderr.splitlines() == [
        "Error: It is full.",
        "  tried scout on echoing, 1.0 s: OverloadedError: It is full.",
        "  tried scout on echoing, 2.0 s: OverloadedError: It is full.",
        "Hint: Wait a minute.",
    ]


def test_the_address_of_a_server(program: Any, remote: dict[str, str]) -> None:
    """``--endpoint`` reaches the backend; an invalid one is refused, and a password in it is not repeated."""
    result = program("chat", "-b", "echoing", "-e", "http://localhost:8000/v1/", "Hi", env=remote)
    assert result.stdout == "http://localhost:8000/v1 0\n"
    wrong = program("chat", "-b", "echoing", "-e", "https://me:s3cret@host/v1", "Hi", env=remote)
    assert wrong.returncode == 2
    assert "s3cret" not in wrong.stdout + wrong.stderr


def test_a_key_is_typed_and_not_shown(terminal: Any, program: Any, remote: dict[str, str]) -> None:
    """``--ask-key`` asks at a terminal, and is refused without one."""
    with terminal("chat", "-b", "echoing", "--ask-key", "Hi", env=remote) as it:
        it.expect("API key: ")
        time.sleep(0.2)  # until getpass has turned the echo off
        it.press("s3cret-key\r")
        prompt = it.expect("None 10")
        assert it.finish() == 0
    assert "s3cret" not in prompt
    result = program("chat", "-b", "echoing", "--ask-key", "Hi", env=remote)
    assert result.returncode == 2
    assert "no terminal to ask for the key at" in result.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (APIConnectionError("x"), 5),
        (AuthenticationError("x"), 5),
        (BudgetExceededError("x", spent=1, limit=1, needed=1), 3),
        (BatchFileError("x"), 4),
    ],
)
def test_exit_codes(error: Any, code: int) -> None:
    """Errors have the exit codes that docs/cli.md lists."""
    assert exit_code(error) == code


def test_a_batch(program: Any, remote: dict[str, str], tmp_path: Path) -> None:
    """A batch goes from file to file, summarizes, ends with 1 for failures, and resumes in a second run."""
    requests, answers = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    odd = json.dumps({"messages": "line\u2028separator"}, ensure_ascii=False)
    body = {"custom_id": "q-3", "body": {"model": "scout", "messages": [{"role": "user", "content": "fail"}]}}
    requests.write_text(f'"one"\n\n{odd}\n{json.dumps(body)}\n', encoding="utf-8")
    first = program("batch", str(requests), str(answers), "-b", "echoing", "-m", "scout", env=remote)
    assert first.returncode == 1
    assert "Request 2 (q-3) failed: It is full. Hint: Wait a minute." in first.stderr
    assert first.stdout.splitlines()[:4] == [
        "answered  2 of 3",
        "failed    1",
        "tokens    4 read, 6 written",
        "cost      $0.50",
    ]
    second = program("batch", str(requests), str(answers), "-b", "echoing", "-m", "scout", "--json", env=remote)
    found = json.loads(second.stdout)
    assert second.returncode == 1
    assert {name: found[name] for name in ("requests", "answered", "resumed", "failed", "cost")} == {
        "requests": 3,
        "answered": 2,
        "resumed": 2,
        "failed": 1,
        "cost": 0,
    }
    assert found["failures"][0]["type"] == "OverloadedError"
    piped = program(
        "batch", "-", str(tmp_path / "other.jsonl"), "-m", "echo", "-j", "2", input='"a"\n"b"\n', env=remote
    )
    assert (piped.returncode, piped.stdout.splitlines()[0]) == (0, "answered  2 of 2")


@pytest.mark.parametrize(
    ("content", "words"),
    [("{\n", "Line 1 of"), ('"a"\n{"prompt": 7}\n', "Request 1"), ("\n", "There is no text")],
)
def test_a_batch_of_nonsense(cli: Any, tmp_path: Path, content: str, words: str) -> None:
    """A bad batch is refused before anything runs, with the line of the fault."""
    requests, answers = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    requests.write_text(content)
    result = cli("batch", str(requests), str(answers), "-m", "echo")
    assert result.exit_code == 2
    assert words in result.stderr
    assert not answers.exists()


def test_a_batch_s_budget(program: Any, remote: dict[str, str], tmp_path: Path) -> None:
    """A backend without known prices refuses a limit; the message says what to do in a program."""
    requests = tmp_path / "in.jsonl"
    requests.write_text('"one"\n')
    arguments = ["batch", str(requests), str(tmp_path / "out.jsonl"), "-b", "echoing", "-m", "scout", "--max-cost", "1"]
    result = program(*arguments, env=remote)
    assert result.returncode == 1
    assert "so that max_cost cannot be kept" in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for one process")
def test_ctrl_c_in_a_batch(remote: dict[str, str], environment: dict[str, str], tmp_path: Path) -> None:
    """Ctrl-C names the file of the answers, and ends with 130."""
    import os

    requests, answers = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    requests.write_text('"one"\n"wait"\n')
    command = [sys.executable, "-m", "llama4sdk", "batch", str(requests), str(answers), "-b", "echoing", "-m", "scout"]
    everything = {**os.environ, **environment, **remote}
    with subprocess.Popen(command, env=everything, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as it:
        until = time.monotonic() + 30
        while not (answers.exists() and answers.read_text().endswith("\n")) and time.monotonic() < until:
            time.sleep(0.02)
        it.send_signal(signal.SIGINT)
        _, errors = it.communicate(timeout=30)
    assert it.returncode == 130
    assert "the same command goes on from there" in errors
    assert len(answers.read_text().splitlines()) == 1
