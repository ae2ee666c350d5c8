"""Facts about this machine and installation, gathered once for the doctor to judge."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Final, TypeAlias

from pydantic import Field

from llama4sdk import __version__, settings, weights
from llama4sdk._values import Value
from llama4sdk.backend import Need
from llama4sdk.catalog import models as catalog
from llama4sdk.catalog.endpoint_tables import listings
from llama4sdk.client import Client
from llama4sdk.errors import Llama4Error
from llama4sdk.hardware import Hardware
from llama4sdk.plan import Plan
from llama4sdk.planning import planner
from llama4sdk.planning.offers import Answer, collect
from llama4sdk.planning.policy import Policy
from llama4sdk.probe import timed_probe
from llama4sdk.probe.bounded_read import Reader
from llama4sdk.probe.software import outdated_requirements
from llama4sdk.registry import PluginFailure, Registered, Registry

#: Each model that the catalogue knows by name, and where its weights are; ``None`` when they are not on this machine.
ModelPaths: TypeAlias = dict[str, Path | None]

#: The path and the bytes so far of downloads that were interrupted, by model.
PartialDownloads: TypeAlias = dict[str, tuple[Path, int]]

#: The path and the bytes of every model on this machine.
LocalModels: TypeAlias = tuple[tuple[Path, int], ...]

#: By distribution, packages that are too old for it: name, version, the least version that it needs.
OutdatedPackages: TypeAlias = dict[str, tuple[tuple[str, str, str], ...]]

#: The message of the self-check, which the echo backend must repeat.
ECHO_MESSAGE: Final = "Is anybody there?"

#: Time to read the directories of weights.
STORE_DEADLINE_SECONDS: Final = 1.5


class Installation(Value):
    """The machine and what is installed on it, as the report shows it again."""

    version: str
    python: str
    hardware: Hardware
    backends: tuple[Registered, ...]
    failures: tuple[PluginFailure, ...]
    #: The plan of ``Client()``; ``None`` when there is none.
    plan: Plan | None = None
    #: The variables that are set and matter, without secrets.
    environment: dict[str, str] = Field(default_factory=dict)
    #: Time of each reader of the probe; ``None`` for one that did not answer.
    seconds: dict[str, float | None] = Field(default_factory=dict)
    #: Looked for only when details are wanted.
    local_models: LocalModels = Field(default=(), serialization_alias="kept")


class Facts(Installation):
    """Everything that ``report.examine`` takes into account."""

    hardware_file: Path | None = None
    home: Path
    #: Whether files can be written to ``home``.
    writable: bool = True
    #: For each backend, the modules it requires that are not installed.
    missing_modules: dict[str, tuple[str, ...]]
    answers: tuple[Answer, ...]
    models: ModelPaths
    partial_downloads: PartialDownloads = Field(default_factory=dict)
    outdated: OutdatedPackages = Field(default_factory=dict)
    #: The reason why there is no plan.
    plan_error: str | None = None
    #: The error in the user's own table of endpoints; ``None`` when there is none.
    endpoints_error: str | None = None
    #: The echo backend's answer to ``ECHO_MESSAGE``, or its error; ``None`` when it is disabled.
    echo: str | None = None


def gather(*, details: bool = False) -> Facts:
    """Look at this machine and installation. Loads no model, and raises nothing that a plugin raised.

    ``details`` adds the sizes of the models on this machine, which can take a second to sum up.
    """
    file, until = settings.hardware_file(), time.monotonic() + STORE_DEADLINE_SECONDS
    stores = Reader[tuple[ModelPaths, PartialDownloads, bool]]("models", _read_stores, ({}, {}, True))
    sizes = Reader[LocalModels]("sizes of models", lambda: tuple(weights.stored_models()) if details else (), ())
    registry = Registry.discover()
    libraries = Reader[OutdatedPackages]("what plugins require", lambda: _outdated_packages(registry), {})
    hardware, seconds = (Hardware.from_file(file), {}) if file else timed_probe()
    answers, plan, plan_error = _plan(registry, hardware)
    models, partial_downloads, writable = stores.result(until)
    if problems := [problem for reader in (stores, libraries) if (problem := reader.problem(until))]:
        hardware = hardware.model_copy(update={"problems": (*hardware.problems, *problems)})
    return Facts(
        version=__version__,
        python=platform.python_version(),
        hardware=hardware,
        hardware_file=file,
        home=settings.home(),
        writable=writable,
        backends=registry.backends,
        failures=registry.failures,
        missing_modules={entry.info.name: entry.info.missing_modules() for entry in registry.backends},
        answers=answers,
        models=models,
        partial_downloads=partial_downloads,
        outdated=libraries.result(until),
        environment=settings.in_use(),
        seconds=dict(seconds),
        local_models=sizes.result(until),
        plan=plan,
        plan_error=plan_error,
        endpoints_error=_endpoints_error(),
        echo=_echo(registry, hardware),
    )


def _endpoints_error() -> str | None:
    try:
        listings()
    except Llama4Error as error:
        return error.message
    return None


def _read_stores() -> tuple[ModelPaths, PartialDownloads, bool]:
    models = {spec.name: weights.locate(spec.name) for spec in catalog.MODELS if spec.released}
    partial = {name: part for name, path in models.items() if path is None and (part := weights.incomplete_model(name))}
    return models, partial, _is_writable(settings.home())


def _is_writable(home: Path) -> bool:
    """Whether weights can be written there, or where it does not exist yet, whether it can be created."""
    existing = next(path for path in (home, *home.parents) if path.exists() or path == path.parent)
    return existing.is_dir() and os.access(existing, os.W_OK)


def _outdated_packages(registry: Registry) -> OutdatedPackages:
    packages = {entry.distribution: tuple(outdated_requirements(entry.distribution)) for entry in registry.backends}
    return {distribution: old for distribution, old in packages.items() if old}


def _plan(registry: Registry, hardware: Hardware) -> tuple[tuple[Answer, ...], Plan | None, str | None]:
    """Every backend's answers, and the plan that ``Client()`` would make of them, or the reason why there is none.

    Each backend is asked only once.
    """
    needs = planner.needs(Need(), Policy(), backend=None)
    # Need() also reaches backends that bring models of their own, and so shows those that hang or raise.
    answers = collect(registry, registry.names, (*needs, Need()), hardware, deadline=settings.offer_deadline())
    try:
        plan = planner.choose([answer for answer in answers if answer.need in needs], hardware, Policy())
    except Llama4Error as error:
        return answers, None, error.message
    return answers, plan, None


def _echo(registry: Registry, hardware: Hardware) -> str | None:
    if "echo" not in registry.names:
        return None
    try:
        with Client("echo", registry=registry, hardware=hardware, backend="echo") as client:
            return client.chat(ECHO_MESSAGE).text
    except Llama4Error as error:
        return error.message
