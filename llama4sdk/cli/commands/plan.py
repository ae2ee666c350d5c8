"""``llama4sdk plan``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from llama4sdk.cli.console import note, print_json, show
from llama4sdk.cli.options import JsonFlag, Target

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from llama4sdk.capacity.candidates import Candidate
    from llama4sdk.capacity.explanation import Explanation
    from llama4sdk.capacity.model_facts import ModelFacts
    from llama4sdk.hardware import Hardware
    from llama4sdk.plan import Plan, Rejection

__all__ = ["plan"]

OF_LLAMA_4: Final = {"chat", "generate", "tools", "images"}
"""What every engine can do with a model that can."""


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
    scorecard: Annotated[
        bool, typer.Option("--scorecard", help="Show what has been published of Llama 4 beside what is predicted.")
    ] = False,
    json: JsonFlag = False,
    target: Target,
) -> None:
    """Show what would run, where, and why. Loads nothing."""
    if target.fallback:
        from llama4sdk.errors import ConfigurationError

        raise ConfigurationError("A plan is of one place.", hint="Leave --fallback out, and plan with each --backend.")
    _together(
        scorecard=scorecard,
        compare=compare,
        **{"--best": best, "--explain": explain, "--plot": plot, "--gpus": gpus, "--ram": ram, "--hardware": hardware},
        **{"--need": target.need, "--language": target.language},
    )
    if scorecard:
        from benchmarks.scorecard.report import scorecard as show_scorecard

        show_scorecard(json=json)
        return
    from llama4sdk.cli.machine_argument import machines, one

    if plot is not None:
        from llama4sdk.cli.views.plot import check

        check(plot)
    found = machines(hardware, gpus, ram)
    if compare:
        from llama4sdk.cli.commands.compare import compare as show_comparison

        show_comparison(found, target, batch=batch, best=best, json=json, plot=plot)
        return
    imagined = bool(gpus or ram)
    _plan(one(found), target, batch=batch, explain=explain, plot=plot, json=json, imagined=imagined)


def _together(*, scorecard: bool, compare: bool, **others: object) -> None:
    """Refuse options that would be dropped. Raises ConfigurationError."""
    from llama4sdk.errors import ConfigurationError

    given = [name for name, value in others.items() if value]
    if scorecard and (compare or given):
        name = "--compare" if compare else given[0]
        raise ConfigurationError(
            f"--scorecard shows all that was published, whatever {name} says.", hint=f"Leave {name} or --scorecard out."
        )
    if compare and others["--explain"]:
        raise ConfigurationError("--explain is about one plan, not a comparison.", hint="Leave one of them out.")
    for name in ("--need", "--language"):
        if compare and others[name]:
            raise ConfigurationError(
                f"{name} is for choosing; a comparison shows what memory and speed allow.",
                hint="Leave one of them out.",
            )
    if others["--best"] and not compare:
        raise ConfigurationError("--best chooses among what --compare shows.", hint="Add --compare.")


def _plan(
    machine: Hardware, target: Target, *, batch: int, explain: bool, plot: Path | None, json: bool, imagined: bool
) -> None:
    from llama4sdk.cli.clients import client_for
    from llama4sdk.cli.model_argument import models_in_question
    from llama4sdk.errors import NoBackendError, PlanningError

    try:
        with client_for(target, hardware=machine, batch=batch) as client:
            decided = client.plan()
    except NoBackendError as error:
        if json or not error.rejections:
            raise
        from llama4sdk.cli.views.plan_tables import rejections

        show(rejections(_grouped(error.rejections)), *_elsewhere(None, target, machine, batch))
        raise PlanningError("Nothing can run this here; the table says why and what would help.") from error
    model = next(iter(models_in_question(decided.model)), None) if explain or plot else None
    if plot is not None:
        _draw(plot, decided, model, machine)
    explanation = _explanation(decided, model, machine, imagined=imagined) if explain else None
    if json:
        whole = decided.model_dump(mode="json")
        print_json({"plan": whole, "explanation": explanation.model_dump(mode="json")} if explanation else whole)
    else:
        show(*_pieces(decided, target, machine, explanation, batch))


def _explanation(decided: Plan, model: ModelFacts | None, machine: Hardware, *, imagined: bool) -> Explanation:
    from llama4sdk.capacity.explanation import explain

    return explain(decided, model, machine, imagined=imagined)


def _draw(path: Path, decided: Plan, model: ModelFacts | None, machine: Hardware) -> None:
    from llama4sdk.capacity.alternatives import as_candidate
    from llama4sdk.cli.views.plot import plot
    from llama4sdk.errors import ConfigurationError

    chosen = None if model is None else as_candidate(decided, model, machine)
    if model is None or chosen is None:
        raise ConfigurationError(
            f"Backend '{decided.backend}' does not say what it holds, so there is nothing to draw.",
            hint="Choose a model with --model, such as scout.",
        )
    plot(path, [chosen.layout], model)
    note(f"Drew {path}.")


def _pieces(
    decided: Plan, target: Target, machine: Hardware, explanation: Explanation | None, batch: int
) -> Iterator[RenderableType]:
    from rich.text import Text

    from llama4sdk.cli.views.plan_tables import decisions, figures, rejections

    yield decisions(decided)
    if explanation is not None:
        yield from figures(explanation)
    if decided.rejections:
        yield Text("\nWhat was turned down", style="bold")
        yield rejections(_grouped(decided.rejections))
    yield from _elsewhere(decided, target, machine, batch)
    if explanation is not None:
        yield Text(f"\nNot modelled: {explanation.not_modelled}.")
    if decided.notice:
        yield Text("\n" + decided.notice, style="dim")


def _grouped(found: Sequence[Rejection]) -> Sequence[Rejection]:
    from llama4sdk.planning.rejections import merge_remote
    from llama4sdk.registry import Registry

    backends = Registry.discover().backends
    return merge_remote(found, frozenset(entry.info.name for entry in backends if entry.info.capabilities.remote))


def _elsewhere(decided: Plan | None, target: Target, machine: Hardware, batch: int) -> Iterator[RenderableType]:
    """What the machine could do with engines that are not here."""
    from rich.text import Text

    from llama4sdk.cli.views.plan_tables import engines

    if found := _alternatives(decided, target, machine, batch):
        yield Text("\nWith other engines, which are not installed", style="bold")
        yield engines(found)


def _alternatives(decided: Plan | None, target: Target, machine: Hardware, batch: int) -> Sequence[Candidate]:
    from llama4sdk.capacity.alternatives import alternatives
    from llama4sdk.cli.model_argument import models_in_question
    from llama4sdk.registry import Registry

    if target.backend or target.device or target.quantization:
        return []  # what was asked for in so many words, other engines do not know
    registry = Registry.discover()
    infos = [registry.info(name) for name in registry.names]
    working = [info.name for info in infos if not info.capabilities.remote and not info.missing_modules()]
    if not {need.lower() for need in target.need or ()} <= OF_LLAMA_4:
        return []  # nor which of them can
    prefer = target.prefer
    models = [model for model in models_in_question(target.model, prefer) if _suits(model, target)]
    context = target.context_length
    return alternatives(decided, models, machine, installed=working, prefer=prefer, context=context, batch=batch)


def _suits(model: ModelFacts, target: Target) -> bool:
    """Whether it sees, where that is needed, and its maker lists the languages."""
    from llama4sdk.catalog import models as catalog

    if "images" in {need.lower() for need in target.need or ()} and not model.vision_parameters:
        return False
    spec = catalog.find(model.name)
    listed = {language.lower() for language in spec.languages} if spec else set()
    return {language.lower() for language in target.language or ()} <= listed
