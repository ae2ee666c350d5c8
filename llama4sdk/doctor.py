"""What this installation can do on this machine, as values: gathered once, judged by a pure function.

Only something broken is a failure: a plugin that cannot be loaded, a backend that raises or hangs, an engine that gives
wrong answers. A warning is what keeps something from working: a library built for other devices, a full disk. What is
merely absent (a GPU, a model, an optional package) is said, with what would bring it.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from pydantic import Field

from llama4sdk import __version__, catalog, settings, weights
from llama4sdk._values import Value
from llama4sdk.backend import Need, Offer, Unavailable
from llama4sdk.client import Client
from llama4sdk.errors import Llama4Error
from llama4sdk.findings import Check, Status, check, describe_machine
from llama4sdk.hardware import Hardware
from llama4sdk.obstacles import describe_devices, describe_libraries, describe_models, describe_room
from llama4sdk.outlook import LINK_SPEED, Outlook, outlook
from llama4sdk.planning import planner
from llama4sdk.planning.offers import Answer, Fault, collect
from llama4sdk.planning.plan import Plan
from llama4sdk.planning.policy import Policy
from llama4sdk.probe import timed_probe
from llama4sdk.probe.reader import Reader
from llama4sdk.probe.software import outdated
from llama4sdk.registry import PluginFailure, Registered, Registry

__all__ = ["Facts", "Report", "examine", "gather"]

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


class Report(Value):
    """The judgement; ``llama4sdk doctor --json`` prints it."""

    version: str
    python: str
    hardware: Hardware
    backends: tuple[Registered, ...]
    failures: tuple[PluginFailure, ...]
    checks: tuple[Check, ...]
    outlook: tuple[Outlook, ...] = ()
    """What this machine can run, for each model and number of bits."""
    plan: Plan | None
    environment: dict[str, str] = Field(default_factory=dict)
    seconds: dict[str, float | None] = Field(default_factory=dict)
    kept: Kept = ()

    @property
    def broken(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.status == "fail")

    @property
    def hindered(self) -> tuple[Check, ...]:
        """The checks that found something that cannot work as things are, though nothing is broken."""
        return tuple(check for check in self.checks if check.status == "warn")


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
    from llama4sdk.remote.served import listings

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


def examine(facts: Facts) -> Report:
    """Judge the facts. Pure: the same facts give the same report."""
    checks = (
        *_machine(facts),
        *_backends(facts),
        *describe_libraries(facts.hardware, facts.outdated),
        *describe_models(facts.hardware, facts.models, facts.unfinished),
        *_plan(facts),
        *describe_room(facts.hardware, facts.plan, home=facts.home),
    )
    return Report(
        version=facts.version,
        python=facts.python,
        hardware=facts.hardware,
        backends=facts.backends,
        failures=facts.failures,
        checks=checks,
        outlook=outlook(
            facts.hardware,
            usable=_usable(facts),
            here=_here(facts),
            link_speed=facts.hardware.download_bandwidth or LINK_SPEED,
        ),
        plan=facts.plan,
        environment=facts.environment,
        seconds=facts.seconds,
        kept=facts.kept,
    )


def _usable(facts: Facts) -> frozenset[str]:
    """The backends that run models on this machine, have all they need and gave answers."""
    faulty = {answer.info.name for answer in facts.answers if isinstance(answer.result, Fault)}
    own = (entry.info.name for entry in facts.backends if not entry.info.capabilities.remote)
    return frozenset(name for name in own if not facts.absent.get(name)) - faulty


def _here(facts: Facts) -> frozenset[str]:
    return frozenset(name for name, path in facts.models.items() if path is not None)


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


def _machine(facts: Facts) -> Iterator[Check]:
    yield from describe_machine(facts.hardware, python=facts.python, home=facts.home)
    if facts.hardware_file:
        text = f"described by {facts.hardware_file}, not this machine"
        yield check("machine", "info", "Source", text, "Unset LLAMA4SDK_HARDWARE to probe this machine.")
    else:
        yield from describe_devices(facts.hardware, facts.environment)
        if not facts.writable:
            text = f"nothing can be written to {facts.home}, where models are kept"
            yield check(
                "machine", "warn", "Store", text, "Give yourself the right to, or set LLAMA4SDK_HOME to another."
            )


def _backends(facts: Facts) -> Iterator[Check]:
    """One check for each backend, then one for each failure, in their order."""
    for entry in facts.backends:
        yield _echo_check(facts, entry) if entry.info.name == "echo" else _backend_check(facts, entry)
    for failure in facts.failures:
        yield Check(
            section="backends",
            status="fail",
            title=failure.plugin,
            text=f"broken: {failure.reason}",
            fix=f"Upgrade or uninstall {failure.distribution}, or set LLAMA4SDK_DISABLE_PLUGINS={failure.plugin}.",
            source=f"{failure.distribution} {failure.version}",
        )
    if facts.table:
        fix = "Mend the file (docs/endpoints.md), or unset LLAMA4SDK_ENDPOINTS."
        yield check("backends", "warn", "Endpoints", facts.table, fix)
    if not any(_runs_checkpoints(entry) for entry in facts.backends):
        text = "no working backend runs Llama 4 on this machine"
        yield check("backends", "warn", "Local", text, "pip install 'llama4sdk[torch]'")


def _runs_checkpoints(entry: Registered) -> bool:
    return not entry.info.models and not entry.info.capabilities.remote


def _backend_check(facts: Facts, entry: Registered) -> Check:
    status, text, fix = _state(facts, entry)
    where = "; sends prompts elsewhere" if entry.info.capabilities.remote else ""
    return Check(
        section="backends",
        status=status,
        title=entry.info.name,
        text=text + where,
        fix=fix,
        source=f"{entry.distribution} {entry.version}",
    )


def _state(facts: Facts, entry: Registered) -> tuple[Status, str, str | None]:
    name = entry.info.name
    answers = [answer.result for answer in facts.answers if answer.info.name == name]
    if missing := facts.absent.get(name):
        return "warn", f"needs {', '.join(missing)}, not installed", entry.info.install
    for answer in answers:
        if isinstance(answer, Fault):
            return "fail", f"broken: {answer.reason}", answer.fix
    if answers and not any(isinstance(answer, Offer) for answer in answers):
        if entry.info.capabilities.remote or not any(_wants_memory(answer) for answer in answers):
            return "info", *_lacks(answers)
        return "info", "works, but can run nothing here; 'llama4sdk plan' says why", None
    return "ok", f"ready. {entry.info.summary}", None


def _wants_memory(answer: Offer | Unavailable) -> bool:
    return isinstance(answer, Unavailable) and answer.need_memory is not None


def _lacks(answers: Sequence[Offer | Unavailable]) -> tuple[str, str | None]:
    """What it needs to be asked, and how to give it: the same for every model."""
    refusal = next(answer for answer in answers if isinstance(answer, Unavailable))
    return f"not ready: {refusal.reason.rstrip('.')}", refusal.fix


def _echo_check(facts: Facts, entry: Registered) -> Check:
    source = f"{entry.distribution} {entry.version}"
    if facts.echo == ECHO:
        return Check(section="backends", status="ok", title="echo", text="the self-check passed", source=source)
    text = f"the self-check failed: {facts.echo}"
    return Check(section="backends", status="fail", title="echo", text=text, fix="Reinstall llama4sdk.", source=source)


def _plan(facts: Facts) -> Iterator[Check]:
    plan = facts.plan
    if plan is None:
        yield check("plan", "warn", "Client()", facts.no_plan or "no plan", "See 'llama4sdk plan'.")
        return
    yield check("plan", "ok", "Client()", _in_one_line(plan), _fetch(plan))
    quantized = plan.quantization is not None and not plan.quantization.full_precision
    for decision in plan.decisions:
        if quantized and decision.what == "quantization":
            yield check("plan", "info", f"Why {decision.value}", decision.reason)
    remote = {entry.info.name for entry in facts.backends if entry.info.capabilities.remote}
    for rejection in plan.rejections:
        if rejection.backend in remote:
            continue  # each has a line of its own that says what it needs
        if rejection.model == catalog.SCOUT.name and plan.model != rejection.model:
            text = f"not on {rejection.backend}: {rejection.reason}"
            yield check("plan", "info", "Why not Scout", text, rejection.fix)


def _in_one_line(plan: Plan) -> str:
    quantization = f"{plan.quantization}, " if plan.quantization else ""
    return f"runs {plan.model} on {plan.placement} with {plan.backend}, {quantization}{plan.context_length} tokens"


def _fetch(plan: Plan) -> str | None:
    return f"llama4sdk pull {plan.model}" if weights.missing(plan) else None
