"""Properties of plans for any machine, with the torch engine's offers."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from llama4sdk_torch.backend import TorchBackend

from llama4sdk.backend import Need, Unavailable
from llama4sdk.capacity.contexts import USUAL_CONTEXT
from llama4sdk.capacity.ranking import Option, RankKey, rank_key
from llama4sdk.catalog.accelerators import accelerators
from llama4sdk.catalog.machine_descriptions import describe
from llama4sdk.catalog.models import MODELS
from llama4sdk.errors import InsufficientMemoryError
from llama4sdk.hardware import Hardware
from llama4sdk.plan import Plan, Preference, Rejection
from llama4sdk.planning import planner
from llama4sdk.planning.offers import Answer
from llama4sdk.planning.policy import Policy
from llama4sdk.quantization import QuantizationConfig
from llama4sdk.registry import Registry

GIB = 2**30
INFO = Registry.discover().info("torch")
ORDER = [spec.name for spec in MODELS]

machines = st.builds(
    lambda name, count, ram, free, busy: describe(f"{count}x{name}" if count else "none", ram=ram * GIB).model_copy(
        update={
            "free_memory": int(ram * GIB * free),
            "devices": tuple(
                device.model_copy(update={"free_memory": int(device.total_memory * busy)})
                for device in describe(f"{count}x{name}" if count else "none", ram=ram * GIB).devices
            ),
        }
    ),
    name=st.sampled_from([a.name for a in accelerators() if a.kind != "mps"]),
    count=st.integers(0, 8),
    ram=st.integers(1, 2048),
    free=st.floats(0.05, 0.98),
    busy=st.floats(0.05, 0.98),
)
models = st.none() | st.sampled_from(["scout", "maverick"])
preferences: st.SearchStrategy[Preference] = st.sampled_from(["balanced", "quality", "speed", "context"])
contexts = st.none() | st.integers(1, 10**6)
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def _no_weights_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LLAMA4SDK_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))


def plan(
    machine: Hardware, model: str | None, prefer: Preference, context: int | None = None
) -> tuple[Plan | None, tuple[Rejection, ...], list[Unavailable]]:
    """The chosen offer, and the rejected ones."""
    policy = Policy(prefer=prefer)
    asked = planner.needs(Need(model=model, context_length=context), policy, backend=None)
    answers = [Answer(info=INFO, need=need, result=TorchBackend().offer(need, machine)) for need in asked]
    refused = [answer.result for answer in answers if isinstance(answer.result, Unavailable)]
    try:
        chosen = planner.choose(answers, machine, policy)
    except InsufficientMemoryError as error:
        _check(error)
        return None, tuple(error.rejections), refused
    return chosen, chosen.rejections, refused


def _check(error: InsufficientMemoryError) -> None:
    assert error.need > error.have
    assert error.hint


def rank(chosen: Plan | None, prefer: Preference) -> RankKey:
    """How good a plan is by the policy's criteria, speed apart; smaller is better, and no plan is worst."""
    if chosen is None:
        return (len(ORDER),)
    model = {"quality": {"maverick": -1}}.get(prefer, {}).get(chosen.model, ORDER.index(chosen.model))
    option = Option(
        location="cpu" if chosen.placement.devices == ("cpu",) else "accelerator",
        bits=QuantizationConfig.of(chosen.quantization or "bf16").narrowest.bits,
        context=chosen.context_length if prefer == "context" else USUAL_CONTEXT,
    )
    return (model, *rank_key(option, prefer))


@quick
@given(machine=machines, model=models, prefer=preferences, context=contexts)
def test_a_plan_exceeds_no_memory(
    machine: Hardware, model: str | None, prefer: Preference, context: int | None
) -> None:
    """Neither a device's free memory nor the machine's; and a context that was asked for is had."""
    chosen, _, _ = plan(machine, model, prefer, context)
    free = {device.id: device.free_memory for device in machine.devices} | {"cpu": machine.free_memory}
    if chosen is not None:
        assert chosen.memory
        assert all(size <= free[device] for device, size in chosen.memory.items())
        assert chosen.context_length >= (context or 1)


@quick
@given(machine=machines, model=models, prefer=preferences, more=st.floats(1, 4))
def test_more_memory_is_never_worse(machine: Hardware, model: str | None, prefer: Preference, more: float) -> None:
    """By the policy's own criteria."""
    devices = tuple(
        device.model_copy(update={name: int(getattr(device, name) * more) for name in ("total_memory", "free_memory")})
        for device in machine.devices
    )
    memory = {name: int(getattr(machine, name) * more) for name in ("total_memory", "free_memory")}
    roomier = machine.model_copy(update={"devices": devices, **memory})
    before, after = (plan(each, model, prefer)[0] for each in (machine, roomier))
    assert rank(after, prefer) <= rank(before, prefer)


@quick
@given(machine=machines, model=models, prefer=preferences, context=contexts)
def test_a_rejection_carries_need_have_and_a_fix(
    machine: Hardware, model: str | None, prefer: Preference, context: int | None
) -> None:
    """Whatever lacks memory says how much of how much, and what would help."""
    _, rejections, refused = plan(machine, model, prefer, context)
    assert all(rejection.fix for rejection in rejections)
    for refusal in refused:
        if "free" in refusal.reason:
            assert refusal.need_memory is not None
            assert refusal.have_memory is not None
            assert refusal.need_memory > refusal.have_memory
