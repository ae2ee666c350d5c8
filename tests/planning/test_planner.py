"""Choosing among offers: pure, explained, and never remote by surprise."""

from __future__ import annotations

import threading
from typing import ClassVar

import pytest
from pydantic import ValidationError

from llama4sdk.backend import Backend, BackendInfo, Capabilities, Engine, Need, Offer, Unavailable
from llama4sdk.catalog import models as catalog
from llama4sdk.errors import CheckpointError, ConfigurationError, InsufficientMemoryError, NoBackendError
from llama4sdk.hardware import Hardware
from llama4sdk.plan import Placement, Plan, Preference, Quantization
from llama4sdk.planning import planner
from llama4sdk.planning.offers import Answer, Fault, collect, remote_not_allowed
from llama4sdk.planning.policy import Policy
from llama4sdk.progress import Progress
from llama4sdk.registry import Registered, Registry
from llama4sdk.testing.machines import H100_X8, LAPTOP

INT4 = Quantization.INT4


def info(name: str, models: tuple[str, ...] = ()) -> BackendInfo:
    """A card for a backend that is never imported."""
    return BackendInfo(name=name, summary="", cls="nowhere:Nothing", models=models)


def offer(
    model: str,
    *,
    kind: str = "local",
    device: str = "cuda:0",
    quantization: Quantization | None = Quantization.BF16,
    speed: float | None = None,
    capabilities: Capabilities | None = None,
    context: int = 100,
) -> Offer:
    """An offer with these particulars."""
    return Offer(
        model=model,
        placement=Placement.model_validate({"kind": kind, "devices": (device,)}),
        quantization=quantization,
        context_length=context,
        tokens_per_second=speed,
        capabilities=capabilities,
        reason="it fits",
    )


def answer(backend: str, model: str | None, result: Offer | Unavailable, *, prefer: Preference = "balanced") -> Answer:
    """One backend's answer for one model."""
    return Answer(info=info(backend), need=Need(model=model, prefer=prefer), result=result)


def choose(*answers: Answer, policy: Policy | None = None, backend: str | None = None) -> Plan:
    """Plan on a laptop."""
    return planner.choose(answers, LAPTOP, policy or Policy(), backend=backend)


def test_what_a_request_needs_decides() -> None:
    """An offer without a feature, or of a model not made for a language, is turned down, saying who would do."""
    seeing = Capabilities(features=frozenset({"chat", "images"}))
    need = Need(model="scout", features=frozenset({"images"}), languages=frozenset({"Hindi"}))
    blind = Answer(info=info("blind"), need=need, result=offer("scout", speed=99))
    able = Answer(info=info("able"), need=need, result=offer("scout", capabilities=seeing))
    plan = choose(blind, able)
    assert plan.backend == "able"
    assert plan.rejections[0].reason == "it does not support images with 'scout'."
    assert {"needs": "images, Hindi"}.items() <= {d.what: d.value for d in plan.decisions}.items()
    for model, reason in (("demo", "'demo' was made for English, not Hindi."), ("/a/b", "is not known")):
        other = Answer(
            info=info("b"), need=need.model_copy(update={"model": model}), result=offer(model, capabilities=seeing)
        )
        with pytest.raises(NoBackendError) as caught:
            choose(other)
        assert reason in caught.value.rejections[0].reason
        assert caught.value.rejections[0].fix == "Choose 'scout' or 'maverick'."


@pytest.mark.parametrize(
    ("prefer", "better", "worse", "because"),
    [
        ("balanced", offer("m", quantization=INT4), offer("m", kind="remote", device="x"), "runs on this machine"),
        ("balanced", offer("m"), offer("m", quantization=INT4), "full precision"),
        ("balanced", offer("m", quantization=INT4), offer("m", kind="offload"), "no offloading"),
        ("balanced", offer("m", quantization=INT4), offer("m", device="cpu", speed=99), "accelerator"),
        ("balanced", offer("m", speed=9, device="cpu"), offer("m", speed=0.5), "too slow to talk to"),
        ("balanced", offer("m", speed=20), offer("m", speed=10), "faster"),
        ("quality", offer("m", device="cpu"), offer("m", quantization=INT4), "full precision"),
        ("speed", offer("m", quantization=INT4, speed=20), offer("m", speed=10), "faster"),
        ("context", offer("m", context=200, device="cpu"), offer("m"), "context is longer"),
        ("context", offer("m"), offer("m", context=200, kind="remote", device="x"), "runs on this machine"),
        ("cost", offer("m", device="cpu"), offer("m", kind="remote", device="x", speed=99), "costs less"),
    ],
)
def test_offers_are_ranked_by_named_criteria(prefer: Preference, better: Offer, worse: Offer, because: str) -> None:
    """The better offer wins from either place, with the criterion as its reason, and the loser is told why."""
    policy = Policy(allow_remote=True, prefer=prefer)
    for first, second in ((better, worse), (worse, better)):
        answers = (answer(name, "m", given, prefer=prefer) for name, given in (("a", first), ("b", second)))
        plan = choose(*answers, policy=policy)
        winner, loser = ("a", "b") if first is better else ("b", "a")
        assert plan.backend == winner
        assert because in next(d.reason for d in plan.decisions if d.what == "backend")
        assert [(r.backend, because in r.reason) for r in plan.rejections] == [(loser, True)]


def test_the_cheaper_endpoint_is_preferred_where_cost_counts() -> None:
    """By the price that is known; one that nobody knows comes last, and none without leave."""
    dear, cheap, unknown = (
        answer(name, "scout", offer("scout", kind="remote", device=at, quantization=None, speed=speed), prefer="cost")
        for name, at, speed in (("a", "Oracle OCI", 9), ("b", "DeepInfra", 1), ("c", "nobody", 99))
    )
    policy = Policy(allow_remote=True, prefer="cost")
    assert choose(dear, cheap, unknown, policy=policy).backend == "b"
    assert choose(dear, unknown, policy=policy).backend == "a"
    with pytest.raises(NoBackendError, match="prompts would leave this machine"):
        choose(dear, cheap, policy=Policy(prefer="cost"))


def test_what_is_preferred_reaches_the_backends() -> None:
    """Maverick comes before Scout where quality counts first."""
    asked = {prefer: planner.needs(Need(), Policy(prefer=prefer), backend=None) for prefer in ("balanced", "quality")}
    assert [need.model for need in asked["balanced"]] == ["scout", "maverick", "demo"]
    assert [need.model for need in asked["quality"]] == ["maverick", "scout", "demo"]
    assert {need.prefer for need in asked["quality"]} == {"quality"}


def test_equal_offers_go_by_name_so_that_plans_repeat() -> None:
    """The same inputs give the same plan, whatever their order."""
    one, two = answer("a", "m", offer("m")), answer("b", "m", offer("m"))
    assert choose(one, two).backend == choose(two, one).backend == "a"
    assert choose(one, two) == choose(one, two)


def test_nothing_leaves_the_machine_unless_allowed() -> None:
    """A remote offer counts only with the policy's leave, or when its backend was named."""
    remote = answer("cloud", "scout", offer("scout", kind="remote", device="cloud", quantization=None))
    with pytest.raises(NoBackendError, match="prompts would leave this machine"):
        choose(remote)
    assert choose(remote, policy=Policy(allow_remote=True)).backend == "cloud"
    assert choose(remote, backend="cloud").backend == "cloud"


def test_the_first_model_that_fits_is_taken_and_the_others_are_explained() -> None:
    """Scout and Maverick come before the demo, and each refusal stays in the plan."""
    asked = planner.needs(Need(), Policy(), backend=None)
    assert [need.model for need in asked] == ["scout", "maverick", "demo"]
    small = Unavailable(
        reason="it needs 61 GB, 16 GB are free.", fix="Use a bigger GPU.", need_memory=61, have_memory=16
    )
    plan = choose(
        answer("torch", "scout", small),
        answer("torch", "maverick", small),
        answer("torch", "demo", offer("demo", device="cpu")),
    )
    assert plan.model == "demo"
    assert [(r.model, r.fix) for r in plan.rejections] == [
        ("scout", "Use a bigger GPU."),
        ("maverick", "Use a bigger GPU."),
    ]
    assert plan.notice is not None
    assert "Scout needs 60.4 GB" in plan.notice
    assert "not scout on torch: it needs 61 GB" in plan.explain()
    assert "model: demo because neither Scout nor Maverick can run here" in plan.explain()


def test_a_named_model_is_the_only_one_asked_for() -> None:
    """No fallback behind the user's back; a backend named alone may bring its own model."""
    assert planner.needs(Need(model="scout"), Policy(), backend=None) == (Need(model="scout"),)
    assert planner.needs(Need(), Policy(allow_demo=False), backend="x")[-1].model is None
    assert [n.model for n in planner.needs(Need(), Policy(allow_demo=False), backend=None)] == ["scout", "maverick"]


def test_a_model_that_was_never_released_says_so() -> None:
    """Behemoth is a known name, and what comes nearest is named."""
    with pytest.raises(ConfigurationError, match="never released") as caught:
        planner.needs(Need(model="behemoth"), Policy(), backend=None)
    assert "maverick" in (caught.value.hint or "")


def test_when_nothing_fits_the_error_holds_every_reason() -> None:
    """Memory shortage has its own type with the numbers; the smallest need is the one reported."""
    big = Unavailable(reason="it needs 61 GB.", fix="Take int4.", need_memory=61, have_memory=16)
    small = Unavailable(reason="it needs 30 GB.", fix="Take int4.", need_memory=30, have_memory=16)
    with pytest.raises(InsufficientMemoryError) as caught:
        choose(answer("a", "scout", big), answer("b", "scout", small))
    assert (caught.value.need, caught.value.have) == (30, 16)
    assert [r.backend for r in caught.value.rejections] == ["a", "b"]
    assert (
        str(caught.value) == "No backend can run 'scout' here: a: it needs 61 GB; b: it needs 30 GB. Hint: Take int4."
    )
    with pytest.raises(NoBackendError, match="No installed backend runs Llama 4 checkpoints"):
        choose()


def test_a_plan_survives_json() -> None:
    """The output of ``plan --json`` can be read back."""
    plan = choose(answer("a", "m", offer("m")), answer("b", "m", Unavailable(reason="no.")))
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


class Stubborn(Backend):
    """Misbehaves when asked for an offer, in the way its subclass says."""

    name: ClassVar[str] = "stubborn"
    release: ClassVar[threading.Event] = threading.Event()

    def offer(self, need: Need, hardware: Hardware) -> Offer | Unavailable:
        if need.model == "sleep":
            self.release.wait(30)
        if need.model == "exit":
            raise SystemExit(3)
        if need.model == "raise":
            raise ZeroDivisionError("oops")
        if need.model == "nonsense":
            return "yes"  # type: ignore[return-value]
        return offer(need.model or "own")

    def load(self, plan: Plan, *, progress: Progress | None = None) -> Engine:
        raise AssertionError("never loaded")


def stubborn() -> Registry:
    """A registry of two backends, the second of which knows only its own model."""
    good = BackendInfo(name="stubborn", summary="", cls=f"{__name__}:Stubborn")
    return Registry([Registered(info=good, plugin="p", distribution="d", version="1")])


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("sleep", "did not answer within 0.05 s"),
        ("raise", "ZeroDivisionError: oops"),
        ("exit", "SystemExit"),
        ("nonsense", "'str'"),
    ],
)
def test_a_backend_that_misbehaves_is_unavailable_and_nobody_else_pays(model: str, words: str) -> None:
    """Hanging, raising, exiting or answering nonsense is a reason, with a fix, not a crash."""
    registry = Registry(stubborn().backends)
    registry._instances["stubborn"] = Stubborn()
    answers = collect(registry, ["stubborn"], [Need(model=model)], LAPTOP, deadline=0.05 if model == "sleep" else 5)
    Stubborn.release.set()
    result = answers[0].result
    assert isinstance(result, Unavailable)
    assert words in result.reason
    assert result.fix


def test_backends_with_models_of_their_own_are_not_asked_for_others() -> None:
    """Echo is not consulted about Scout; it is when it may choose for itself."""
    registry = Registry.discover()
    needs = [Need(model=catalog.SCOUT.name), Need(model="echo"), Need()]
    answers = collect(registry, ["echo"], needs, H100_X8, deadline=5)
    assert [a.need.model for a in answers] == ["echo", None]


def test_files_that_cannot_be_read_are_what_the_error_is_about() -> None:
    """A truncated checkpoint is no matter of backends or memory."""
    bad = Unavailable(reason="m.gguf is truncated.", fix="Fetch it again.", damaged=True)
    with pytest.raises(CheckpointError, match=r"^m\.gguf is truncated\. Hint: Fetch it again\.$"):
        choose(answer("torch", "m.gguf", bad), answer("other", "m.gguf", Unavailable(reason="no.", need_memory=5)))


def test_a_backend_whose_modules_are_missing_is_not_imported() -> None:
    """The reason names them, and the fix is the backend's own command."""
    card = BackendInfo(name="x", summary="", cls="nowhere:X", requires=("no_such_module",), install="pip install it")
    registry = Registry([Registered(info=card, plugin="p", distribution="d", version="1")])
    (given,) = collect(registry, ["x"], [Need()], LAPTOP, deadline=5)
    assert given.result == Unavailable(reason="it needs no_such_module, not installed.", fix="pip install it")


def test_backends_elsewhere_are_not_even_asked_without_leave() -> None:
    """One that would raise if it were imported is refused by the policy's words; with leave it is asked."""
    card = BackendInfo(name="cloud", summary="", cls="nowhere:X", capabilities=Capabilities(remote=True))
    registry = Registry([Registered(info=card, plugin="p", distribution="d", version="1")])
    (kept,) = collect(registry, ["cloud"], [Need()], LAPTOP, deadline=5, remote=False)
    assert kept.result == remote_not_allowed("cloud")
    (asked,) = collect(registry, ["cloud"], [Need()], LAPTOP, deadline=5)
    assert isinstance(asked.result, Fault)


def test_a_breakdown_adds_up_and_reaches_the_plan() -> None:
    """A plan has its offer's breakdown; parts that do not add up to the memory are refused."""
    parts = {"cpu": {"attention": 60, "kv_cache": 30, "runtime": 10}}
    sized = offer("scout").model_copy(update={"memory": {"cpu": 100}, "breakdown": parts})
    plan = choose(answer("torch", "scout", sized))
    assert plan.breakdown == parts
    for value in (sized, plan):
        with pytest.raises(ValidationError, match="adds up to"):
            type(value).model_validate(value.model_dump() | {"memory": {"cpu": 101}})
