"""Why an offer was turned down, and the errors for when nothing is left. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from llama4sdk._text import gb
from llama4sdk.backend import Offer, Unavailable
from llama4sdk.catalog import models as catalog
from llama4sdk.errors import CheckpointError, DeviceMemoryError, InsufficientMemoryError, Llama4Error, NoBackendError
from llama4sdk.hardware import Hardware
from llama4sdk.plan import Plan, Rejection
from llama4sdk.planning.criteria import Bid, advantage
from llama4sdk.planning.offers import Answer, remote_not_allowed
from llama4sdk.planning.policy import Policy

#: Remote backends that are still listed one by one.
MAX_LISTED_REMOTES: Final = 2


def reject_answer(answer: Answer, policy: Policy, *, explicit: str | None) -> Rejection | None:
    """Why an answer is no candidate; ``None`` for an offer that is one. ``explicit`` is the backend asked for."""
    refusal = _unsupported_languages(answer) or _refusal(answer, policy, explicit)
    if refusal is None:
        return None
    return Rejection(backend=answer.info.name, model=answer.need.model, reason=refusal.reason, fix=refusal.fix)


def _refusal(answer: Answer, policy: Policy, explicit: str | None) -> Unavailable | None:
    name, result = answer.info.name, answer.result
    if isinstance(result, Unavailable):
        return result
    if result.placement.kind == "remote" and not policy.allow_remote and explicit != name:
        return remote_not_allowed(name)
    if lacking := answer.need.features - (result.capabilities or answer.info.capabilities).features:
        return Unavailable(
            reason=f"it does not support {_listed(lacking)} with '{result.model}'.",
            fix="Choose another model or backend: 'llama4sdk backends' lists what each can do.",
        )
    batch = result.batch or (1 if result.memory else answer.need.batch)
    if batch < answer.need.batch:
        return Unavailable(
            reason=f"it has room for {describe_batch(batch)}; {answer.need.batch} were asked for.",
            fix=f"Ask for a batch of {batch}.",
        )
    return None


def _unsupported_languages(answer: Answer) -> Unavailable | None:
    """The refusal of a model whose maker does not list a language that is needed."""
    languages = answer.need.languages
    model = answer.need.model or (answer.result.model if isinstance(answer.result, Offer) else None)
    if not languages or model is None:
        return None
    spec = catalog.find(model)
    if spec is not None and languages <= set(spec.languages):
        return None
    able = [f"'{known.name}'" for known in catalog.MODELS if known.released and languages <= set(known.languages)]
    reason = f"which languages '{model}' was made for is not known."
    if spec is not None:
        lacking = _listed(languages - set(spec.languages))
        reason = f"'{spec.name}' was made for {_listed(spec.languages)}, not {lacking}."
    return Unavailable(reason=reason, fix=f"Choose {' or '.join(able)}.")


def describe_batch(count: int) -> str:
    """A number of conversations in words."""
    return "one conversation at a time" if count == 1 else f"{count} conversations at once"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def reject_loser(loser: Bid, winner: Bid) -> Rejection:
    """The rejection of an offer to which another was preferred."""
    return Rejection(
        backend=loser.backend,
        model=loser.offer.model,
        reason=f"'{winner.backend}' was preferred: {advantage(winner, loser)}.",
        fix=f"Pass backend='{loser.backend}' to choose it.",
    )


def merge_remote(rejections: Sequence[Rejection], remote: frozenset[str]) -> list[Rejection]:
    """The rejections with a single one for all remote backends and models, where these are many."""
    elsewhere = [rejection for rejection in rejections if rejection.backend in remote]
    names = {rejection.backend for rejection in elsewhere}
    if len(names) <= MAX_LISTED_REMOTES:
        return list(rejections)
    barred = any(rejection.reason == remote_not_allowed(rejection.backend).reason for rejection in elsewhere)
    reason, fix = "they need a key or an address, or have no such model", "'llama4sdk backends' says what each needs"
    if barred:
        reason += ", or prompts would leave this machine, and the policy keeps them here"
        fix += "; --backend or --remote allows it"
    merged = Rejection(backend=f"{len(names)} remote ones", model=None, reason=f"{reason}.", fix=f"{fix}.")
    return [*(rejection for rejection in rejections if rejection.backend not in remote), merged]


def no_backend_error(answers: Sequence[Answer], rejections: Sequence[Rejection]) -> CheckpointError | NoBackendError:
    """The error for when no answer is left: about the files if they are damaged, else about memory or backends."""
    refusals = [answer.result for answer in answers if isinstance(answer.result, Unavailable)]
    for refusal in refusals:
        if refusal.damaged:  # the files are the obstacle, not the backends
            return CheckpointError(refusal.reason, hint=refusal.fix)
    if not answers:
        install = "Install one: pip install 'llama4sdk[torch]'."
        return NoBackendError("No installed backend runs Llama 4 checkpoints.", hint=install)
    models = sorted({f"'{answer.need.model}'" for answer in answers if answer.need.model})
    merged = merge_remote(rejections, frozenset(a.info.name for a in answers if a.info.capabilities.remote))
    reasons = "; ".join(dict.fromkeys(f"{rejection.backend}: {rejection.reason.rstrip('.')}" for rejection in merged))
    message = f"No backend can run {' or '.join(models) or 'any model'} here: {reasons}."
    hint = " ".join(dict.fromkeys(rejection.fix for rejection in merged if rejection.fix)) or None
    short = [(refusal.need_memory, refusal.have_memory or 0) for refusal in refusals if refusal.need_memory is not None]
    if short:
        need, free = min(short, key=lambda sizes: sizes[0])
        return InsufficientMemoryError(message, need=need, have=free, rejections=rejections, hint=hint)
    return NoBackendError(message, rejections=rejections, hint=hint)


def memory_error(
    plan: Plan, hardware: Hardware, error: Llama4Error, plan_for: Callable[[Hardware], Plan]
) -> DeviceMemoryError:
    """The error for a plan that ran out of memory; ``plan_for`` plans for a machine with less of it."""
    sizes = [(size, hardware.free(device), device) for device, size in plan.memory.items()]
    shortage = "; ".join(f"needs {gb(size)} on {device}, where {gb(free)} are free" for size, free, device in sizes)
    need, free, _ = max(sizes, default=(None, None, ""))
    message = f"{error.message} '{plan.model}' {shortage or 'needs more than there is'}."
    return DeviceMemoryError(message, need=need, have=free, hint=_next_best(plan, hardware, plan_for) or error.hint)


def _next_best(plan: Plan, hardware: Hardware, plan_for: Callable[[Hardware], Plan]) -> str | None:
    """The plan for a machine where this one does not fit, in words; ``None`` where there is none."""
    for device, size in plan.memory.items():
        hardware = hardware.with_free(device, min(hardware.free(device), size - 1))
    try:
        other = plan_for(hardware)
    except Llama4Error:
        return None
    if other.memory == plan.memory:  # it does not say what it needs, so a smaller one cannot be told apart
        return None
    precision = f" in {other.quantization}" if other.quantization else ""
    sizes = " and ".join(f"{gb(size)} on {device}" for device, size in other.memory.items()) or "no memory to speak of"
    what = f"'{other.model}'{precision} with context_length={other.context_length} on '{other.backend}'"
    return f"Next best: {what}, which takes {sizes}. Or free some memory and try again."
