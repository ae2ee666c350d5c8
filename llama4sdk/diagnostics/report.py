"""The doctor's judgement of the facts, as values. Pure.

Only something broken is a failure: a plugin that cannot be loaded, a backend that raises or hangs, an engine that gives
wrong answers. A warning is what keeps something from working: a library built for other devices, a full disk. A missing
GPU, model or optional package is information, with the way to get it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import Field

from llama4sdk import weights
from llama4sdk.backend import Offer, Unavailable
from llama4sdk.catalog import models as catalog
from llama4sdk.diagnostics.facts import ECHO_MESSAGE, Facts, Installation
from llama4sdk.diagnostics.machine import Check, Status, check_hardware, make_check
from llama4sdk.diagnostics.obstacles import check_devices, check_free_space, check_libraries, check_models
from llama4sdk.diagnostics.runnable import LINK_SPEED, RunnableModel, runnable_models
from llama4sdk.plan import Plan
from llama4sdk.planning.offers import Fault
from llama4sdk.planning.rejections import MAX_LISTED_REMOTES
from llama4sdk.registry import Registered


class Report(Installation):
    """The judgement; ``llama4sdk doctor --json`` prints it."""

    checks: tuple[Check, ...]
    #: The best that this machine can run, for each model and number of bits.
    runnable: tuple[RunnableModel, ...] = Field(default=(), serialization_alias="outlook")


def examine(facts: Facts) -> Report:
    """Judge the facts: the same facts give the same report."""
    checks = (
        *_check_machine(facts),
        *_check_backends(facts),
        *check_libraries(facts.hardware, facts.outdated),
        *check_models(facts.hardware, facts.models, facts.partial_downloads),
        *_check_plan(facts),
        *check_free_space(facts.hardware, facts.plan, home=facts.home),
    )
    runnable = runnable_models(
        facts.hardware,
        usable=_usable_backends(facts),
        here=frozenset(name for name, path in facts.models.items() if path is not None),
        link_speed=facts.hardware.download_bandwidth or LINK_SPEED,
    )
    installation = {name: getattr(facts, name) for name in Installation.model_fields}
    return Report(**installation, checks=checks, runnable=runnable)


def summarize_remote(report: Report) -> tuple[Check, ...]:
    """The checks with one line for all remote backends, except for those that something is wrong with."""
    remote = _remote_names(report.backends)
    quiet = [c for c in report.checks if c.section == "backends" and c.title in remote and c.status in ("ok", "info")]
    if len(quiet) <= MAX_LISTED_REMOTES:
        return report.checks
    ready = [check.title for check in quiet if check.status == "ok"]
    clauses = [f"{', '.join(ready)} ready"] if ready else []
    if others := len(quiet) - len(ready):
        clauses.append(f"{others}{' others' if ready else ''} need a key or an address")
    text = f"{'; '.join(clauses)}. Prompts go there only when that is allowed"
    fix = "llama4sdk backends" if others else None
    summary = make_check("backends", "ok" if ready else "info", "remote", text, fix)
    checks = [check for check in report.checks if check not in quiet]
    end = 1 + max(number for number, check in enumerate(checks) if check.section == "backends")
    return (*checks[:end], summary, *checks[end:])


def _remote_names(backends: Sequence[Registered]) -> frozenset[str]:
    return frozenset(entry.info.name for entry in backends if entry.info.capabilities.remote)


def _usable_backends(facts: Facts) -> frozenset[str]:
    """The backends that run models on this machine, have all they need and gave answers."""
    faulty = {answer.info.name for answer in facts.answers if isinstance(answer.result, Fault)}
    local = {entry.info.name for entry in facts.backends if not entry.info.capabilities.remote}
    return frozenset(name for name in local - faulty if not facts.missing_modules.get(name))


def _check_machine(facts: Facts) -> Iterator[Check]:
    yield from check_hardware(facts.hardware, python=facts.python, home=facts.home)
    if facts.hardware_file:
        text = f"described by {facts.hardware_file}, not this machine"
        yield make_check("machine", "info", "Source", text, "Unset LLAMA4SDK_HARDWARE to probe this machine.")
        return
    yield from check_devices(facts.hardware, facts.environment)
    if not facts.writable:
        text = f"nothing can be written to {facts.home}, where models are kept"
        fix = "Give yourself the right to, or set LLAMA4SDK_HOME to another."
        yield make_check("machine", "warn", "Store", text, fix)


def _check_backends(facts: Facts) -> Iterator[Check]:
    """One check for each backend, then one for each failure, in their order."""
    for entry in facts.backends:
        status, text, fix = _judge_echo(facts) if entry.info.name == "echo" else _judge_backend(facts, entry)
        text += "; sends prompts elsewhere" if entry.info.capabilities.remote else ""
        yield make_check("backends", status, entry.info.name, text, fix, f"{entry.distribution} {entry.version}")
    for failure in facts.failures:
        text, source = f"broken: {failure.reason}", f"{failure.distribution} {failure.version}"
        fix = f"Upgrade or uninstall {failure.distribution}, or set LLAMA4SDK_DISABLE_PLUGINS={failure.plugin}."
        yield make_check("backends", "fail", failure.plugin, text, fix, source)
    if facts.endpoints_error:
        fix = "Mend the file (docs/endpoints.md), or unset LLAMA4SDK_ENDPOINTS."
        yield make_check("backends", "warn", "Endpoints", facts.endpoints_error, fix)
    if all(entry.info.models or entry.info.capabilities.remote for entry in facts.backends):
        text = "no working backend runs Llama 4 on this machine"
        yield make_check("backends", "warn", "Local", text, "pip install 'llama4sdk[torch]'")


def _judge_backend(facts: Facts, entry: Registered) -> tuple[Status, str, str | None]:
    name = entry.info.name
    results = [answer.result for answer in facts.answers if answer.info.name == name]
    if missing := facts.missing_modules.get(name):
        return "warn", f"needs {', '.join(missing)}, not installed", entry.info.install
    for result in results:
        if isinstance(result, Fault):
            return "fail", f"broken: {result.reason}", result.fix
    if results and not any(isinstance(result, Offer) for result in results):
        refusals = [result for result in results if isinstance(result, Unavailable)]
        if entry.info.capabilities.remote or all(refusal.need_memory is None for refusal in refusals):
            # what it lacks, such as a key, is the same for every model
            return "info", f"not ready: {refusals[0].reason.rstrip('.')}", refusals[0].fix
        return "info", "works, but can run nothing here; 'llama4sdk plan' says why", None
    return "ok", f"ready. {entry.info.summary}", None


def _judge_echo(facts: Facts) -> tuple[Status, str, str | None]:
    if facts.echo == ECHO_MESSAGE:
        return "ok", "the self-check passed", None
    return "fail", f"the self-check failed: {facts.echo}", "Reinstall llama4sdk."


def _check_plan(facts: Facts) -> Iterator[Check]:
    plan = facts.plan
    if plan is None:
        yield make_check("plan", "warn", "Client()", facts.plan_error or "no plan", "See 'llama4sdk plan'.")
        return
    fix = f"llama4sdk pull {plan.model}" if weights.needs_pull(plan) else None
    yield make_check("plan", "ok", "Client()", _describe_plan(plan), fix)
    if plan.quantization is not None and not plan.quantization.full_precision:
        for decision in plan.decisions:
            if decision.what == "quantization":
                yield make_check("plan", "info", f"Why {decision.value}", decision.reason)
    # each remote backend has a check of its own that says what it needs
    scout, remote = catalog.SCOUT.name, _remote_names(facts.backends)
    for rejection in plan.rejections:
        if rejection.model == scout and plan.model != scout and rejection.backend not in remote:
            text = f"not on {rejection.backend}: {rejection.reason}"
            yield make_check("plan", "info", "Why not Scout", text, rejection.fix)


def _describe_plan(plan: Plan) -> str:
    quantization = f"{plan.quantization}, " if plan.quantization else ""
    return f"runs {plan.model} on {plan.placement} with {plan.backend}, {quantization}{plan.context_length} tokens"
