"""``llama4sdk plan``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.text import Text

from llama4sdk.cli.console import note, print_json, show
from llama4sdk.cli.machine_argument import only_machine, read_machines
from llama4sdk.cli.model_argument import models_in_question
from llama4sdk.cli.options import JsonFlag, Target
from llama4sdk.cli.views.plan_tables import alternatives_table, decisions_table, figure_pieces, rejections_table
from llama4sdk.errors import ConfigurationError, NoBackendError, PlanningError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from llama4sdk.capacity.candidates import Candidate
    from llama4sdk.capacity.explanation import Explanation
    from llama4sdk.capacity.model_facts import ModelFacts
    from llama4sdk.cli.views.responsive_table import ResponsiveTable
    from llama4sdk.hardware import Hardware
    from llama4sdk.plan import Plan, Rejection
    from llama4sdk.registry import Registry

#: Features that every engine offers with a model that has them.
COMMON_FEATURES: Final = {"chat", "generate", "tools", "images"}


def plan(
    *,
    hardware: Annotated[
        Path | None, typer.Option(help="Plan for the machine that 'doctor --json' described in this file.")
    ] = None,
    gpus: Annotated[
        list[str] | None,
        typer.Option(
            help="Plan for an imagined machine with these: 8xH100-80GB, rtx-4090, m3-max-64gb, none. "
            "With --compare, several times for several machines."
        ),
    ] = None,
    ram: Annotated[str | None, typer.Option(help="The imagined machine's memory, such as 64GB or 1TB.")] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Show every engine and precision side by side, installed or not.")
    ] = False,
    best: Annotated[bool, typer.Option("--best", help="With --compare: only the best of each machine.")] = False,
    batch: Annotated[int, typer.Option(help="Conversations at once, each with the whole context.", min=1)] = 1,
    explain: Annotated[bool, typer.Option("--explain", help="Show the numbers behind the plan.")] = False,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw memory by device, and context against memory, into this .svg or .png file."),
    ] = None,
    json: JsonFlag = False,
    target: Target,
) -> None:
    """Show what would run, where, and why. Loads nothing."""
    from llama4sdk.registry import Registry

    _check_options(target, compare=compare, best=best, explain=explain)
    if plot is not None:
        from llama4sdk.cli.views.plot import check_plot_path

        check_plot_path(plot)
    machines = read_machines(hardware, gpus, ram)
    if compare:
        from llama4sdk.cli.commands.compare import compare as show_comparison

        show_comparison(machines, target, batch=batch, best=best, json=json, plot=plot)
        return
    machine = only_machine(machines)
    question = _Question(machine=machine, target=target, batch=batch, registry=Registry.discover())
    _show_plan(question, explain=explain, plot=plot, json=json, imagined=bool(gpus or ram))


def _check_options(target: Target, *, compare: bool, best: bool, explain: bool) -> None:
    """Refuse options that would be ignored. Raises ConfigurationError."""
    if target.fallback:
        raise ConfigurationError(
            "A plan is for one backend.", hint="Leave --fallback out, and plan with each --backend."
        )
    if best and not compare:
        raise ConfigurationError("--best chooses among what --compare shows.", hint="Add --compare.")
    if not compare:
        return
    if explain:
        raise ConfigurationError("--explain is about one plan, not a comparison.", hint="Leave one of them out.")
    for name, value in (("--need", target.need), ("--language", target.language)):
        if value:
            raise ConfigurationError(
                f"{name} is for choosing; a comparison shows what memory and speed allow.",
                hint="Leave one of them out.",
            )


@dataclass(frozen=True, kw_only=True)
class _Question:
    """The plan that is asked for: for which machine, target and number of conversations, by which backends."""

    machine: Hardware
    target: Target
    batch: int
    registry: Registry


def _show_plan(question: _Question, *, explain: bool, plot: Path | None, json: bool, imagined: bool) -> None:
    from llama4sdk.capacity.explanation import explain as explain_plan
    from llama4sdk.cli.clients import create_client

    machine = question.machine
    try:
        with create_client(
            question.target, registry=question.registry, hardware=machine, batch=question.batch
        ) as client:
            plan = client.plan()
    except NoBackendError as error:
        if json or not error.rejections:
            raise
        show(_rejections(error.rejections, question), *_alternatives_pieces(None, question))
        raise PlanningError("Nothing can run this here; the table says why and what would help.") from error
    model = next(iter(models_in_question(plan.model)), None) if explain or plot else None
    if plot is not None:
        _draw(plot, plan, model, machine)
    explanation = explain_plan(plan, model, machine, imagined=imagined) if explain else None
    if json:
        document = plan.model_dump(mode="json")
        print_json({"plan": document, "explanation": explanation.model_dump(mode="json")} if explanation else document)
    else:
        show(*_pieces(plan, question, explanation))


def _draw(path: Path, plan: Plan, model: ModelFacts | None, machine: Hardware) -> None:
    from llama4sdk.capacity.alternatives import as_candidate
    from llama4sdk.cli.views.plot import plot

    candidate = None if model is None else as_candidate(plan, model, machine)
    if model is None or candidate is None:
        raise ConfigurationError(
            f"Backend '{plan.backend}' does not say what it holds, so there is nothing to draw.",
            hint="Choose a model with --model, such as scout.",
        )
    plot(path, [candidate.layout], model)
    note(f"Drew {path}.")


def _pieces(plan: Plan, question: _Question, explanation: Explanation | None) -> Iterator[RenderableType]:
    yield decisions_table(plan)
    if explanation is not None:
        yield from figure_pieces(explanation)
    if plan.rejections:
        yield Text("\nWhat was turned down", style="bold")
        yield _rejections(plan.rejections, question)
    yield from _alternatives_pieces(plan, question)
    if explanation is not None:
        yield Text(f"\nNot modelled: {explanation.not_modelled}.")
    if plan.notice:
        yield Text("\n" + plan.notice, style="dim")


def _rejections(rejections: Sequence[Rejection], question: _Question) -> ResponsiveTable:
    """A table of the rejections, in which those of many remote backends are one."""
    from llama4sdk.planning.rejections import merge_remote

    infos = [entry.info for entry in question.registry.backends]
    return rejections_table(
        merge_remote(rejections, frozenset(info.name for info in infos if info.capabilities.remote))
    )


def _alternatives_pieces(plan: Plan | None, question: _Question) -> Iterator[RenderableType]:
    """A table of engines that are not installed and would do better."""
    if candidates := _alternatives(plan, question):
        yield Text("\nWith other engines, which are not installed", style="bold")
        yield alternatives_table(candidates)


def _alternatives(plan: Plan | None, question: _Question) -> Sequence[Candidate]:
    """Better layouts of engines that are not installed; none where an option rules other engines out."""
    from llama4sdk.capacity.alternatives import alternatives

    target = question.target
    if target.backend or target.device or target.quantization or not _needs(target) <= COMMON_FEATURES:
        return []
    infos = [entry.info for entry in question.registry.backends]
    return alternatives(
        plan,
        [model for model in models_in_question(target.model, target.policy) if _suits(model, target)],
        question.machine,
        installed=[info.name for info in infos if not info.capabilities.remote and not info.missing_modules()],
        prefer=target.policy,
        context=target.context_length,
        batch=question.batch,
    )


def _needs(target: Target) -> set[str]:
    return {need.lower() for need in target.need or ()}


def _suits(model: ModelFacts, target: Target) -> bool:
    """Whether the model takes images, where that is needed, and its maker lists the languages."""
    from llama4sdk.catalog import models as catalog

    if "images" in _needs(target) and not model.sees:
        return False
    spec = catalog.find(model.name)
    listed = {language.lower() for language in spec.languages} if spec else set()
    return {language.lower() for language in target.language or ()} <= listed
