"""``llama4sdk plan``: with other engines, explained, drawn, and the same every time."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args
from xml.etree import ElementTree as ET

import pytest
from PIL import Image

from llama4sdk.cli.options import PolicyName
from llama4sdk.plan import Preference
from llama4sdk.testing.machines import MACHINES
from tests.weights import checkpoints

Cli = Any
TORCH = {"LLAMA4SDK_PLUGINS": "echo,torch"}
MACHINE = MACHINES["h100-x1"].model_dump_json()


COUNTING_PLUGIN = '''
"""A plugin without backends that notes each time it is asked for them."""

import os
from pathlib import Path

from llama4sdk.hookspecs import hookimpl


@hookimpl
def llama4sdk_backends():
    with Path(os.environ["COUNT_FILE"]).open("a") as file:
        file.write("asked\\n")
    return []
'''


@pytest.fixture
def torch(cli: Cli, environment: dict[str, str]) -> Cli:
    environment.update(TORCH)
    return cli


def words(text: str) -> str:
    return " ".join(text.split())


def test_other_engines_are_named_with_what_to_install(torch: Cli) -> None:
    """Engines that are not installed are named below the plan, which they never change."""
    text = words(torch("plan", "-m", "scout", "--gpus", "8xH100-80GB").stdout)
    assert text.index("int4 (activations bf16)") < text.index("which are not installed")
    assert re.search(r"vLLM bf16, split over 8, [\d,]+ tokens, \d+-\d+ tokens/s → vllm serve, and pip install", text)
    plan = json.loads(torch("plan", "-m", "scout", "--gpus", "8xH100-80GB", "--json").stdout)
    assert (plan["backend"], plan["quantization"], plan["placement"]["devices"]) == ("torch", "int4", ["cuda:0"])


def test_other_engines_are_named_where_nothing_runs(torch: Cli) -> None:
    """A refusal names the engines that could run the model."""
    result = torch("plan", "-m", "maverick", "--gpus", "8xH200", "--ram", "64GB")
    assert result.exit_code == 3
    assert "vLLM" in result.stdout


def test_what_was_asked_in_so_many_words_has_no_alternative(torch: Cli) -> None:
    """With a named backend, device or quantization no other engines are shown."""
    for option in (("-b", "torch"), ("-d", "cuda"), ("-q", "int4")):
        assert "not installed" not in torch("plan", "-m", "scout", "--gpus", "8xh100", *option).stdout


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("balanced", ("scout", "int4")), ("quality", ("scout", "bf16")), ("speed", ("scout", "int4"))],
)
def test_policies(torch: Cli, policy: str, expected: tuple[str, str]) -> None:
    """The policy "quality" prefers full precision in memory to four bits on the card."""
    plan = json.loads(
        torch("plan", "-m", "scout", "--gpus", "h100", "--ram", "512GB", "--policy", policy, "--json").stdout
    )
    assert (plan["model"], plan["quantization"]) == expected


def test_the_longest_context_is_a_policy(torch: Cli) -> None:
    """The policy "context" plans for more tokens than the default."""
    plan = json.loads(torch("plan", "-m", "scout", "--gpus", "h100", "--policy", "context", "--json").stdout)
    assert plan["context_length"] > 100_000
    assert torch("plan", "--policy", "cheap").exit_code == 2


@pytest.mark.parametrize("command", ["plan -m echo", "plan -m demo", "plan --explain -m echo", "doctor"])
def test_plugins_are_discovered_once(program: Any, install: Any, tmp_path: Path, command: str) -> None:
    """A command asks each plugin once for its backends, whatever it prints."""
    count = tmp_path / "count"
    program(*command.split(), env=install("counting_plugin", COUNTING_PLUGIN) | {"COUNT_FILE": str(count)})
    assert count.read_text() == "asked\n"


def test_explain_shows_every_number_with_its_label(torch: Cli) -> None:
    """--explain shows memory by class, caches by engine, the roofline, and what is left out."""
    text = words(torch("plan", "-m", "scout", "--gpus", "H100-80GB", "--explain").stdout)
    for phrase in (
        "routed experts 49.8 GB exact",
        "all weights 60.4 GB exact",
        "a token in 12 global layers 49 kB exact",
        "vLLM, up to at least 0.14 25.8 GB exact",
        "bandwidth 3350.0 GB/s exact",
        "guessed torch 0.1: ",
        "Not modelled: speculative decoding",
    ):
        assert phrase in text


def test_explain_of_an_echo(cli: Cli) -> None:
    """A backend with no weights has decisions, and nothing to count."""
    result = cli("plan", "-m", "echo", "--explain")
    assert result.exit_code == 0
    assert "Memory on" not in result.stdout


def test_explain_as_json_is_the_plan_and_its_numbers(torch: Cli) -> None:
    """The JSON of --explain holds the plan that --json alone prints."""
    ask = ("plan", "-m", "scout", "--gpus", "h100", "--json")
    explained, alone = json.loads(torch(*ask, "--explain").stdout), json.loads(torch(*ask).stdout)
    assert explained["plan"] == alone
    labels = {figure["label"] for section in explained["explanation"]["sections"] for figure in section["figures"]}
    assert labels <= {"exact", "measured", "modelled", "guessed"}


def test_a_checkpoint_on_disk_is_compared_by_its_own_sizes(cli: Cli, tmp_path: Path) -> None:
    """A checkpoint is compared in every precision of its own network, and as stored with its exact bytes."""
    path = checkpoints.write_gguf(tmp_path / "tiny.gguf")
    rows = json.loads(cli("plan", "--compare", "-m", str(path), "--gpus", "h100", "--json").stdout)["h100"]
    stored = [row["layout"] for row in rows if row["layout"]["precision"].endswith("as stored")]
    (layout,) = [layout for layout in stored if layout["engine"] == "llama.cpp"]
    inspected = json.loads(cli("inspect", str(path), "--json").stdout)
    assert sum(layout["shares"][0]["weights"].values()) == inspected["nbytes"]
    assert {"bf16", "int4", "Q4_K_M"} <= {row["layout"]["precision"] for row in rows}


def test_the_best_is_one_row_for_each_machine_and_model(cli: Cli) -> None:
    """--best shows the first of all rows by the policy, or the one that lacks least."""
    ask = ("plan", "--compare", "--gpus", "h100", "--gpus", "8xh100", "--best", "--policy", "speed")
    machines = json.loads(cli(*ask, "--json").stdout)
    del machines["remote"]
    for name, rows in machines.items():
        everything = json.loads(cli("plan", "--compare", "--gpus", name, "--policy", "speed", "--json").stdout)[name]
        assert [row["layout"]["model"] for row in rows] == ["scout", "maverick"]
        for row in rows:
            fits = {
                other["layout"]["precision"]: other["decode"]["low"]
                for other in sorted(everything, key=lambda other: (other["decode"] or {"low": 0})["low"])
                if other["layout"]["model"] == row["layout"]["model"]
                and other["decode"]
                and all(sum(s["weights"].values()) + s["kv"] < s["room"] for s in other["layout"]["shares"])
                and other["layout"]["context"] >= 8192
            }
            whole = {name: low for name, low in fits.items() if name not in ("Q2_K", "Q3_K_M")}
            assert row["decode"]["low"] == max((whole or fits).values())
    assert "8xh100" in cli(*ask).stdout


def test_a_damaged_checkpoint_is_no_traceback(cli: Cli, tmp_path: Path) -> None:
    """A damaged checkpoint, and one that does not exist, are errors in words."""
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUF" + b"\xff" * 40)
    assert cli("plan", "--compare", "-m", str(bad)).exit_code == 4
    assert cli("plan", "--compare", "-m", str(tmp_path / "none.gguf")).exit_code == 2


@pytest.mark.parametrize("more", [(), ("--compare",)])
def test_a_plan_is_drawn(torch: Cli, tmp_path: Path, more: tuple[str, ...]) -> None:
    """A plan is drawn as SVG, whose text stays text, or as PNG."""
    svg, png = tmp_path / "plan.svg", tmp_path / "plan.png"
    for file in (svg, png):
        result = torch("plan", "-m", "scout", "--gpus", "2xh100", "--plot", str(file), *more)
        assert result.exit_code == 0
        assert str(file) in words(result.stderr).replace(" ", "")
    texts = {"".join(element.itertext()).strip() for element in ET.parse(svg).iter() if element.tag.endswith("text")}
    assert {"GB", "context in tokens", "routed experts", "keys and values", "every layer keeps everything"} <= texts
    with Image.open(png) as picture:
        assert picture.size[0] > 1000
        assert picture.convert("RGB").getpixel((2, 2)) == (255, 255, 255)
    assert {path.name for path in tmp_path.iterdir()} <= {"plan.svg", "plan.png", "home", "hub"}


def test_what_cannot_be_drawn_into(torch: Cli, tmp_path: Path) -> None:
    """Another kind of file, a directory, a missing directory, and a plan without memory are refused."""
    (tmp_path / "dir.svg").mkdir()
    for name, message in (
        ("plan.pdf", "an .svg or a .png"),
        ("dir.svg", "is a directory"),
        ("none/plan.svg", "There is no directory"),
    ):
        result = torch("plan", "-m", "scout", "--gpus", "h100", "--plot", str(tmp_path / name))
        assert result.exit_code == 2
        assert message in words(result.stderr)
    result = torch("plan", "-m", "echo", "--plot", str(tmp_path / "echo.svg"))
    assert "nothing to draw" in words(result.stderr)


def test_a_file_that_cannot_grow_leaves_the_old_one(tmp_path: Path) -> None:
    """When the disk is full the old picture stays, and no part of the new one is left."""
    old = tmp_path / "plan.svg"
    old.write_text("old")
    command = ["llama4sdk", "plan", "-m", "scout", "--gpus", "h100", "--plot", str(old)]
    limited = "import resource, runpy, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limited += "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); sys.argv = sys.argv[1:]; "
    limited += "runpy.run_module('llama4sdk', run_name='__main__', alter_sys=True)"
    environment = {**os.environ, **TORCH, "PYTHONDONTWRITEBYTECODE": "1"}
    result = subprocess.run(
        [sys.executable, "-c", limited, *command], capture_output=True, text=True, env=environment, check=False
    )
    assert result.returncode == 2
    assert os.strerror(errno.EFBIG) in result.stderr
    assert "Hint: Write --plot to a directory" in words(result.stderr)
    assert old.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_same_inputs_give_the_same_plan(program: Any, tmp_path: Path) -> None:
    """Plans and pictures are the same byte for byte, whatever the order of Python's sets."""
    outputs = []
    for seed in ("0", "4242"):
        env = {**TORCH, "PYTHONHASHSEED": seed}
        file = tmp_path / f"{seed}.svg"
        texts = [
            program("plan", "--gpus", "8xh100", "-m", "scout", *more, env=env).stdout
            for more in (("--json",), ("--explain", "--plot", str(file)), ("--compare", "--json"))
        ]
        outputs.append((texts, file.read_bytes()))
    assert outputs[0] == outputs[1]
    assert all(outputs[0][0])


@pytest.mark.parametrize(
    "options", [("--compare", "--best"), ("--compare", "-m", "demo"), ("--explain", "-m", "scout")]
)
def test_a_narrow_terminal_loses_nothing(cli: Cli, environment: dict[str, str], options: tuple[str, ...]) -> None:
    """At 80 columns no line is longer, no word is cut, and every word of the wide page is there."""
    command = ("plan", *options, "--gpus", "rtx-4090", "--ram", "64GB", "--context-length", "9000")
    environment |= {**TORCH, "COLUMNS": "300"}
    wide = cli(*command).stdout.split()
    environment["COLUMNS"] = "80"
    narrow = cli(*command).stdout
    assert max(map(len, narrow.splitlines())) <= 80
    assert "…" not in narrow
    assert set(wide) - {"machine"} <= set(narrow.split()) | {"machine"}


def test_names_may_hold_brackets(cli: Cli, environment: dict[str, str], tmp_path: Path) -> None:
    """Brackets in the name of a file, a device or a model are not markup."""
    file = tmp_path / "[red].json"
    file.write_text(json.dumps(json.loads(MACHINE) | {"system": "[/x]"}))
    environment["COLUMNS"] = "300"
    assert "[red].json" in cli("plan", "--compare", "--best", "--hardware", str(file)).stdout
    environment.update(TORCH)
    assert "[/red]" in cli("plan", "-m", "[/red]").stdout


def test_a_config_alone_is_compared(cli: Cli, tmp_path: Path) -> None:
    """A config.json is compared by the sizes it implies; a damaged one is an error in words."""
    sizes = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "vocab_size": 1000}
    text = {"model_type": "llama4_text", "intermediate_size": 512, "num_local_experts": 2, **sizes}
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"model_type": "llama4", "text_config": text}))
    for name in (file, tmp_path):
        output = cli("plan", "--compare", "--best", "-m", str(name), "--gpus", "h100").stdout
        assert re.search(r"bf16 +one device .* fits", output)
    file.write_text(json.dumps({"model_type": "llama4", "text_config": text | {"num_key_value_heads": 0}}))
    result = cli("plan", "--compare", "-m", str(tmp_path))
    assert (result.exit_code, "https://" in result.stderr) == (4, False)
    assert "num_kv_heads is 0" in result.stderr


def test_a_batch_is_in_every_form_of_a_plan(torch: Cli, tmp_path: Path) -> None:
    """--batch counts in the table, the JSON, the explanation, the picture, the comparison and the refusal."""
    ask = ("plan", "-m", "scout", "--gpus", "h100", "-q", "int4", "-c", "8192", "--batch", "4")
    text = words(torch(*ask, "--explain").stdout)
    for phrase in ("4 conversations at once", "4 answers together", "tokens/s each", "of 4 x 8,192 tokens"):
        assert phrase in text
    plan = json.loads(torch(*ask, "--json").stdout)
    assert (plan["batch"], plan["context_length"]) == (4, 8192)
    picture = tmp_path / "plan.svg"
    torch(*ask, "--plot", str(picture))
    assert "context in tokens of each of 4 conversations" in picture.read_text()
    rows = json.loads(torch("plan", *ask[1:5], "-c", "8192", "--batch", "4", "--compare", "--json").stdout)["h100"]
    (row,) = [r["layout"] for r in rows if (r["layout"]["engine"], r["layout"]["precision"]) == ("torch", "int4")]
    (share,) = row["shares"]
    assert (row["batch"], share["kv"]) == (4, plan["breakdown"]["cuda:0"]["kv_cache"])
    assert share["workspace"] == plan["breakdown"]["cuda:0"]["workspace"]
    assert "of all together" in words(torch("plan", *ask[1:5], "--batch", "4", "--compare").stdout)
    refused = torch(*ask[:-1], "400")
    assert refused.exit_code == 3
    assert "Ask for a" in words(refused.stdout)
    assert torch(*ask[:-1], "0").exit_code == 2


def test_every_policy_is_an_option(torch: Cli) -> None:
    """--policy takes the values of Policy.prefer."""
    assert list(get_args(PolicyName)) == list(get_args(Preference))
    assert torch("plan", "-m", "scout", "--gpus", "h100", "--policy", "cost").exit_code == 0


def test_a_plan_is_for_what_is_needed(torch: Cli) -> None:
    """Models without a needed feature or language are not chosen; a comparison refuses both options."""
    text = words(torch("plan", "--gpus", "h100", "--need", "images", "--need", "tools", "--language", "Hindi").stdout)
    assert "needs images, tools, Hindi they were asked for" in text
    assert "vLLM int4, one device" in text
    blind = torch("plan", "-m", "demo", "--need", "images")
    assert (blind.exit_code, "not installed" in blind.stdout) == (3, False)
    assert "with 'demo' it does not support images" in words(blind.stdout)
    deaf = torch("plan", "-m", "demo", "--language", "Hindi")
    assert (deaf.exit_code, "not installed" in deaf.stdout) == (3, False)
    assert "'demo' was made for English, not Hindi. → Choose 'scout' or 'maverick'." in words(deaf.stdout)
    for option in (("--need", "images"), ("--language", "Hindi")):
        assert "is for choosing" in torch("plan", "--compare", *option).stderr


def test_memory_that_is_shared_is_said_once(torch: Cli) -> None:
    """--ram must agree with the memory in the name of a Mac."""
    refused = torch("plan", "--gpus", "m3-max-64gb", "--ram", "128GB")
    assert "shares its 64 GB" in words(refused.stderr)
    assert "Leave --ram out" in words(refused.stderr)
    assert torch("plan", "-m", "demo", "--gpus", "m3-max-64gb", "--ram", "64GB").exit_code == 0


def test_a_config_alone_is_planned_by(torch: Cli, tmp_path: Path) -> None:
    """A config.json is planned for by its sizes; running it is an error that names the missing weights."""
    sizes = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "vocab_size": 1000}
    text = {"model_type": "llama4_text", "intermediate_size": 512, "num_local_experts": 2, **sizes}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama4", "text_config": text}))
    plan = json.loads(torch("plan", "-m", str(tmp_path), "--gpus", "h100", "--json").stdout)
    assert (plan["source"], plan["placement"]["devices"], plan["quantization"]) == (None, ["cuda:0"], "bf16")
    chat = torch("chat", "-m", str(tmp_path), "hello")
    assert chat.exit_code == 4
    assert "Fetch the checkpoint's weights" in words(chat.stderr)
