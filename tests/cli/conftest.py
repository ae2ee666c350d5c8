"""The program under test: in this process, as a process of its own, and on a terminal of its own."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import textwrap
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from typer.testing import CliRunner

from llama4sdk.cli.app import app

SLOW_BACKEND = '''
"""A backend that never stops writing."""

import time

from llama4sdk.backend import Backend, BackendInfo, Capabilities, Engine, Offer
from llama4sdk.events import TextDelta
from llama4sdk.hookspecs import hookimpl
from llama4sdk.plan import Placement


@hookimpl
def llama4sdk_backends():
    return [BackendInfo(name="slow", summary="Slow.", cls="slow_backend:Slow", models=("slow",))]


class Slow(Backend):
    name = "slow"

    def offer(self, need, hardware):
        where = Placement(kind="local", devices=("cpu",))
        return Offer(model="slow", placement=where, context_length=100, reason="it is slow anywhere")

    def load(self, plan, *, progress=None):
        return SlowEngine()


class SlowEngine(Engine):
    model = "slow"
    context_length = 100

    def stream(self, request):
        yield TextDelta(text=f"answer {sum(m.role == 'user' for m in request.messages)} ")
        while True:
            time.sleep(0.02)
            yield TextDelta(text="and ")
'''


HEAVY_BACKEND = '''
"""A backend that loads for as many hundredths of a second as HEAVY says, if anybody asks how far it is."""

import os
import time

from llama4sdk.backend import BackendInfo
from llama4sdk.echo import EchoBackend
from llama4sdk.hookspecs import hookimpl


@hookimpl
def llama4sdk_backends():
    return [BackendInfo(name="heavy", summary="Heavy.", cls="heavy_backend:Heavy", models=("echo",))]


class Heavy(EchoBackend):
    name = "heavy"

    def load(self, plan, *, progress=None):
        steps = int(os.environ["HEAVY"]) if progress else 0
        for step in range(steps):
            time.sleep(0.01)
            progress((step + 1) * 10**6, steps * 10**6)
        return super().load(plan)
'''


SEEING_BACKEND = '''
"""A backend that names what it is shown: an address, a video's tiles or a file's bytes, and the text."""

from llama4sdk.backend import Backend, BackendInfo, Capabilities, Engine, Offer
from llama4sdk.events import Finish, TextDelta
from llama4sdk.hookspecs import hookimpl
from llama4sdk.messages import ImagePart
from llama4sdk.plan import Placement


@hookimpl
def llama4sdk_backends():
    abilities = Capabilities(features=frozenset({"chat", "images"}))
    cls = "seeing_backend:Seeing"
    return [BackendInfo(name="seeing", summary="Sees.", cls=cls, models=("seeing",), capabilities=abilities)]


class Seeing(Backend):
    name = "seeing"

    def offer(self, need, hardware):
        where = Placement(kind="local", devices=("cpu",))
        return Offer(model="seeing", placement=where, context_length=100, reason="it only looks")

    def load(self, plan, *, progress=None):
        return SeeingEngine()


class SeeingEngine(Engine):
    model = "seeing"
    context_length = 100

    def stream(self, request):
        for part in request.messages[-1].parts:
            if isinstance(part, ImagePart):
                tiles = part.max_tiles and f"tiles:{part.max_tiles}"
                yield TextDelta(text=f"{part.url or tiles or len(part.data)} ")
            else:
                yield TextDelta(text=part.text)
        yield Finish(reason="stop")
'''


EMBEDDING_BACKEND = '''
"""A backend whose vectors are a text's length and number of words."""

from llama4sdk.backend import Backend, BackendInfo, Capabilities, Engine, Offer
from llama4sdk.hookspecs import hookimpl
from llama4sdk.plan import Placement
from llama4sdk.results import Embeddings


@hookimpl
def llama4sdk_backends():
    abilities = Capabilities(features=frozenset({"embed"}))
    cls = "embedding_backend:Measure"
    return [BackendInfo(name="measure", summary="Measures.", cls=cls, models=("measure",), capabilities=abilities)]


class Measure(Backend):
    name = "measure"

    def offer(self, need, hardware):
        where = Placement(kind="local", devices=("cpu",))
        return Offer(model="measure", placement=where, context_length=100, reason="it only counts")

    def load(self, plan, *, progress=None):
        return MeasureEngine()


class MeasureEngine(Engine):
    model = "measure"
    context_length = 100

    def stream(self, request):
        raise NotImplementedError

    def embed(self, request):
        vectors = tuple((float(len(text)), float(len(text.split()))) for text in request.inputs)
        return Embeddings(vectors=vectors, model=self.model, backend="measure")
'''


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """No models, no network, only the echo backend, no colour."""
    return {
        "LLAMA4SDK_HOME": str(tmp_path / "home"),
        "HF_HUB_CACHE": str(tmp_path / "hub"),
        "LLAMA4SDK_PLUGINS": "echo",
        "PIP_INDEX_URL": "http://127.0.0.1:1/simple",
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_FIND_LINKS": "",
        "PIP_EXTRA_INDEX_URL": "",
        "PIP_RETRIES": "0",
        "HF_ENDPOINT": "http://127.0.0.1:1",
        "COLUMNS": "100",
        "NO_COLOR": "1",
    }


@pytest.fixture
def cli(environment: Mapping[str, str]) -> Callable[..., Any]:
    """Run a command in this process: its result has exit_code, stdout and stderr."""

    def run(*arguments: str, input: str | None = None) -> Any:  # noqa: A002
        result = CliRunner().invoke(app(), arguments, input=input, env=dict(environment), prog_name="llama4sdk")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture
def program(environment: Mapping[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command as a process of its own."""

    def run(*arguments: str, env: Mapping[str, str] = {}, **options: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "llama4sdk", *arguments]
        options.setdefault("stdin", subprocess.DEVNULL if "input" not in options else None)
        everything = {**os.environ, **environment, **env}
        return subprocess.run(command, capture_output=True, text=True, env=everything, check=False, **options)

    return run


@pytest.fixture
def install(tmp_path: Path) -> Callable[[str, str], dict[str, str]]:
    """Install a module as a plugin of its own distribution; gives the environment that makes it visible."""

    def add(module: str, code: str) -> dict[str, str]:
        site = tmp_path / "site"
        info = site / f"{module}-1.2.dist-info"
        info.mkdir(parents=True)
        (site / f"{module}.py").write_text(textwrap.dedent(code))
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[llama4sdk]\n{module} = {module}\n")
        return {"PYTHONPATH": str(site), "LLAMA4SDK_PLUGINS": f"echo,{module}"}

    return add


@pytest.fixture
def slow(install: Callable[[str, str], dict[str, str]]) -> dict[str, str]:
    """The environment in which the backend 'slow' is installed."""
    return install("slow_backend", SLOW_BACKEND)


@pytest.fixture
def heavy(install: Callable[[str, str], dict[str, str]]) -> dict[str, str]:
    """The environment in which the backend 'heavy' is installed; set HEAVY."""
    return install("heavy_backend", HEAVY_BACKEND)


@pytest.fixture
def measuring(install: Callable[[str, str], dict[str, str]]) -> dict[str, str]:
    """The environment in which the backend 'measure' is installed."""
    return install("embedding_backend", EMBEDDING_BACKEND)


@pytest.fixture
def seeing(install: Callable[[str, str], dict[str, str]]) -> dict[str, str]:
    """The environment in which the backend 'seeing' is installed."""
    return install("seeing_backend", SEEING_BACKEND)


class Terminal:
    """The program on a terminal of its own."""

    def __init__(self, arguments: tuple[str, ...], environment: Mapping[str, str], columns: int = 80) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "llama4sdk", *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, **environment, "TERM": "xterm"},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self.seen = ""

    def press(self, text: str) -> None:
        os.write(self._master, text.encode())

    def expect(self, text: str, *, within: float = 30) -> str:
        """Read until the text appears; gives what came since the last time, and forgets it."""
        until = time.monotonic() + within
        while text not in self.seen:
            if time.monotonic() > until or not self._read():
                raise AssertionError(f"{text!r} never came; this did: {self.seen!r}")
        before, _, self.seen = self.seen.partition(text)
        return before + text

    def interrupt(self, expected: str) -> None:
        """Press Ctrl-C until this is said: Python can lose a press that comes just before it begins to read."""
        for _ in range(20):
            self.press("\x03")
            with contextlib.suppress(AssertionError):
                self.expect(expected, within=1)
                return
        raise AssertionError(f"{expected!r} never came; this did: {self.seen!r}")

    def finish(self) -> int:
        """Read to the end; the exit status."""
        while self._read():
            pass
        return self.process.wait(10)

    def _read(self) -> bool:
        if not select.select([self._master], [], [], 1)[0]:
            return True
        try:
            data = os.read(self._master, 65536)
        except OSError:  # what Linux says when the other side is closed
            return False
        self.seen += data.decode()
        return bool(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


@pytest.fixture
def terminal(environment: Mapping[str, str]) -> Callable[..., Terminal]:
    """Start the program on a terminal; a context manager."""

    def start(*arguments: str, env: Mapping[str, str] = {}, columns: int = 80) -> Terminal:
        return Terminal(arguments, {**environment, **env, "COLUMNS": str(columns)}, columns)

    return start
