"""The program as the system sees it: exit statuses, pipes, signals, imports."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
import typer

from llama4sdk import errors
from llama4sdk.cli.errors import ExitCode, exit_code, exit_on_error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.UnknownModelError("x"), ExitCode.USAGE),
        (errors.UnsupportedFeatureError("b", "f"), ExitCode.USAGE),
        (errors.InsufficientMemoryError("x", need=2, have=1), ExitCode.NO_PLAN),
        (errors.CheckpointError("x"), ExitCode.BACKEND),
        (errors.WeightsNotFoundError("x"), ExitCode.BACKEND),
        (errors.DownloadError("x"), ExitCode.BACKEND),
        (errors.PluginLoadError("x"), ExitCode.BACKEND),
        (errors.RateLimitError("x"), ExitCode.REMOTE),
        (errors.ContextLengthError("x", limit=1, requested=2), ExitCode.CONTEXT),
        (errors.StreamInterruptedError("x"), ExitCode.BACKEND),
    ],
)
def test_every_error_has_its_exit_status(error: errors.Llama4Error, code: ExitCode) -> None:
    """The exit status tells a script what kind of error it was."""
    assert exit_code(error) is code


def test_an_error_is_printed_with_its_hint(capsys: pytest.CaptureFixture[str]) -> None:
    """Message and hint are two lines on stderr; text in brackets is no markup."""

    def fail() -> None:
        raise errors.ModelLoadError("It [red]failed[/].", hint="Try [again].")

    with pytest.raises(typer.Exit) as caught:
        exit_on_error(fail)
    assert caught.value.exit_code == ExitCode.BACKEND
    assert capsys.readouterr().err == "Error: It [red]failed[/].\nHint: Try [again].\n"


def test_loading_is_silent_where_nobody_looks(program: Any, heavy: Any) -> None:
    """Without a terminal there is no bar, and nothing on stderr at all."""
    result = program("generate", "--backend", "heavy", "hi there", env=heavy | {"HEAVY": "3000"})
    assert (result.stdout, result.stderr, result.returncode) == ("hi there\n", "", 0)


def test_a_bug_keeps_its_traceback(program: Any, install: Any) -> None:
    """An exception that is no error of the SDK is shown with its traceback, and exit status 1."""
    code = """
        from llama4sdk.cli import main
        import llama4sdk.cli.errors as target
        target.print_error = lambda error: 1 / 0
        main()
    """
    env = install("bug", code)
    result = subprocess.run(
        [sys.executable, "-m", "bug", "chat", "-m", "nothing", "hi"],
        capture_output=True,
        text=True,
        env={**os.environ, **env, "LLAMA4SDK_PLUGINS": "echo"},
        check=False,
    )
    assert result.returncode == 1
    assert "ZeroDivisionError" in result.stderr
    assert "Traceback" in result.stderr


def test_too_long_a_prompt(program: Any) -> None:
    """A prompt beyond the context is exit status 6."""
    result = program("chat", "-m", "echo", "-c", "3", "one two three four")
    assert (result.returncode, result.stdout) == (6, "")
    assert "Error: " in result.stderr


def test_a_reader_that_leaves_is_no_error(environment: Mapping[str, str]) -> None:
    """'llama4sdk … | head -1' ends quietly."""
    text = "line\n" * 3000
    command = f"{sys.executable} -m llama4sdk chat -m echo --stream | head -1; echo ${{PIPESTATUS[0]}}"
    result = subprocess.run(
        ["bash", "-c", command],
        input=text,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )
    assert result.stdout == "line\n0\n"
    assert result.stderr == ""


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_in_an_answer(slow: Mapping[str, str], environment: Mapping[str, str]) -> None:
    """SIGINT during a one-shot answer ends the program with 130 and without a traceback."""
    with subprocess.Popen(
        [sys.executable, "-m", "llama4sdk", "chat", "-m", "slow", "--stream", "hi"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **environment, **slow},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(6) == b"answer"
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
    assert process.returncode == 130
    assert b"Traceback" not in stderr


def test_stdout_that_cannot_show_a_character(program: Any) -> None:
    """A terminal without UTF-8 gets the nearest substitutes, and JSON stays whole."""
    ascii_only = {"PYTHONIOENCODING": "ascii"}
    result = program("chat", "-m", "echo", "naïve ✓ …", env=ascii_only)
    assert (result.returncode, result.stdout) == (0, "na?ve + ...\n")
    result = program("chat", "-m", "echo", "--json", "naïve ✓", env=ascii_only)
    assert json.loads(result.stdout)["text"] == "naïve ✓"


@pytest.mark.parametrize("command", ["doctor", "plan --json -m echo", "chat -m echo hi"])
@pytest.mark.parametrize(("redirection", "words"), [(">&-", ""), (">/dev/full", "Error: The output cannot be written")])
def test_stdout_that_takes_nothing(environment: Mapping[str, str], command: str, redirection: str, words: str) -> None:
    """A closed stdout is no error; a full disk is one in words."""
    line = f"{sys.executable} -m llama4sdk {command} {redirection}"
    run = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )
    assert (run.returncode == ExitCode.BACKEND) == bool(words)
    assert run.stderr.startswith(words)
    assert "Traceback" not in run.stderr


def test_a_width_of_nothing_is_an_unknown_one(program: Any) -> None:
    """COLUMNS=0 hides no output."""
    assert program("models", env={"COLUMNS": "0"}).stdout == program("models", env={"COLUMNS": "80"}).stdout


def test_piped_output_has_no_colour(program: Any) -> None:
    """Without a terminal results and errors have no escape sequences."""
    assert "\x1b" not in program("models").stdout
    assert "\x1b" not in program("chat", "-m", "nothing", "hi").stderr


def test_help_imports_nothing_heavy() -> None:
    """--help imports neither the client, pydantic, the network nor any plugin."""
    code = """
import sys, json
sys.argv = ["llama4sdk", "--help"]
try:
    from llama4sdk.cli import main
    main()
except SystemExit:
    print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in json.loads(result.stderr)}
    assert not loaded & {"torch", "numpy", "pydantic", "httpx", "pluggy", "transformers", "llama4sdk_torch"}
