"""Every test: no network beyond this machine, and none of the user's own settings."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import settings

KEPT = {"LLAMA4SDK_HOME"}


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("LLAMA4SDK_") and name not in KEPT:
            monkeypatch.delenv(name)


def pytest_configure(config: pytest.Config) -> None:
    """Refuse connections to other machines, by an audit hook that no library can go around.

    What hypothesis tries is the same in every run, so that a failure is one of the change at hand; HYPOTHESIS=random
    looks further.
    """
    _make_benchmarks_importable()
    sys.addaudithook(_only_this_machine)
    settings.register_profile("repeatable", derandomize=True, database=None)
    if os.environ.get("HYPOTHESIS") != "random":
        settings.load_profile("repeatable")


def _make_benchmarks_importable() -> None:
    """Let tests import ``benchmarks`` without the checkout on the path, where it would hide the installed wheels."""
    package = ModuleType("benchmarks")
    package.__path__ = [str(Path(__file__).parent / "benchmarks")]
    sys.modules.setdefault("benchmarks", package)


def _only_this_machine(event: str, args: tuple[object, ...]) -> None:
    if event != "socket.connect":
        return
    address = args[1]
    if isinstance(address, tuple) and str(address[0]) not in ("127.0.0.1", "::1", "localhost"):
        raise OSError(f"tests must not reach the network, but something connected to {address}")
