"""``llama4sdk plan`` for one machine: the decisions, what was turned down, and what other engines would do better."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import RenderableType
from rich.text import Text

from llama4sdk.capacity import explanation as explanations
from llama4sdk.capacity.alternatives import alternatives, as_candidate
from llama4sdk.capacity.explanation import Explanation
from llama4sdk.capacity.model_facts import ModelFacts
from llama4sdk.catalog import models as catalog
from llama4sdk.cli.clients import create_client
from llama4sdk.cli.console import note, print_json, show
from llama4sdk.cli.model_argument import models_in_question
from llama4sdk.cli.options import Target
from llama4sdk.cli.views.plan_tables import alternatives_table, decisions_table, figure_pieces, rejections_table
from llama4sdk.cli.views.plot import plot as draw_plot
from llama4sdk.cli.views.responsive_table import ResponsiveTable
from llama4sdk.errors import ConfigurationError, NoBackendError, PlanningError
from llama4sdk.hardware import Hardware
from llama4sdk.plan import Plan, Rejection
from llama4sdk.planning.rejections import merge_remote
from llama4sdk.registry import Registry

#: Features that every engine offers with a model that has them.
COMMON_FEATURES: Final = {"chat", "generate", "tools", "images"}


@dataclass(frozen=True, kw_only=True)
class _Question:
    """The plan that is asked for: for which machine, target and number of conversations, by which backends."""

    machine: Hardware
    target: Target
    batch: int
    registry: Registry


def show_plan(
    machine: Hardware, target: Target, batch: int, *, imagined: bool, explain: bool, plot: Path | None, json: bool
) -> None:
    """Print the plan for a machine. Raises PlanningError, after a table of the reasons, where there is none."""
    question = _Question(machine=machine, target=target, batch=batch, registry=Registry.discover())
    try:
        with create_client(target, registry=question.registry, hardware=machine, batch=batch) as client:
            plan = client.plan()
    except NoBackendError as error:
        if json or not error.rejections:
            raise
        show(_rejections(error.rejections, question), *_alternatives_pieces(None, question))
        raise PlanningError("Nothing can run this here; the table says why and what would help.") from error
    model = next(iter(models_in_question(plan.model)), None) if explain or plot else None
    if plot is not None:
        _draw(plot, plan, model, machine)
    explanation = explanations.explain(plan, model, machine, imagined=imagined) if explain else None
    if json:
        document = plan.model_dump(mode="json")
        print_json({"plan": document, "explanation": explanation.model_dump(mode="json")} if explanation else document)
    else:
        show(*_pieces(plan, question, explanation))


def _draw(path: Path, plan: Plan, model: ModelFacts | None, machine: Hardware) -> None:
    candidate = None if model is None else as_candidate(plan, model, machine)
    if model is None or candidate is None:
        raise ConfigurationError(
            f"Backend '{plan.backend}' does not say what it holds, so there is nothing to draw.",
            hint="Choose a model with --model, such as scout.",
        )
    draw_plot(path, [candidate.layout], model)
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
    infos = [entry.info for entry in question.registry.backends]
    remote = frozenset(info.name for info in infos if info.capabilities.remote)
    return rejections_table(merge_remote(rejections, remote))


def _alternatives_pieces(plan: Plan | None, question: _Question) -> Iterator[RenderableType]:
    """A table of engines that are not installed and would do better; none where an option rules them out."""
    target = question.target
    if target.backend or target.device or target.quantization or not _needs(target) <= COMMON_FEATURES:
        return
    infos = [entry.info for entry in question.registry.backends]
    candidates = alternatives(
        plan,
        [model for model in models_in_question(target.model, target.policy) if _suits(model, target)],
        question.machine,
        installed=[info.name for info in infos if not info.capabilities.remote and not info.missing_modules()],
        prefer=target.policy,
        context=target.context_length,
        batch=question.batch,
    )
    if candidates:
        yield Text("\nWith other engines, which are not installed", style="bold")
        yield alternatives_table(candidates)


def _needs(target: Target) -> set[str]:
    return {need.lower() for need in target.need or ()}


def _suits(model: ModelFacts, target: Target) -> bool:
    """Whether the model takes images, where that is needed, and its maker lists the languages."""
    if "images" in _needs(target) and not model.sees:
        return False
    spec = catalog.find(model.name)
    listed = {language.lower() for language in spec.languages} if spec else set()
    return {language.lower() for language in target.language or ()} <= listed
