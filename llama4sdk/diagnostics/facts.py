"""TODO."""

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
from llama4sdk.client import Client
from llama4sdk.errors import Llama4Error
from llama4sdk.hardware import Hardware
from llama4sdk.plan import Plan
from llama4sdk.planning import planner
from llama4sdk.planning.offers import Answer, collect
from llama4sdk.planning.policy import Policy
from llama4sdk.probe import timed_probe
from llama4sdk.probe.bounded_read import Reader
from llama4sdk.probe.software import outdated
from llama4sdk.registry import PluginFailure, Registered, Registry

__all__ = ["Facts", "gather"]


Located: TypeAlias = dict[str, Path | None]


Begun: TypeAlias = dict[str, tuple[Path, int]]


Kept: TypeAlias = tuple[tuple[Path, int], ...]


Outdated: TypeAlias = dict[str, tuple[tuple[str, str, str], ...]]


ECHO: Final = "Is anybody there?"


STORE_DEADLINE: Final = 1.5
"""Seconds for the directories of weights."""


class Facts(Value):
    """All that the judgement needs."""

    version: str
    python: str
    hardware: Hardware
    hardware_file: Path | None = None
    home: Path
    writable: bool = True
    """Whether something can be kept there."""
    backends: tuple[Registered, ...]
    failures: tuple[PluginFailure, ...]
    absent: dict[str, tuple[str, ...]]
    """For each backend, the modules it requires that are not installed."""
    answers: tuple[Answer, ...]
    models: Located
    """Where each model that ``catalog`` knows is."""
    unfinished: Begun = Field(default_factory=dict)
    """Of those that are not here but have begun to arrive, where and how many bytes."""
    outdated: Outdated = Field(default_factory=dict)
    """For each distribution of a backend what it has too old: name, version, the least it needs."""
    environment: dict[str, str] = Field(default_factory=dict)
    """The variables that are set and matter, without secrets."""
    seconds: dict[str, float | None] = Field(default_factory=dict)
    """What each reader of the probe took; ``None`` for one that did not answer."""
    kept: Kept = ()
    """The models on this machine, with their bytes; looked for only when details are wanted."""
    plan: Plan | None = None
    no_plan: str | None = None
    """Why there is no plan."""
    table: str | None = None
    """What is wrong with the user's own table of endpoints."""
    echo: str | None = None
    """What the echo backend answered, or why it did not; ``None`` when it is disabled."""


def gather(*, details: bool = False) -> Facts:
    """Look at this machine and installation. Loads no model, and raises for no plugin's sake.

    ``details`` are the sizes of what is kept, which can take a second to add up.
    """
    file, until = settings.hardware_file(), time.monotonic() + STORE_DEADLINE
    nothing: tuple[Located, Begun, bool] = ({}, {}, True)
    stores = Reader("models", _stores, nothing)
    no_sizes: Kept = ()
    sizes = Reader("sizes of models", lambda: tuple(weights.kept()) if details else no_sizes, no_sizes)
    registry = Registry.discover()
    nothing_old: Outdated = {}
    libraries = Reader("what plugins require", lambda: _outdated(registry), nothing_old)
    hardware, seconds = (Hardware.from_file(file), {}) if file else timed_probe()
    answers, plan, no_plan = _planned(registry, hardware)
    models, unfinished, writable = stores.result(until)
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
        absent={entry.info.name: entry.info.missing_modules() for entry in registry.backends},
        answers=answers,
        models=models,
        unfinished=unfinished,
        outdated=libraries.result(until),
        environment=settings.in_use(),
        seconds=dict(seconds),
        kept=sizes.result(until),
        plan=plan,
        no_plan=no_plan,
        table=_table(),
        echo=_echo(registry, hardware),
    )


def _table() -> str | None:
    from llama4sdk.catalog.endpoints import listings

    try:
        listings()
    except Llama4Error as error:
        return error.message
    return None


def _stores() -> tuple[Located, Begun, bool]:
    models = {spec.name: weights.locate(spec.name) for spec in catalog.MODELS if spec.released}
    begun = {name: found for name, path in models.items() if path is None and (found := weights.unfinished(name))}
    return models, begun, _writable(settings.home())


def _writable(home: Path) -> bool:
    """Whether weights could be kept there; where it does not exist yet, whether it could be made."""
    place = next(place for place in (home, *home.parents) if place.exists() or place == place.parent)
    return place.is_dir() and os.access(place, os.W_OK)


def _outdated(registry: Registry) -> Outdated:
    found = {entry.distribution: tuple(outdated(entry.distribution)) for entry in registry.backends}
    return {distribution: parts for distribution, parts in found.items() if parts}


def _planned(registry: Registry, hardware: Hardware) -> tuple[tuple[Answer, ...], Plan | None, str | None]:
    """What every backend answers, and what ``Client()`` would make of it; each backend is asked only once."""
    wanted = planner.needs(Need(), Policy(), backend=None)
    # Need() reaches those too that bring models of their own, so that one that hangs or raises is found out.
    answers = collect(registry, registry.names, (*wanted, Need()), hardware, deadline=settings.offer_deadline())
    try:
        plan = planner.choose([answer for answer in answers if answer.need in wanted], hardware, Policy())
    except Llama4Error as error:
        return answers, None, error.message
    return answers, plan, None


def _echo(registry: Registry, hardware: Hardware) -> str | None:
    if "echo" not in registry.names:
        return None
    try:
        with Client("echo", registry=registry, hardware=hardware, backend="echo") as client:
            return client.chat(ECHO).text
    except Llama4Error as error:
        return error.message
