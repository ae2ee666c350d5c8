"""Observe a backend in a process of its own: ``python -m llama4sdk.testing.child``, run by the conformance kit.

imports             the modules that discovering this plugin loads
offer <backend>     what ``offer`` answers to the need and hardware on standard input, and what it touched
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from llama4sdk._values import Value
from llama4sdk.backend import Need, Offer, Unavailable
from llama4sdk.hardware import Hardware
from llama4sdk.registry import Registry

ACCELERATOR_FILES: Final = ("/dev/nvidia", "/dev/kfd", "/dev/dri")


class Question(Value):
    """A need and a machine, for the child's backend."""

    need: Need
    hardware: Hardware


class OfferReport(Value):
    """The answer to one question, and the traces it left in its process."""

    answer: Offer | Unavailable
    seconds: float
    #: Network addresses it connected to, or names it looked up.
    connections: tuple[str, ...]
    #: Accelerator files it holds open, or the framework that opened a device.
    devices: tuple[str, ...]


def imports_of(plugin: str) -> frozenset[str]:
    """The modules that finding this plugin, and asking its hook, loads into a fresh interpreter."""
    return frozenset(json.loads(_run(["imports"], plugin)))


def offer_report(plugin: str, backend: str, question: Question, *, timeout: float = 120) -> OfferReport:
    """Ask in a fresh interpreter. Raises subprocess.TimeoutExpired, or CalledProcessError when ``offer`` raises."""
    return OfferReport.model_validate_json(_run(["offer", backend], plugin, question.model_dump_json(), timeout))


def _run(arguments: list[str], plugin: str, stdin: str = "", timeout: float = 120) -> str:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "LLAMA4SDK_PLUGINS": plugin}
    return subprocess.run(  # noqa: S603 - this very module; -P lets no working directory stand in for it
        [sys.executable, "-P", "-m", "llama4sdk.testing.child", *arguments],
        input=stdin,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=timeout,
        check=True,
    ).stdout


def _report_imports() -> str:
    before = set(sys.modules)
    Registry.discover()
    return json.dumps(sorted(set(sys.modules) - before))


def _report_offer(name: str) -> str:
    question = Question.model_validate_json(sys.stdin.read())
    backend = Registry.discover().backend(name)
    connections: list[str] = []
    sys.addaudithook(lambda event, args: _note_connection(connections, event, args))
    before, start = _open_devices(), time.monotonic()
    answer = backend.offer(question.need, question.hardware)
    return OfferReport(
        answer=answer,
        seconds=time.monotonic() - start,
        connections=tuple(connections),
        devices=tuple(sorted(_open_devices() - before)),
    ).model_dump_json()


def _note_connection(seen: list[str], event: str, args: tuple[object, ...]) -> None:
    if event in ("socket.connect", "socket.getaddrinfo"):
        seen.append(str(args[1] if event == "socket.connect" else args[0]))


def _open_devices() -> set[str]:
    devices = {name for name in _open_files() if name.startswith(ACCELERATOR_FILES)}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        devices.add("CUDA, through torch")
    return devices


def _open_files() -> set[str]:
    """By way of /proc, so on Linux only; elsewhere nothing is seen."""
    names = set()
    folder = Path("/proc/self/fd")
    for entry in folder.iterdir() if folder.is_dir() else ():
        try:
            names.add(str(entry.readlink()))
        except OSError:  # the descriptor of the listing itself is gone by now
            continue
    return names


def main(arguments: list[str]) -> None:
    """Write one report to standard output."""
    report = _report_imports() if arguments == ["imports"] else _report_offer(arguments[1])
    sys.stdout.write(report)


if __name__ == "__main__":
    main(sys.argv[1:])
