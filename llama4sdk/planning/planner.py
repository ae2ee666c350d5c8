"""Choosing among offers. Pure: the same answers and policy give the same plan.

The order of preference is a list in ``CRITERIA``: the first on which two offers differ decides, and is the reason
given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from llama4sdk._text import gb
from llama4sdk.backend import Need, Offer, Unavailable
from llama4sdk.capacity.ranking import BEARABLE
from llama4sdk.catalog import models as catalog
from llama4sdk.catalog.endpoints import find
from llama4sdk.errors import CheckpointError, InsufficientMemoryError, NoBackendError
from llama4sdk.hardware import Hardware
from llama4sdk.plan import Decision, Plan, Preference, Rejection
from llama4sdk.planning.offers import Answer, kept_here
from llama4sdk.planning.policy import Policy
from llama4sdk.planning.rejections import grouped
from llama4sdk.quantization import Quantization, QuantizationConfig

__all__ = ["CRITERIA", "choose", "needs"]


class _Candidate(NamedTuple):
    backend: str
    need: Need
    offer: Offer


class _Criterion(NamedTuple):
    """``key`` is smallest for what is preferred; ``reason`` says why the winner won."""

    reason: str
    key: Callable[[_Candidate], float | str]


def _precision_lost(candidate: _Candidate) -> bool:
    quantization = candidate.offer.quantization
    return quantization is not None and not quantization.full_precision


def _crawls(offer: Offer) -> bool:
    """An offer names the middle of what is predicted; one that names none is taken at its word."""
    return offer.tokens_per_second is not None and offer.tokens_per_second < BEARABLE


def _price(candidate: _Candidate) -> float:
    """Dollars for a million tokens: nothing here, and more than anything where nobody knows."""
    offer = candidate.offer
    if offer.placement.kind != "remote":
        return 0.0
    known = [find(name, offer.model) for name in (candidate.backend, *offer.placement.devices)]
    return min((listing.blended for listing in known if listing and listing.blended is not None), default=math.inf)


_LOCAL: Final = _Criterion("it runs on this machine", lambda c: c.offer.placement.kind == "remote")
_ACCELERATED: Final = _Criterion("it uses an accelerator", lambda c: c.offer.placement.devices == ("cpu",))
_RESIDENT: Final = _Criterion("it needs no offloading", lambda c: c.offer.placement.kind == "offload")
_BEARABLE: Final = _Criterion("it is not too slow to talk to", lambda c: _crawls(c.offer))
_PRECISE: Final = _Criterion("it keeps the weights' full precision", _precision_lost)
_FASTER: Final = _Criterion("it is predicted to be faster", lambda c: -(c.offer.tokens_per_second or 0.0))
_LONGER: Final = _Criterion("its context is longer", lambda c: -c.offer.context_length)
_CHEAPER: Final = _Criterion("it costs less per token", _price)
_NAMED: Final = _Criterion("its name comes first", lambda c: c.backend)

CRITERIA: Final[Mapping[Preference, tuple[_Criterion, ...]]] = {
    "balanced": (_LOCAL, _BEARABLE, _ACCELERATED, _RESIDENT, _PRECISE, _FASTER, _NAMED),
    "quality": (_LOCAL, _PRECISE, _ACCELERATED, _RESIDENT, _FASTER, _NAMED),
    "speed": (_LOCAL, _FASTER, _ACCELERATED, _RESIDENT, _PRECISE, _NAMED),
    "context": (_LOCAL, _BEARABLE, _LONGER, _ACCELERATED, _RESIDENT, _PRECISE, _FASTER, _NAMED),
    "cost": (_CHEAPER, _LOCAL, _BEARABLE, _ACCELERATED, _RESIDENT, _PRECISE, _FASTER, _NAMED),
}


def needs(need: Need, policy: Policy, *, backend: str | None) -> tuple[Need, ...]:
    """What to ask for, best first: the model that was named, or Scout, Maverick and then what is smaller."""
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
    asked = {answer.need.model: None for answer in answers}  # in order, once each
    rejections: list[Rejection] = []
    for model in asked:
        candidates = []
        for answer in (a for a in answers if a.need.model == model):
            refusal = _refusal(answer, policy, explicit=backend)
            if refusal is not None:
                rejections.append(refusal)
            elif isinstance(answer.result, Offer):
                candidates.append(_Candidate(answer.info.name, answer.need, answer.result))
        if candidates:
            ranked = sorted(candidates, key=lambda c: tuple(criterion.key(c) for criterion in CRITERIA[policy.prefer]))
            rejections += [_outranked(loser, ranked[0]) for loser in ranked[1:]]
            return _plan(ranked, answers, rejections, hardware, named=len(asked) == 1, explicit=backend)
    raise _nothing(answers, rejections)


def _refusal(answer: Answer, policy: Policy, *, explicit: str | None) -> Rejection | None:
    name, model, result = answer.info.name, answer.need.model, answer.result
    if wrong := _wrong_languages(answer):
        return wrong
    if isinstance(result, Unavailable):
        return Rejection(backend=name, model=model, reason=result.reason, fix=result.fix)
    if result.placement.kind == "remote" and not policy.allow_remote and explicit != name:
        barred = kept_here(name)
        return Rejection(backend=name, model=model, reason=barred.reason, fix=barred.fix)
    if lacking := answer.need.features - (result.capabilities or answer.info.capabilities).features:
        return Rejection(
            backend=name,
            model=model,
            reason=f"it does not support {_listed(lacking)} with '{result.model}'.",
            fix="Choose another model or backend: 'llama4sdk backends' lists what each can do.",
        )
    room = result.batch or (1 if result.memory else answer.need.batch)
    if room < answer.need.batch:
        return Rejection(
            backend=name,
            model=model,
            reason=f"it has room for {_conversations(room)}; {answer.need.batch} were asked for.",
            fix=f"Ask for a batch of {room}.",
        )
    return None


def _wrong_languages(answer: Answer) -> Rejection | None:
    """Where the model's maker does not list a language that is needed."""
    wanted = answer.need.languages
    model = answer.need.model or (answer.result.model if isinstance(answer.result, Offer) else None)
    if not wanted or model is None:
        return None
    spec = catalog.find(model)
    if spec is not None and wanted <= set(spec.languages):
        return None
    able = " or ".join(
        f"'{known.name}'" for known in catalog.MODELS if known.released and wanted <= set(known.languages)
    )
    reason = f"which languages '{model}' was made for is not known."
    if spec is not None:
        reason = f"'{spec.name}' was made for {_listed(spec.languages)}, not {_listed(wanted - set(spec.languages))}."
    return Rejection(backend=answer.info.name, model=answer.need.model, reason=reason, fix=f"Choose {able}.")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _conversations(count: int) -> str:
    return "one conversation at a time" if count == 1 else f"{count} conversations at once"


def _outranked(loser: _Candidate, winner: _Candidate) -> Rejection:
    return Rejection(
        backend=loser.backend,
        model=loser.offer.model,
        reason=f"'{winner.backend}' was preferred: {_advantage(winner, loser)}.",
        fix=f"Pass backend='{loser.backend}' to choose it.",
    )


def _advantage(winner: _Candidate, loser: _Candidate) -> str:
    return next(c.reason for c in CRITERIA[winner.need.prefer] if c.key(winner) != c.key(loser))


def _plan(
    ranked: Sequence[_Candidate],
    answers: Sequence[Answer],
    rejections: Sequence[Rejection],
    hardware: Hardware,
    *,
    named: bool,
    explicit: str | None,
) -> Plan:
    winner = ranked[0]
    offer, need = winner.offer, winner.need
    info = next(a.info for a in answers if a.info.name == winner.backend)
    return Plan(
        model=offer.model,
        backend=winner.backend,
        source=offer.source,
        placement=offer.placement,
        quantization=offer.quantization,
        context_length=offer.context_length,
        batch=offer.batch,
        capabilities=offer.capabilities or info.capabilities,
        memory=offer.memory,
        breakdown=offer.breakdown,
        weight_bytes=offer.weight_bytes,
        tokens_per_second=offer.tokens_per_second,
        notice=_notice(offer.model, hardware),
        decisions=(
            Decision(what="model", value=offer.model, reason=_model_reason(need, named=named)),
            Decision(what="backend", value=winner.backend, reason=_backend_reason(ranked, explicit)),
            *_details(offer, need),
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


def _backend_reason(ranked: Sequence[_Candidate], explicit: str | None) -> str:
    if explicit is not None:
        return "it was asked for"
    if len(ranked) == 1:
        return "no other backend can run this model here"
    return f"{_advantage(ranked[0], ranked[1])} (over '{ranked[1].backend}')"


def _details(offer: Offer, need: Need) -> tuple[Decision, ...]:
    decisions = [Decision(what="placement", value=str(offer.placement), reason=offer.reason)]
    if offer.quantization is not None:
        asked = need.quantization is not None
        reason = "it was asked for" if asked else offer.quantization_reason or _precision_reason(offer.quantization)
        decisions.append(Decision(what="quantization", value=str(offer.quantization), reason=reason))
    elsewhere = offer.placement.kind == "remote"
    usual = "it is what is accepted there" if elsewhere else "it is what the model and the memory allow by default"
    reason = "it was asked for" if need.context_length else usual
    decisions.append(Decision(what="context", value=f"{offer.context_length} tokens", reason=reason))
    if wanted := [*sorted(need.features), *sorted(need.languages)]:
        decisions.append(
            Decision(what="needs", value=", ".join(wanted), reason="they were asked for, and are supported")
        )
    if need.batch > 1:
        reason = "it was asked for; each has that context for itself"
        decisions.append(Decision(what="batch", value=_conversations(need.batch), reason=reason))
    return tuple(decisions)


def _precision_reason(quantization: Quantization | QuantizationConfig) -> str:
    return "full precision fits" if quantization.full_precision else "full precision does not fit"


def _notice(model: str, hardware: Hardware) -> str | None:
    """Whoever gets the demo model is told so, and what Scout would need."""
    if model != catalog.DEMO.name:
        return None
    least = catalog.SCOUT.weight_bytes(Quantization.INT4) or 0
    full = catalog.SCOUT.weight_bytes(Quantization.BF16) or 0
    have = max([hardware.free_memory, *(device.free_memory for device in hardware.devices)])
    return (
        f"This is the demo model ({catalog.DEMO.title}), not Llama 4. Scout needs {gb(least)} as int4 or {gb(full)} "
        f"as bf16; the most memory free in one place here is {gb(have)}."
    )


def _nothing(answers: Sequence[Answer], rejections: Sequence[Rejection]) -> CheckpointError | NoBackendError:
    refusals = [answer.result for answer in answers if isinstance(answer.result, Unavailable)]
    for refusal in refusals:
        if refusal.damaged:  # what stands in the way is the files, not the backends
            return CheckpointError(refusal.reason, hint=refusal.fix)
    if not answers:
        return NoBackendError(
            "No installed backend runs Llama 4 checkpoints.", hint="Install one: pip install 'llama4sdk[torch]'."
        )
    names = sorted({f"'{answer.need.model}'" for answer in answers if answer.need.model})
    what = " or ".join(names) or "any model"
    told = grouped(rejections, frozenset(a.info.name for a in answers if a.info.capabilities.remote))
    distinct = dict.fromkeys(f"{r.backend}: {r.reason.rstrip('.')}" for r in told)
    reasons = "; ".join(distinct)
    fixes = list(dict.fromkeys(r.fix for r in told if r.fix))
    message = f"No backend can run {what} here: {reasons}."
    hint = " ".join(fixes) or None
    short = [refusal for refusal in refusals if refusal.need_memory is not None]
    if short:
        least = min(short, key=lambda r: r.need_memory or 0)
        need, have = least.need_memory or 0, least.have_memory or 0
        return InsufficientMemoryError(message, need=need, have=have, rejections=rejections, hint=hint)
    return NoBackendError(message, rejections=rejections, hint=hint)
