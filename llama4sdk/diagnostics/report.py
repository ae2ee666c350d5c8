"""What this installation can do on this machine, as values: gathered once, judged by a pure function.

Only something broken is a failure: a plugin that cannot be loaded, a backend that raises or hangs, an engine that gives
wrong answers. A warning is what keeps something from working: a library built for other devices, a full disk. What is
merely absent (a GPU, a model, an optional package) is said, with what would bring it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import Field

from llama4sdk import weights
from llama4sdk._values import Value
from llama4sdk.backend import Offer, Unavailable
from llama4sdk.catalog import models as catalog
from llama4sdk.diagnostics.facts import ECHO, Facts, Kept
from llama4sdk.diagnostics.machine import Check, Status, check, describe_machine
from llama4sdk.diagnostics.obstacles import describe_devices, describe_libraries, describe_models, describe_room
from llama4sdk.diagnostics.runnable import LINK_SPEED, Outlook, outlook
from llama4sdk.hardware import Hardware
from llama4sdk.plan import Plan
from llama4sdk.planning.offers import Fault
from llama4sdk.planning.rejections import MAX_LISTED_REMOTES
from llama4sdk.registry import PluginFailure, Registered

__all__ = ["Report", "examine", "shortened"]


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


def shortened(report: Report) -> tuple[Check, ...]:
    """The checks with one line for all remote backends, but for those that something is wrong with."""
    remote = {entry.info.name for entry in report.backends if entry.info.capabilities.remote}
    quiet = [c for c in report.checks if c.section == "backends" and c.title in remote and c.status in ("ok", "info")]
    if len(quiet) <= MAX_LISTED_REMOTES:
        return report.checks
    ready = [one.title for one in quiet if one.status == "ok"]
    others = len(quiet) - len(ready)
    told = [f"{', '.join(ready)} ready"] if ready else []
    if others:
        told.append(f"{others}{' others' if ready else ''} need a key or an address")
    text = f"{'; '.join(told)}. Prompts go there only when that is allowed"
    line = check("backends", "ok" if ready else "info", "remote", text, "llama4sdk backends" if others else None)
    rest = [one for one in report.checks if one not in quiet]
    end = 1 + max(place for place, one in enumerate(rest) if one.section == "backends")
    return (*rest[:end], line, *rest[end:])
