"""Choosing among offers. Pure: the same answers and policy give the same plan."""

from __future__ import annotations

from collections.abc import Sequence

from llama4sdk._text import gb
from llama4sdk.backend import Need, Offer
from llama4sdk.catalog import models as catalog
from llama4sdk.hardware import Hardware
from llama4sdk.plan import Decision, PlacedModel, Plan, Rejection
from llama4sdk.planning.criteria import Bid, advantage, rank
from llama4sdk.planning.offers import Answer
from llama4sdk.planning.policy import Policy
from llama4sdk.planning.rejections import describe_batch, no_backend_error, reject_answer, reject_loser
from llama4sdk.quantization import Quantization


def needs(need: Need, policy: Policy, *, backend: str | None) -> tuple[Need, ...]:
    """The needs to ask backends about, best first: the named model, or Scout, Maverick and then the smaller ones."""
    if need.model is not None:
        spec = catalog.find(need.model)
        if spec is not None and not spec.released:
            raise catalog.unreleased(spec, need.model)
        return (need.model_copy(update={"prefer": policy.prefer}),)
    models: list[str | None] = [catalog.SCOUT.name, catalog.MAVERICK.name]
    if policy.prefer == "quality":
        models.reverse()
    if policy.allow_demo:
        models.append(catalog.DEMO.name)
    if backend is not None:
        models.append(None)  # whatever this backend has
    return tuple(need.model_copy(update={"model": model, "prefer": policy.prefer}) for model in models)


def choose(answers: Sequence[Answer], hardware: Hardware, policy: Policy, *, backend: str | None = None) -> Plan:
    """The best plan these answers allow.

    Raises NoBackendError, or InsufficientMemoryError where memory is what stands in the way; both carry every
    rejection. Raises CheckpointError where the files of the model that was named cannot be read.
    """
    models = list(dict.fromkeys(answer.need.model for answer in answers))
    rejections: list[Rejection] = []
    for model in models:
        bids = []
        for answer in (answer for answer in answers if answer.need.model == model):
            rejection = reject_answer(answer, policy, explicit=backend)
            if rejection is not None:
                rejections.append(rejection)
            elif isinstance(answer.result, Offer):
                bids.append(Bid(answer.info.name, answer.need, answer.result))
        if bids:
            ranked = rank(bids, policy.prefer)
            rejections += [reject_loser(loser, ranked[0]) for loser in ranked[1:]]
            return _plan(ranked, answers, rejections, hardware, named=len(models) == 1, explicit=backend)
    raise no_backend_error(answers, rejections)


def _plan(
    ranked: Sequence[Bid],
    answers: Sequence[Answer],
    rejections: Sequence[Rejection],
    hardware: Hardware,
    *,
    named: bool,
    explicit: str | None,
) -> Plan:
    backend, need, offer = ranked[0]
    info = next(answer.info for answer in answers if answer.info.name == backend)
    placed = {name: getattr(offer, name) for name in PlacedModel.model_fields}
    return Plan(
        **placed,
        backend=backend,
        capabilities=offer.capabilities or info.capabilities,
        notice=_notice(offer.model, hardware),
        decisions=(
            Decision(what="model", value=offer.model, reason=_model_reason(need, named=named)),
            Decision(what="backend", value=backend, reason=_backend_reason(ranked, explicit)),
            *_offer_decisions(offer, need),
        ),
        rejections=tuple(rejections),
    )


def _model_reason(need: Need, *, named: bool) -> str:
    if named:
        return "it was asked for" if need.model else "the backend chose it"
    first = catalog.MAVERICK if need.prefer == "quality" else catalog.SCOUT
    if need.model == first.name:
        return "it is the first choice, and it can run here"
    if need.model == catalog.DEMO.name:
        return "neither Scout nor Maverick can run here"
    return "nothing preferred to it can run here"


def _backend_reason(ranked: Sequence[Bid], explicit: str | None) -> str:
    if explicit is not None:
        return "it was asked for"
    if len(ranked) == 1:
        return "no other backend can run this model here"
    return f"{advantage(ranked[0], ranked[1])} (over '{ranked[1].backend}')"


def _offer_decisions(offer: Offer, need: Need) -> tuple[Decision, ...]:
    decisions = [Decision(what="placement", value=str(offer.placement), reason=offer.reason)]
    if offer.quantization is not None:
        usual = f"full precision {'fits' if offer.quantization.full_precision else 'does not fit'}"
        reason = "it was asked for" if need.quantization else offer.quantization_reason or usual
        decisions.append(Decision(what="quantization", value=str(offer.quantization), reason=reason))
    usual = "it is what the model and the memory allow by default"
    if offer.placement.kind == "remote":
        usual = "it is what is accepted there"
    reason = "it was asked for" if need.context_length else usual
    decisions.append(Decision(what="context", value=f"{offer.context_length} tokens", reason=reason))
    if requirements := [*sorted(need.features), *sorted(need.languages)]:
        reason = "they were asked for, and are supported"
        decisions.append(Decision(what="needs", value=", ".join(requirements), reason=reason))
    if need.batch > 1:
        reason = "it was asked for; each has that context for itself"
        decisions.append(Decision(what="batch", value=describe_batch(need.batch), reason=reason))
    return tuple(decisions)


def _notice(model: str, hardware: Hardware) -> str | None:
    """The line that says that this is the demo model, and what Scout would need; ``None`` for other models."""
    if model != catalog.DEMO.name:
        return None
    in_int4, in_bf16 = (catalog.SCOUT.weight_bytes(scheme) or 0 for scheme in (Quantization.INT4, Quantization.BF16))
    most_free = max([hardware.free_memory, *(device.free_memory for device in hardware.devices)])
    return (
        f"This is the demo model ({catalog.DEMO.title}), not Llama 4. Scout needs {gb(in_int4)} as int4 or "
        f"{gb(in_bf16)} as bf16; the most memory free in one place here is {gb(most_free)}."
    )
