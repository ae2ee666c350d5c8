"""The doctor reports what is here, what is missing, and what is broken, and only the last is a failure."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from llama4sdk.backend import BackendInfo, Capabilities, Need, Unavailable
from llama4sdk.diagnostics.facts import Facts, gather
from llama4sdk.diagnostics.report import examine, summarize_remote
from llama4sdk.hardware import Cpu, Device, Hardware
from llama4sdk.plan import Decision, Placement, Plan
from llama4sdk.planning.offers import Answer, Fault
from llama4sdk.quantization import Quantization
from llama4sdk.registry import PluginFailure, Registered
from llama4sdk.testing.machines import MACHINES

MACHINE = Hardware(
    system="Linux x86_64",
    cpu=Cpu(name="A CPU", cores=1, features=("avx2",)),
    total_memory=16_000_000_000,
    free_memory=8_000_000_000,
    disk_free=100_000_000_000,
)
TORCH = Registered(
    info=BackendInfo(
        name="torch", summary="Runs.", cls="m:C", requires=("torch",), install="pip install 'llama4sdk[torch]'"
    ),
    plugin="torch",
    distribution="llama4sdk-torch",
    version="1.0",
)


def facts(**changes: Any) -> Facts:
    """Facts of a machine without anything, with some changed."""
    values: dict[str, Any] = {
        "version": "1.0",
        "python": "3.11.0",
        "hardware": MACHINE,
        "home": Path("/home/u/.cache/llama4sdk"),
        "backends": (),
        "failures": (),
        "missing_modules": {},
        "answers": (),
        "models": {"scout": None, "demo": Path("/m/demo.gguf")},
    }
    return Facts(**(values | changes))


def texts(title: str, **changes: Any) -> list[tuple[str, str, str | None]]:
    return [(check.status, check.text, check.fix) for check in examine(facts(**changes)).checks if check.title == title]


def test_a_quantization_that_was_not_asked_for_is_explained() -> None:
    """For a model that only fits in fewer bits the doctor says which, and what full precision would need."""
    plan = Plan(
        model="scout",
        backend="torch",
        placement=Placement(kind="local", devices=("cuda:0",)),
        quantization=Quantization.INT4,
        context_length=8192,
        capabilities=Capabilities(),
        decisions=(Decision(what="quantization", value="int4", reason="bf16 needs 222.3 GB; cuda:0 has 84.9 GB free"),),
    )
    assert texts("Why int4", plan=plan) == [("info", "bf16 needs 222.3 GB; cuda:0 has 84.9 GB free", None)]
    assert "int4" in texts("Client()", plan=plan)[0][1]
    whole = plan.model_copy(update={"quantization": Quantization.BF16})
    assert not [check for check in examine(facts(plan=whole)).checks if check.title.startswith("Why")]


def test_a_bare_machine_is_not_broken() -> None:
    """No GPU, no backend, no model and no plan are facts, not failures."""
    report = examine(facts(plan_error="No backend."))
    assert "fail" not in {check.status for check in report.checks}
    assert texts("GPU") == [("info", "none found: models run on the CPU", None)]
    assert texts("Local")[0][0] == "warn"
    assert texts("scout")[0][0] == "info"
    assert texts("demo") == [("ok", "SmolLM2 135M Instruct, /m/demo.gguf", None)]


def test_an_unreadable_table_of_endpoints_is_a_warning() -> None:
    """An unreadable table of endpoints is a warning of its own, since missing keys would hide it."""
    [(status, text, fix)] = texts("Endpoints", endpoints_error="'a.csv', line 2: no number.")
    assert (status, text) == ("warn", "'a.csv', line 2: no number.")
    assert "LLAMA4SDK_ENDPOINTS" in (fix or "")
    assert not texts("Endpoints")


def test_a_gpu_is_shown() -> None:
    """Each device has its line."""
    gpu = Device(kind="cuda", index=0, name="H100", total_memory=80_000_000_000, free_memory=79_000_000_000)
    machine = MACHINE.model_copy(update={"devices": (gpu,)})
    assert texts("cuda:0", hardware=machine) == [("ok", "H100, 79.0 GB free of 80.0 GB", None)]
    assert texts("GPU", hardware=machine) == []


def test_a_problem_of_the_probe_is_a_warning() -> None:
    """A reader of the probe that failed is reported."""
    machine = MACHINE.model_copy(update={"problems": ("Could not read GPUs.",)})
    assert texts("Probe", hardware=machine) == [("warn", "Could not read GPUs.", None)]


@pytest.mark.parametrize(
    ("result", "status", "words"),
    [
        (Unavailable(reason="too big", need_memory=2, have_memory=1), "info", "can run nothing here"),
        (Unavailable(reason="it was not exported."), "info", "not ready: it was not exported"),
        (Fault(reason="its offer() raised KeyError: 'x'", fix="Report it."), "fail", "KeyError"),
    ],
)
def test_a_backend_that_says_no_and_one_that_breaks(result: Unavailable, status: str, words: str) -> None:
    """A backend that refuses is no failure; one that raises or hangs is."""
    answer = Answer(info=TORCH.info, need=Need(model="scout"), result=result)
    [(actual, text, _)] = texts("torch", backends=(TORCH,), answers=(answer,))
    assert actual == status
    assert words in text


def test_a_backend_whose_modules_are_missing() -> None:
    """A backend whose modules are not installed is a warning with the command that installs them."""
    fault = Answer(info=TORCH.info, need=Need(), result=Fault(reason="ModuleNotFoundError"))
    [check] = texts("torch", backends=(TORCH,), missing_modules={"torch": ("torch",)}, answers=(fault,))
    assert check == ("warn", "needs torch, not installed", "pip install 'llama4sdk[torch]'")


def test_a_plugin_that_failed_is_broken() -> None:
    """A plugin that cannot be loaded is a failure that names distribution, cause and what to do."""
    failure = PluginFailure(plugin="bad", distribution="bad-dist", version="2", reason="ImportError: x")
    [(status, text, fix)] = texts("bad", failures=(failure,))
    assert (status, text) == ("fail", "broken: ImportError: x")
    assert "LLAMA4SDK_DISABLE_PLUGINS=bad" in str(fix)


def test_remote_backends_are_summed_up_but_for_broken_ones() -> None:
    """Many remote backends share one line, a few have their own, and a broken one is never hidden."""
    card = Capabilities(remote=True)
    infos = [BackendInfo(name=f"cloud{n}", summary="Answers.", cls="m:C", capabilities=card) for n in range(5)]
    entries = tuple(Registered(info=info, plugin="clouds", distribution="clouds", version="1") for info in infos)
    results = [Fault(reason="it raised.", fix="Report it."), *(Unavailable(reason="it needs a key.") for _ in range(4))]
    answers = tuple(Answer(info=i, need=Need(), result=result) for i, result in zip(infos, results, strict=True))
    report = examine(facts(backends=(TORCH, *entries), answers=answers))
    summary = [(check.title, check.status) for check in summarize_remote(report) if check.section == "backends"]
    assert summary == [("torch", "ok"), ("cloud0", "fail"), ("remote", "info")]
    assert [check.title for check in report.checks if check.section == "backends"] == [
        "torch",
        *(i.name for i in infos),
    ]
    few = examine(facts(backends=(TORCH, *entries[:3]), answers=answers[:3]))
    assert summarize_remote(few) == few.checks


def test_the_real_machine() -> None:
    """The report on the machine that runs the tests has every section, and its hardware part is read back."""
    report = examine(gather())
    assert {check.section for check in report.checks} == {"machine", "backends", "models", "plan"}
    assert Hardware.model_validate_json(report.hardware.model_dump_json()) == report.hardware


def test_the_command_as_json(cli: Any) -> None:
    """--json has the documented keys."""
    report = json.loads(cli("doctor", "--json").stdout)
    assert (
        set(report) == {"version", "python", "hardware", "backends", "failures", "checks", "outlook", "plan"} | DETAILS
    )
    assert report["plan"] is None


@pytest.mark.parametrize("columns", ["40", "80", "160"])
def test_the_command_fits_the_terminal(cli: Any, environment: dict[str, str], columns: str) -> None:
    """No line is wider than the terminal, and the verdict closes the report."""
    environment["COLUMNS"] = columns
    result = cli("doctor")
    assert result.exit_code == 1
    assert max(len(line) for line in result.stdout.splitlines()) <= int(columns)
    assert "! Nothing is broken; 2 things keep something from working." in " ".join(result.stdout.split())
    assert "the self-check passed" in " ".join(result.stdout.split())


def test_nothing_in_the_way_is_exit_status_0(program: Any) -> None:
    """With a backend that runs models and a plan, the exit status is 0."""
    env = {"LLAMA4SDK_PLUGINS": "echo,torch", "LLAMA4SDK_HOME": os.environ["LLAMA4SDK_HOME"]}
    result = program("doctor", env=env)
    assert (result.returncode, result.stderr) == (0, "")
    assert "✓ Nothing is broken." in result.stdout


@pytest.mark.parametrize("columns", ["80", "120"])
@pytest.mark.parametrize("name", sorted(MACHINES))
def test_the_table_is_whole_at_80_columns(
    cli: Any, environment: dict[str, str], tmp_path: Path, name: str, columns: str
) -> None:
    """For every kind of machine the table of models fits into 80 columns, and no word is cut."""
    environment |= {"COLUMNS": columns, "LLAMA4SDK_HARDWARE": str(tmp_path / "machine.json")}
    (tmp_path / "machine.json").write_text(MACHINES[name].model_dump_json())
    lines = cli("doctor").stdout.splitlines()
    start = next(i for i, line in enumerate(lines) if line.split()[:3] == ["model", "bits", "with"])
    rows = lines[start + 1 : lines.index("", start)]
    assert lines[start].split()[-4:] == ["context", "tokens/s", "download", "takes"]
    assert sum(row.split()[0] in ("scout", "maverick", "demo") for row in rows) == 3
    assert "…" not in "".join(rows)
    assert max(map(len, lines)) <= int(columns)


DETAILS = {"environment", "seconds", "kept"}

BROKEN = {
    "raises": ("raise RuntimeError('bad day')", "RuntimeError: bad day"),
    "imports": ("import no_such_module", "No module named 'no_such_module'"),
    "exits": ("raise SystemExit(3)", "SystemExit: 3"),
    "hookless": ("", "implements no hook, neither llama4sdk_backends nor"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plugin_leaves_every_command_working(program: Any, install: Any, name: str) -> None:
    """A plugin that cannot be loaded is shown by doctor and backends with its cause, and other commands work."""
    code, cause = BROKEN[name]
    env = install("broken_plugin", code)
    doctor = program("doctor", env=env)
    assert doctor.returncode == 2
    assert cause in " ".join(doctor.stdout.split())
    assert "✗ 1 thing is broken; " in doctor.stdout
    assert cause in json.loads(program("backends", "--json", env=env).stdout)["failures"][0]["reason"]
    assert program("chat", "-m", "echo", "still here", env=env).stdout == "still here\n"


def test_a_backend_that_hangs_is_broken(program: Any, install: Any) -> None:
    """A backend that does not answer in time is broken, and doctor says so rather than hang."""
    code = """
        import threading
        from llama4sdk.backend import Backend, BackendInfo
        from llama4sdk.hookspecs import hookimpl

        @hookimpl
        def llama4sdk_backends():
            return [BackendInfo(name="hangs", summary="Hangs.", cls="hanging:Hangs")]

        class Hangs(Backend):
            name = "hangs"
            def offer(self, need, hardware):
                threading.Event().wait()
            def load(self, plan, *, progress=None):
                raise NotImplementedError
    """
    doctor = program("doctor", env=install("hanging", code) | {"LLAMA4SDK_OFFER_DEADLINE": "0.5"}, timeout=30)
    assert doctor.returncode == 2
    assert "did not answer within 0.5 s" in " ".join(doctor.stdout.split())


def test_verbose_shows_everything_but_secrets(cli: Any, environment: dict[str, str]) -> None:
    """--verbose shows versions, variables and timings, and only the names of keys."""
    environment |= {"HF_TOKEN": "hf_s3cret", "HF_ENDPOINT": "https://me:s3cret@hub.example/x"}
    text = cli("doctor", "--verbose").stdout
    for words in ("Runtimes", "Time it took to read", " ms", "LLAMA4SDK_PLUGINS", "HF_TOKEN", "https://hub.example/x"):
        assert words in text
    assert "s3cret" not in text + cli("doctor", "--json").stdout + cli("doctor", "--verbose", "--json").stdout
    assert "Runtimes" not in cli("doctor").stdout


def test_verbose_lists_local_models(cli: Any, environment: dict[str, str]) -> None:
    """--verbose lists each model in the SDK's own directory and in the Hugging Face cache, with its size."""
    sizes = {
        Path(environment["LLAMA4SDK_HOME"], "models", "demo", "x.gguf.part"): 3_000_000,
        Path(
            environment["HF_HUB_CACHE"], "models--meta-llama--Llama-4-Scout-17B-16E-Instruct", "blobs", "1f"
        ): 5_000_000,
    }
    for path, size in sizes.items():
        path.parent.mkdir(parents=True)
        path.write_bytes(bytes(size))
    report = json.loads(cli("doctor", "--verbose", "--json").stdout)
    assert [size for _, size in report["kept"]] == [3_000_000, 5_000_000]
    texts = {check["title"]: check["text"] for check in report["checks"] if check["section"] == "models"}
    assert "only in part: 3 MB in" in texts["demo"]
    assert "only in part: 5 MB in" in texts["scout"]
    assert "not on this machine" in texts["maverick"]
    assert json.loads(cli("doctor", "--json").stdout)["kept"] == []


def test_measured_speeds_are_saved_and_shown(program: Any, environment: dict[str, str]) -> None:
    """The report shows the measured speeds, and so does the next one."""
    first = program("doctor", "--bench")
    file = Path(environment["LLAMA4SDK_HOME"], "calibration.json")
    assert "calibration.json" in first.stderr
    assert [path.name for path in file.parent.iterdir()] == ["calibration.json"]
    day = json.loads(file.read_text())["day"]
    for report in (first, program("doctor")):
        assert f"measured {day}" in " ".join(report.stdout.split())


def test_bench_measures_this_machine_alone(cli: Any, environment: dict[str, str], tmp_path: Path) -> None:
    """Measuring is refused where the environment describes another machine."""
    environment["LLAMA4SDK_HARDWARE"] = str(tmp_path / "machine.json")
    (tmp_path / "machine.json").write_text(MACHINE.model_dump_json())
    result = cli("doctor", "--bench")
    assert result.exit_code == 2
    assert "Unset it to measure" in result.stderr


def test_ctrl_c_while_measuring_leaves_nothing(terminal: Any, environment: dict[str, str]) -> None:
    """Ctrl-C while measuring leaves no file and no figures, and prints one word."""
    with terminal("doctor", "--bench") as screen:
        screen.expect("Measuring memory")
        screen.interrupt("Interrupted.")
        assert screen.finish() == 130
        assert "Traceback" not in screen.seen
    home = Path(environment["LLAMA4SDK_HOME"])
    assert not home.exists() or not any(home.iterdir())


def test_a_store_that_cannot_be_written_is_a_hindrance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home below a file is a warning; one that can still be created is not."""
    file = tmp_path / "file"
    file.touch()
    for home, warnings in ((file / "x", 1), (tmp_path / "new" / "x", 0)):
        monkeypatch.setenv("LLAMA4SDK_HOME", str(home))
        found = gather()
        assert found.writable is not bool(warnings)
        stores = [check for check in examine(found).checks if check.title == "Store"]
        assert [(check.status, bool(check.fix)) for check in stores] == [("warn", True)] * warnings
