"""Layouts account for every byte, never exceed a device, and say what they lack."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.scorecard.old_engines import OLD_PROFILES, find_profile
from llama4sdk.capacity.candidates import timed
from llama4sdk.capacity.engine_profiles import ENGINES, PROFILES, EngineProfile, find_engine
from llama4sdk.capacity.layout import Layout, class_bytes
from llama4sdk.capacity.layouts import layouts
from llama4sdk.capacity.model_facts import ModelFacts
from llama4sdk.catalog.accelerators import accelerators
from llama4sdk.catalog.machine_descriptions import describe
from llama4sdk.catalog.models import DEMO, MAVERICK, SCOUT, ModelSpec
from llama4sdk.hardware import Cpu, Hardware

GIB = 2**30
LLAMA_CPP = find_engine("llama.cpp").precisions
ON_HOST = ("offload", "cpu", "disk")


def model(spec: ModelSpec) -> ModelFacts:
    return ModelFacts.from_spec(spec)


def of_kind(kind: str, every: list[Layout]) -> list[Layout]:
    return [layout for layout in every if layout.kind == kind]


def lay(
    machine: Hardware,
    engine: str,
    precision: str,
    spec: ModelSpec = SCOUT,
    *,
    context: int | None = None,
    batch: int = 1,
    kv_bytes: float = 2,
) -> list[Layout]:
    profile = find_engine(engine)
    every = layouts(model(spec), profile, machine, precision, context=context, batch=batch, kv_bytes=kv_bytes)
    return list(every)


machines = st.builds(
    lambda name, count, ram, free: describe(f"{count}x{name}", ram=ram * GIB).model_copy(
        update={"free_memory": int(ram * GIB * free), "disk_free": 10**12}
    ),
    name=st.sampled_from([a.name for a in accelerators() if a.kind != "mps"]),
    count=st.integers(1, 16),
    ram=st.integers(1, 4096),
    free=st.floats(0.05, 0.98),
)
engines = st.sampled_from((*PROFILES, *OLD_PROFILES))


@settings(deadline=None)
@given(
    machine=machines,
    engine=engines,
    spec=st.sampled_from([SCOUT, MAVERICK, DEMO]),
    context=st.none() | st.integers(1, 10**6),
    data=st.data(),
)
def test_a_layout_that_fits_exceeds_nothing(
    machine: Hardware, engine: EngineProfile, spec: ModelSpec, context: int | None, data: st.DataObject
) -> None:
    """Neither a device's free memory nor the machine's; and no weight is lost on the way."""
    precision = data.draw(st.sampled_from(engine.precisions))
    free = {device.id: device.free_memory for device in machine.devices}
    free |= {"cpu": machine.free_memory, "disk": machine.disk_free or 0}
    whole = sum(class_bytes(model(spec), precision).values())
    batch, kv_bytes = data.draw(st.integers(1, 64)), data.draw(st.sampled_from(engine.kv_bytes))
    for layout in layouts(model(spec), engine, machine, precision, context=context, batch=batch, kv_bytes=kv_bytes):
        assert sum(sum(share.weights.values()) for share in layout.shares) >= whole
        assert len(set(layout.devices)) == len(layout.devices)
        if layout.fits:
            assert all(share.total <= free[share.device] for share in layout.shares)
            assert layout.context <= (context or model(spec).config.max_context)
        else:
            assert layout.missing > 0 or layout.context > layout.window


@settings(deadline=None)
@given(machine=machines, engine=engines, data=st.data())
def test_more_memory_is_never_worse(machine: Hardware, engine: EngineProfile, data: st.DataObject) -> None:
    """Every layout that fits still does when each device has a tenth more, with at least as long a context."""
    precision = data.draw(st.sampled_from(engine.precisions))
    grown = [
        device.model_copy(update={k: int(getattr(device, k) * 1.1) for k in ("total_memory", "free_memory")})
        for device in machine.devices
    ]
    roomier = machine.model_copy(update={"devices": tuple(grown), "free_memory": int(machine.free_memory * 1.1)})
    before, after = (list(layouts(model(SCOUT), engine, m, precision)) for m in (machine, roomier))
    for old, new in zip(before, after, strict=True):
        assert new.fits or not old.fits
        assert new.context >= old.context
        assert new.experts_on_device >= old.experts_on_device


def test_the_longest_context_is_the_longest() -> None:
    """One token more does not fit."""
    (layout,) = of_kind("single", lay(describe("h100"), "torch", "int4"))
    assert layout.fits
    (more,) = of_kind("single", lay(describe("h100"), "torch", "int4", context=layout.context + 1))
    assert not more.fits
    assert 0 < more.missing < 10**6


def test_no_room_makes_a_window_longer() -> None:
    """Maverick knows a million tokens, wherever it runs."""
    for context, fits in ((1_048_576, True), (1_048_577, False)):
        asked = of_kind("tensor", lay(describe("8xb200"), "vLLM", "fp8", MAVERICK, context=context))[-1]
        assert asked.missing == 0
        assert asked.fits == fits
    assert asked.verdict == "the model's window is 1,048,576 tokens"


def test_tensor_parallelism_divides_heads() -> None:
    """40 query and 8 key heads go over two, four or eight devices, never three or sixteen, and only equal ones."""
    counts = {len(layout.devices) for layout in of_kind("tensor", lay(describe("16xh100"), "vLLM", "bf16"))}
    assert counts == {2, 4, 8}
    three = of_kind("tensor", lay(describe("3xh100"), "vLLM", "bf16"))
    assert [len(layout.devices) for layout in three] == [2]
    assert of_kind("tensor", lay(describe("h100,4090"), "vLLM", "bf16")) == []


def test_scout_in_bf16_needs_more_than_two_h100() -> None:
    """217 GB over four devices leave room for a cache, over two they do not fit."""
    by_count = {len(layout.devices): layout for layout in of_kind("tensor", lay(describe("8xh100"), "vLLM", "bf16"))}
    assert not by_count[2].fits
    assert by_count[2].missing / 1e9 == pytest.approx(41.5, abs=1)
    assert by_count[4].fits
    assert by_count[8].fits


def test_maverick_in_bf16_does_not_fit_eight_h100() -> None:
    """It does fit eight MI300X."""
    assert not any(layout.fits for layout in of_kind("tensor", lay(describe("8xh100"), "vLLM", "bf16", MAVERICK)))
    assert any(layout.fits for layout in of_kind("tensor", lay(describe("8xmi300x"), "vLLM", "bf16", MAVERICK)))


def test_four_bits_do_not_fit_a_24_gb_card() -> None:
    """But its experts may lie in the machine's memory, those of some layers on the card."""
    every = lay(describe("4090", ram=64 * GIB), "llama.cpp", "Q4_K_M")
    (single,) = of_kind("single", every)
    assert not single.fits
    assert single.missing > 40e9
    (offload,) = of_kind("offload", every)
    assert offload.fits
    assert offload.devices == ("cuda:0", "cpu")
    assert 0 < offload.experts_on_device < 48


def test_layers_go_where_there_is_room() -> None:
    """A card with twice the memory takes about twice the layers; every layer's experts are somewhere."""
    (layout,) = of_kind("layers", lay(describe("a100-80gb, a100-40gb"), "llama.cpp", "Q4_K_M"))
    large, small = (share.weights["experts"] for share in layout.shares)
    assert 1.7 < large / small < 2.5
    assert large + small >= class_bytes(model(SCOUT), "Q4_K_M")["experts"]
    assert "embedding" in layout.shares[0].weights
    assert "head" in layout.shares[-1].weights


def test_a_vllm_run_is_met() -> None:
    """Scout in NVFP4 on one RTX PRO 6000 with vLLM 0.14 had room for 110,256 tokens."""
    profile = find_profile("vLLM", "0.14")
    (layout,) = of_kind("single", list(layouts(model(SCOUT), profile, describe("rtx pro 6000 max-q"), "nvfp4")))
    assert layout.fits
    assert layout.context == pytest.approx(110_256, rel=0.1)


def test_busy_devices_are_measured_by_what_is_free() -> None:
    """The emptiest is taken, and not more of it than nobody else uses."""
    machine = describe("2xh100")
    busy = machine.devices[0].model_copy(update={"free_memory": 10**10})
    every = lay(machine.model_copy(update={"devices": (busy, machine.devices[1])}), "torch", "int4")
    (single,) = of_kind("single", every)
    assert single.devices == ("cuda:1",)


def test_verdicts_are_of_the_worst_device() -> None:
    """fp8 on an A100 saves memory and no arithmetic; on a V100 nothing unpacks it."""
    verdicts = [
        layout.support[0]
        for gpu in ("h100", "a100", "v100")
        for layout in of_kind("single", lay(describe(gpu), "vLLM", "fp8"))
    ]
    assert verdicts == ["native", "no gain", "refused"]


def test_a_machine_without_accelerators_has_the_processor() -> None:
    """And the disk, for engines that read experts from it as they are chosen."""
    machine = describe("none", ram=32 * GIB).model_copy(update={"disk_free": 10**12, "cpu": Cpu(name="c", cores=8)})
    every = lay(machine, "llama.cpp", "Q4_K_M")
    assert [(layout.kind, layout.fits) for layout in every] == [("cpu", False), ("disk", True)]


@pytest.mark.parametrize("spec", [SCOUT, MAVERICK])
@pytest.mark.parametrize("precision", ["bf16", "int4", "nvfp4", "Q4_K_M"])
def test_splitting_keeps_every_weight(spec: ModelSpec, precision: str) -> None:
    """Over any number of devices the parts add up, rounded up, with what each must hold whole."""
    sizes = class_bytes(model(spec), precision)
    engine = "llama.cpp" if precision == "Q4_K_M" else "vLLM"
    for layout in lay(describe("8xb200"), engine, precision, spec):
        for part, size in sizes.items():
            total = sum(share.weights.get(part, 0) for share in layout.shares)
            copies = len(layout.shares) // layout.tensor if layout.kind == "expert" and part != "experts" else 1
            if part in ("router", "norms", "vision"):
                copies *= layout.tensor
            assert size * copies <= total <= size * copies + 100 * len(layout.shares)


def test_more_devices_than_heads_divide_among_work_in_stages() -> None:
    """One after the other, or sixteen as eight by two, and six as two by three; eight need none.

    Seventeen may leave one unused, for one after the other they would be slower than sixteen.
    """
    sizes = {
        count: [(len(layout.devices), layout.tensor) for layout in of_kind("pipeline", lay(machine, "vLLM", "bf16"))]
        for count in (3, 6, 8, 16, 17)
        for machine in [describe(f"{count}xh100")]
    }
    assert sizes == {3: [(3, 1)], 6: [(6, 1), (6, 2)], 8: [], 16: [(16, 1), (16, 8)], 17: [(17, 1), (16, 8)]}
    (stages,) = of_kind("pipeline", lay(describe("3xh100"), "vLLM", "bf16"))
    assert [sorted(set(share.weights) & {"embedding", "head"}) for share in stages.shares] == [
        ["embedding"],
        [],
        ["head"],
    ]
    assert stages.fits


@pytest.mark.parametrize("spec", [SCOUT, MAVERICK])
@pytest.mark.parametrize("precision", ["bf16", "int4", "Q4_K_M"])
@pytest.mark.parametrize("card", ["h100", "rtx-3090"])
def test_more_devices_are_never_worse(spec: ModelSpec, precision: str, card: str) -> None:
    """Of one to twenty equal ones: the fastest layout is at least as fast, the roomiest has as long a context."""
    engine = find_engine("llama.cpp" if precision in LLAMA_CPP else "vLLM")
    before = (0.0, 0)
    for count in range(1, 21):
        machine = describe(f"{count}x{card}", ram=512 * GIB)
        ways = layouts(model(spec), engine, machine, precision)
        usable = [timed(way, model(spec), engine, machine) for way in ways if way.usable]
        speed = max((way.decode.low for way in usable if way.decode), default=0.0)
        context = max((way.layout.context for way in usable if way.layout.kind not in ON_HOST), default=0)
        assert speed >= before[0] * 0.9999, count  # more stages are the same bytes, rounded otherwise
        assert context >= before[1], count
        before = speed, context


def test_llama_cpp_drives_no_more_devices_than_it_can() -> None:
    """Its scheduler knows sixteen backends, one of which is the processor; and no device has less than a layer."""
    for kind in ("layers", "offload"):
        (layout,) = of_kind(kind, lay(describe("20xt4", ram=512 * GIB), "llama.cpp", "Q4_K_M", MAVERICK))
        assert len(set(layout.devices) - {"cpu"}) == 15
    (wide,) = of_kind(
        "layers", list(layouts(model(SCOUT), find_profile("transformers", "5"), describe("100xrtx-3090"), "bf16"))
    )
    assert len(wide.devices) == 48
    assert all(share.weights["attention"] for share in wide.shares)


def test_experts_are_dealt_out_whole() -> None:
    """Scout's sixteen over sixteen at most, attention over eight of them, each such group with its own requests."""
    by_count = {len(layout.devices): layout for layout in of_kind("expert", lay(describe("16xh100"), "vLLM", "bf16"))}
    assert {count: layout.tensor for count, layout in by_count.items()} == {2: 2, 4: 4, 8: 8, 16: 8}
    sizes = class_bytes(model(SCOUT), "bf16")
    assert by_count[16].shares[0].weights["experts"] == sizes["experts"] // 16
    assert by_count[16].shares[0].weights["attention"] == sizes["attention"] // 8
    one, two, three = (
        of_kind("expert", lay(describe("16xh100"), "vLLM", "bf16", context=10**5, batch=batch))[-1].shares[0].kv
        for batch in (1, 2, 3)
    )
    assert one == two < three


def test_experts_lie_on_every_card_that_has_room() -> None:
    """All but the experts is on the card with most room; a second card takes the experts of more layers."""
    (one,) = of_kind("offload", lay(describe("4090", ram=128 * GIB), "llama.cpp", "Q4_K_M"))
    (two,) = of_kind("offload", lay(describe("3090,4090", ram=128 * GIB), "llama.cpp", "Q4_K_M"))
    assert len(two.devices) == 3
    assert two.experts_on_device > one.experts_on_device + 10
    assert [share.device for share in two.shares if "attention" in share.weights] == [two.devices[0]]
    assert "embedding" in two.shares[-1].weights


def test_a_cache_in_eight_bits_reaches_about_twice_as_far() -> None:
    """Where an engine can keep one; ours cannot."""
    full, half = (
        of_kind("single", lay(describe("b200"), "vLLM", "nvfp4", kv_bytes=size))[0].context for size in (2, 1)
    )
    assert half == pytest.approx(2 * full, rel=0.05)
    assert lay(describe("b200"), "torch", "int4", kv_bytes=1) == []


def test_a_batch_shares_the_room() -> None:
    """Four requests get a quarter of what one has, nearly: every one of them keeps its own chunk."""
    one, four = (of_kind("single", lay(describe("h100"), "torch", "int4", batch=batch))[0].context for batch in (1, 4))
    assert four <= one / 4


@pytest.mark.parametrize("gpus", ["4x4090", "2xa40", "8xl4"])
def test_smaller_devices_keep_less_for_working_together(gpus: str) -> None:
    """Engines give them smaller batches: what is kept is at most a seventh of their memory and 3 GB."""
    machine = describe(gpus)
    for layout in of_kind("tensor", lay(machine, "vLLM", "int4")):
        share = layout.shares[0]
        assert share.workspace + share.runtime <= machine.devices[0].total_memory / 7 + 3e9


def test_a_table_of_requests_takes_room_beside_the_cache() -> None:
    """SGLang's ends eight H100 at about a million tokens, and its ten million at 80 GiB a device."""
    full = find_profile("SGLang", "0.4")
    (eight,) = [
        layout
        for layout in layouts(model(SCOUT), full, describe("8xh100"), "bf16")
        if layout.kind == "tensor" and len(layout.devices) == 8
    ]
    assert eight.context == pytest.approx(1_000_000, rel=0.1)
    (asked,) = [
        layout
        for layout in layouts(model(SCOUT), full, describe("8xh100"), "bf16", context=10_485_760)
        if layout.kind == "tensor" and len(layout.devices) == 8
    ]
    assert asked.shares[0].workspace > 80 * GIB
    assert not asked.fits


@pytest.mark.parametrize("name", ["gb10", "ryzen-ai-max", "m3-max-128gb", "m3-ultra-512gb"])
def test_no_layout_takes_more_than_the_one_pool_there_is(name: str) -> None:
    """Of memory that device and processor share; experts in RAM would add nothing, and are not proposed."""
    machine = describe(name).model_copy(update={"disk_free": 10**12})
    claimed = machine.devices[0].model_copy(update={"free_memory": machine.devices[0].total_memory})
    for each in (machine, machine.model_copy(update={"devices": (claimed,)})):
        for engine in ENGINES:
            for precision in engine.precisions:
                for layout in layouts(model(SCOUT), engine, each, precision):
                    assert layout.kind != "offload"
                    taken = sum(share.total for share in layout.shares if share.device != "disk")
                    assert not layout.fits or taken <= each.free_memory
