"""Plugins that break, each in its own way, installed as the wheels they would be: every command goes on working."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

PRELUDE = """
import sys, time
from llama4sdk.backend import Backend, BackendInfo, Offer, Unavailable
from llama4sdk.hookspecs import hookimpl
from llama4sdk.plan import Placement

def card(**fields):
    return BackendInfo(**{"name": __name__, "summary": "Breaks on purpose.", "cls": __name__ + ":Mine", **fields})
"""

BACKEND = """
@hookimpl
def llama4sdk_backends():
    return [card()]

class Mine(Backend):
    name = __name__

    def load(self, plan, *, progress=None):
        raise OSError("never reached")

    def offer(self, need, hardware):
"""

#: Plugins that bring no backend: their source, and the cause that must be shown.
UNLOADABLE = {
    "import_error": ("import a_module_nobody_has", "ModuleNotFoundError: No module named 'a_module_nobody_has'"),
    "syntax_error": ("def broken(:", "SyntaxError"),
    "exits": ("raise SystemExit('no licence found')", "SystemExit: no licence found"),
    "hook_raises": (
        "@hookimpl\ndef llama4sdk_backends():\n    raise RuntimeError('the moon is full')",
        "RuntimeError: the moon is full",
    ),
    "old_contract": (
        "@hookimpl\ndef llama4sdk_backends():\n    return [card(contract=99)]",
        "backend 'old_contract' was written for contract 99, this core speaks 1",
    ),
    "duplicate": (
        "@hookimpl\ndef llama4sdk_backends():\n    return [card(name='echo')]",
        "backend 'echo' is already provided by llama4sdk ",
    ),
    "no_list": ("@hookimpl\ndef llama4sdk_backends():\n    return 42", "its hook returned 'int', not a list"),
    "nothing": ("@hookimpl\ndef llama4sdk_backends():\n    return None", "its hook returned 'NoneType', not a list"),
    "no_cards": (
        "@hookimpl\ndef llama4sdk_backends():\n    return ['my backend']",
        "its hook returned 'str' where a BackendInfo belongs",
    ),
    "no_hook": ("answer = 42", "implements no hook, neither llama4sdk_backends nor llama4sdk_exporters"),
    "unknown_hook": ("@hookimpl\ndef llama4sdk_backend():\n    return [card()]", "unknown hook 'llama4sdk_backend'"),
    "wrong_arguments": ("@hookimpl\ndef llama4sdk_backends(config):\n    return [card()]", "{'config'}"),
    "bad_card": ("@hookimpl\ndef llama4sdk_backends():\n    return [card(name='Not A Name')]", "should match pattern"),
}

#: Plugins whose backend is listed, but cannot be used.
UNUSABLE = {
    "no_such_class": (
        "@hookimpl\ndef llama4sdk_backends():\n    return [card(cls='no_such_class:Missing')]",
        "module 'no_such_class' has no attribute 'Missing'",
    ),
    "no_backend": (
        "@hookimpl\ndef llama4sdk_backends():\n    return [card(cls='no_backend:card')]",
        "no_backend",
    ),
    "offer_raises": (BACKEND + "        raise KeyError('vram')", "its offer() raised KeyError: 'vram'"),
    "offer_exits": (BACKEND + "        sys.exit('no GPU')", "its offer() raised SystemExit: no GPU"),
    "offer_garbage": (BACKEND + "        return 'cuda:0'", "its offer() returned 'str'"),
    "offer_sleeps": (BACKEND + "        time.sleep(60)", "it did not answer within"),
}

ALL = {**UNLOADABLE, **UNUSABLE}

QUESTION = "Is anybody there?"

#: Seconds that backends have to make offers where those that work must not be late, however busy the machine is.
PATIENT = "8"


class Done(NamedTuple):
    """Output and exit status of a command."""

    status: int
    stdout: str
    stderr: str


def write_wheel(folder: Path, name: str, source: str) -> Path:
    """A wheel of one module ``name``, registered as a plugin of that name."""
    distribution = f"broken_{name}"
    info = f"{distribution}-1.0.dist-info"
    files = {
        f"{name}.py": source,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[llama4sdk]\n{name} = {name}\n",
    }
    rows = [f"{path},sha256={_digest(text)},{len(text.encode())}" for path, text in files.items()]
    path = folder / f"{distribution}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for member, text in files.items():
            wheel.writestr(member, text)
        wheel.writestr(f"{info}/RECORD", "\n".join([*rows, f"{info}/RECORD,,", ""]))
    return path


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with every broken plugin installed by pip."""
    wheels, target = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("site")
    paths = [write_wheel(wheels, name, PRELUDE + source) for name, (source, _) in ALL.items()]
    options = ["--quiet", "--no-index", "--no-deps", "--no-compile", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, "--target", target, *paths], check=True)
    return target


def run(site: Path, arguments: Sequence[str], **settings: str) -> Done:
    """Run Python with the broken plugins installed, away from any checkout, and without the heavy plugins."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LLAMA4SDK_")} | {
        "PYTHONPATH": str(site),
        "LLAMA4SDK_HOME": str(site / "home"),
        "LLAMA4SDK_DISABLE_PLUGINS": "torch,onnx,openai,ollama,aws",
        "LLAMA4SDK_OFFER_DEADLINE": "1",
        "COLUMNS": "1000",
        **settings,
    }
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=site,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def command(site: Path, *arguments: str, **settings: str) -> Done:
    """Run ``llama4sdk`` the same way; whatever happens, no traceback reaches the user."""
    done = run(site, ["-m", "llama4sdk", *arguments], **settings)
    assert "Traceback" not in done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def diagnosis(broken: Path) -> Mapping[str, str]:
    """The doctor's verdict on each broken backend and plugin."""
    done = command(broken, "doctor", "--json", LLAMA4SDK_OFFER_DEADLINE=PATIENT)
    checks = json.loads(done.stdout)["checks"]
    assert done.status == 2
    return {
        check["title"]: f"{check['source']}: {check['text']}"
        for check in checks
        if (check["section"], check["status"]) == ("backends", "fail")
    }


@pytest.mark.parametrize("name", ALL)
def test_doctor_shows_each_cause(diagnosis: Mapping[str, str], name: str) -> None:
    """``doctor`` names the broken plugin, its distribution and version, and the cause."""
    assert diagnosis[name].startswith(f"broken_{name} 1.0: broken: ")
    assert ALL[name][1] in diagnosis[name]


def test_doctor_blames_nobody_else(diagnosis: Mapping[str, str]) -> None:
    """A working backend is not called broken because of its neighbours."""
    assert set(diagnosis) == set(ALL)


def test_doctor_shows_them_to_people_too(broken: Path) -> None:
    """The report for people has the same causes, and one count."""
    done = command(broken, "doctor", LLAMA4SDK_OFFER_DEADLINE=PATIENT)
    assert done.status == 2
    assert f"{len(ALL)} things are broken" in done.stdout
    for _, cause in ALL.values():
        assert cause in done.stdout


def test_the_registry_keeps_failures_as_values(broken: Path) -> None:
    """``Registry.discover`` raises for none of them, and keeps each cause."""
    program = """
import json
from llama4sdk.registry import Registry
registry = Registry.discover()
failures = {failure.plugin: (failure.distribution, failure.reason) for failure in registry.failures}
print(json.dumps([failures, sorted(registry.names)]))
"""
    done = run(broken, ["-c", program])
    assert done.status == 0, done.stderr
    failures, names = json.loads(done.stdout)
    assert failures.keys() == UNLOADABLE.keys()
    for name, (distribution, reason) in failures.items():
        assert distribution == f"broken_{name}"
        assert UNLOADABLE[name][1] in reason
    assert {"echo", *UNUSABLE} <= set(names)


def test_a_client_works_among_them(broken: Path) -> None:
    """A client answers with a backend that works, and a plan that fails carries every cause."""
    program = f"""
from llama4sdk import Client
from llama4sdk.errors import NoBackendError
with Client("echo") as client:
    print(client.chat({QUESTION!r}).text)
try:
    Client("scout").plan()
except NoBackendError as error:
    print(*error.rejections, sep="\\n")
"""
    done = run(broken, ["-c", program])
    assert done.status == 0, done.stderr
    assert done.stdout.splitlines()[0] == QUESTION
    for name, (_, cause) in UNUSABLE.items():
        assert any(f"on {name}: " in line and cause in line for line in done.stdout.splitlines())


@pytest.mark.parametrize("name", UNUSABLE)
def test_choosing_an_unusable_backend_is_a_clear_error(broken: Path, name: str) -> None:
    """Asked for by name, a broken backend is an error with the cause, and an exit status that says so."""
    done = command(broken, "chat", "--backend", name, QUESTION)
    assert done.status != 0
    assert UNUSABLE[name][1] in done.stderr


@pytest.mark.parametrize("name", ["import_error", "old_contract"])
def test_choosing_an_unloadable_plugin_is_a_clear_error(broken: Path, name: str) -> None:
    """Asked for by name, a plugin that could not be loaded is an error with the cause."""
    done = command(broken, "chat", "--backend", name, QUESTION)
    assert done.status == 2
    assert "is installed but broken" in done.stderr
    assert UNLOADABLE[name][1] in done.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["chat", "--model", "echo", QUESTION], QUESTION),
        (["generate", "--model", "echo", QUESTION], QUESTION),
        (["plan", "--model", "echo"], "echo"),
        (["backends"], "echo"),
        (["models"], "scout"),
        (["version"], "llama4sdk"),
        (["--help"], "doctor"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_every_command_goes_on_working(broken: Path, arguments: Sequence[str], expected: str) -> None:
    """With all of them installed, a command does what it does without them."""
    done = command(broken, *arguments)
    assert done.status == 0, done.stderr
    assert expected in done.stdout


def test_the_deny_list_silences_a_plugin(broken: Path) -> None:
    """A plugin named in LLAMA4SDK_DISABLE_PLUGINS is not loaded, so not broken; spaces do not matter."""
    report = json.loads(
        command(
            broken, "doctor", "--json", LLAMA4SDK_DISABLE_PLUGINS="torch,onnx,openai,ollama,aws , exits,offer_sleeps"
        ).stdout
    )
    titles = {check["title"] for check in report["checks"]}
    assert not titles & {"torch", "exits", "offer_sleeps"}
    assert {"echo", "import_error"} <= titles


def test_the_allow_list_loads_nothing_else(broken: Path) -> None:
    """With LLAMA4SDK_PLUGINS only those named are loaded, and the rest is not even imported."""
    done = command(broken, "backends", "--json", LLAMA4SDK_PLUGINS="echo,hook_raises")
    report = json.loads(done.stdout)
    assert [entry["info"]["name"] for entry in report["backends"]] == ["echo"]
    assert [failure["plugin"] for failure in report["failures"]] == ["hook_raises"]
